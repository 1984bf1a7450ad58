"""Protocols, selection rules and rank curves: which numbers are computed on which images."""
