"""Embedding: every image once, all its views in one visit, into a content-addressed store."""
