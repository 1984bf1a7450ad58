"""The method of the paper and its baselines. No Ray, no files, no recipe: arrays in, arrays out."""
