"""Code that every package here may use: errors, checks, hashes, storage, Ray, progress."""
