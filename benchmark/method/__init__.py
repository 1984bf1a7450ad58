"""The method of the paper and its baselines. No Ray, no files, no recipe: arrays in, arrays out.

Begin with `subspace/invariant.py`: the formula, and the lines that are it. `subspace/moments.py` holds the sums that
enter it, `interventions/` makes the views, `predictors/` classify in the subspace, `evaluation/` says how well.
"""
