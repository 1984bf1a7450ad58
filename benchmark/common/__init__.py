"""What every room may use: errors, checks, hashes, storage, Ray, progress."""
