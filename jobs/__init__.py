"""Entry points of cluster jobs, cluster configurations and recipes."""
