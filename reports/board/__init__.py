"""The board of published results as one HTML page."""
