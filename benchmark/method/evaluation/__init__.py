"""Protocols, splits, fits, metrics, selection rules and intervals: which numbers are computed on which images."""
