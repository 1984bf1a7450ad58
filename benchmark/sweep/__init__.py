"""The sweep: it unfolds a recipe into trials, computes moments, evaluates trials, and runs them on Ray Tune."""
