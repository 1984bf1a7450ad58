"""Projections that the invariant one is compared with."""
