"""The report as a single paper, in the order of the original paper, with published numbers for each table."""
