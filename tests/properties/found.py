"""Draws that were answered badly once, as they were printed: each is tried first."""

from tests.properties.contents import Draw

FOUND: list[Draw] = []
