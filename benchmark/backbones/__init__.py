"""Backbones: which dual encoder, what is known of it, how it is loaded, and a projection joined to it."""
