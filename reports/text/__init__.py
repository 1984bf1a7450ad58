"""Sentences and captions that describe the results of `analysis`."""
