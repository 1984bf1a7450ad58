"""What a cluster starts: thin entry points and the recipes."""
