"""Folders and object stores: files written atomically, retries, listings."""
