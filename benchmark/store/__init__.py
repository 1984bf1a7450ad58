"""What lies in a store."""
