"""Baseline projections, with which the invariant projection is compared. `PROJECTIONS` in `subspace` names them."""
