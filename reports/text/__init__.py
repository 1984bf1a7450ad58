"""Sentences and captions about what `analysis` found."""
