"""Rivals of shrinkage. They get the same information, a grid of the same size and the same selection rule."""
