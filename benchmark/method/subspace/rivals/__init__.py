"""Rivals of shrinkage that get the same information, each with a grid of the same size under the same rule."""
