"""SYNTHETIC rows: removed shares of the shift, against NumPy and scipy."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

from benchmark.method.evaluation.inference import ranks
from reports.analysis.methods import Method
from reports.analysis.spans import correlations, goes_with, picked
from tests.reports.synthetic import RANKS, only, row

HELD_OUTS = ("art", "sketch")
ICM = Method("icm", "largest", "zero_shot")


def of_icm(held_out: str, seed: int, lambda_: float, rng: np.random.Generator, **more: Any) -> dict[str, Any]:
    removed = sorted(rng.uniform(0, 0.9, 3).tolist(), reverse=True)
    return row(
        projection="icm", order="largest", held_out=held_out, seed=seed, lambda_=lambda_, intervention_set="all",
        target=rng.uniform(0.3, 0.7, 3).round(2).tolist(), energy_removed=rng.uniform(0.1, 0.5, 3).tolist(),
        shift_removed_sources=removed, shift_removed_target=rng.uniform(0, 1, 3).tolist(),
        shift_moved_sources=rng.uniform(0.5, 2), shift_moved_target=rng.uniform(0.5, 2), **more,
    )  # fmt: skip


def made(**more: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    keys = [(h, s, x) for h in HELD_OUTS for s in (0, 1) for x in (0.1, 1.0, 10.0)]
    return [*(row(held_out=h, seed=s) for h in HELD_OUTS for s in (0, 1)), *(of_icm(*key, rng, **more) for key in keys)]


def test_shares_are_taken_at_the_rules_picks() -> None:
    rows = made()
    _, selections = only(rows)
    expected: dict[str, list[float]] = {}
    for h in HELD_OUTS:
        of_seeds: dict[str, list[float]] = {}
        for s in (0, 1):
            candidates = [r for r in rows if (r["projection"], r["held_out"], r["seed"]) == ("icm", h, s)]
            points = [(r["lodo"][i], RANKS[i], -n, i, r) for n, r in enumerate(candidates) for i in range(3)]
            _, _, _, i, best = max(points, key=lambda point: point[:3])
            for name in ("energy_removed", "shift_removed_sources", "shift_removed_target"):
                of_seeds.setdefault(name, []).append(best[name][i])
            for name in ("shift_moved_sources", "shift_moved_target"):
                of_seeds.setdefault(name, []).append(best[name])
        for name, values in of_seeds.items():
            expected.setdefault(name, []).append(float(np.mean(values)))
    assert picked(selections, ICM, "lodo") == pytest.approx({name: np.mean(v) for name, v in expected.items()})


def test_a_rank_correlation_is_scipys_within_an_environment_and_over_several_their_mean() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"held_out": np.repeat(HELD_OUTS, 12), "target": rng.uniform(size=24).round(1), "share": rng.uniform(size=24)}
    )
    table.loc[12:, "target"] += 0.3  # differences between environments do not count
    table.loc[[3, 15], "share"] = np.nan
    found = goes_with(table, "share")
    assert found is not None
    parts = [part.dropna() for _, part in table.groupby("held_out")]
    single = [spearmanr(part["share"], part["target"]).statistic for part in parts]
    np.testing.assert_allclose(found.single, single)
    assert found.n == 22
    ranked = [part[["share", "target"]].rank() - part[["share", "target"]].rank().mean() for part in parts]
    together = pd.concat(ranked)
    assert found.rho == pytest.approx(np.corrcoef(together["share"], together["target"])[0, 1])
    assert goes_with(table.iloc[:20], "share") is None  # seven settings in an environment


def test_ranks_of_ties_are_scipys_to_the_bit() -> None:
    rng = np.random.default_rng(1)
    few = np.array([2.5])
    for values in (rng.integers(0, 5, 40).astype(float), rng.normal(size=30), np.zeros(7), few, few[1:]):
        np.testing.assert_array_equal(ranks(values), rankdata(values))


def test_correlations_are_of_means_over_seeds_by_rank_and_lambda() -> None:
    rows = made()
    long = pd.DataFrame([
        {"held_out": r["held_out"], "lambda": r["lambda_"], "rank": r["ranks"][i], "target": r["target"][i],
         "energy": r["energy_removed"][i], "sources": r["shift_removed_sources"][i], "to": r["shift_removed_target"][i]}
        for r in rows if r["projection"] == "icm" for i in range(3)
    ])  # fmt: skip
    means = long.groupby(["held_out", "lambda", "rank"]).mean().reset_index()
    means["relative"] = means["sources"] / means["energy"]
    found = correlations(only(rows)[1].parts[ICM])
    assert list(found) == ["shift_removed_sources", "shift_removed_relative", "shift_removed_target"]
    for one, name in zip(found.values(), ("sources", "relative", "to"), strict=True):
        of_art, of_sketch = (spearmanr(m[name], m["target"]).statistic for _, m in means.groupby("held_out"))
        assert one.single == pytest.approx((of_art, of_sketch))
        assert one.n == 18
    assert correlations(only([{**r, "shift_removed_sources": None} for r in rows])[1].parts[ICM]) == {}
