"""Embedding of images and texts with Ray: each image is read once, all its views are embedded and stored together."""
