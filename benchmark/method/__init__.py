"""The method of the paper and its baselines. No Ray, no files, no recipe: arrays in, arrays out.

Begin with `subspace/invariant.py`, the formula and its implementation. `subspace/moments.py` has the sums that enter
it, `interventions/` the views, `predictors/` the classifiers in the subspace, `evaluation/` protocols and metrics.
`benchmark.sweep.identity` hashes this code: after a change, trials that depend on it run again.
"""
