"""SYNTHETIC rows of several backbones on the same images with known correctness. No model was run."""

from typing import Any

import numpy as np
import numpy.typing as npt

from reports.analysis.settings import Options
from reports.choose import Candidate, Choice, choose
from tests.reports.synthetic import results_of, row
from tests.reports.tables.rows import setting

N, ENVIRONMENTS = 400, ("art", "photo", "sketch")


def answers(share: float, flipped: float = 0.0, seed: int = 0) -> dict[str, npt.NDArray[np.bool_]]:
    """Return correctness by environment: the first `share` of images is correct, and `flipped` are swapped at random.

    In `sketch` accuracy is 10 points lower. Equally many images change in both directions.
    """
    every = {}
    for i, name in enumerate(ENVIRONMENTS):
        ease = np.random.default_rng(i).random(N)
        right = ease < share - 0.1 * (name == "sketch")
        rng = np.random.default_rng([seed, i])
        turned = [rng.choice(np.flatnonzero(half), int(flipped * N / 2), replace=False) for half in (right, ~right)]
        right[np.concatenate(turned)] ^= True
        every[name] = right
    return every


def rows_of(
    backbone: str, correct: dict[str, npt.NDArray[np.bool_]], score: float = 0.7, **more: Any
) -> list[dict[str, Any]]:
    """Return one row for each environment; `score` is that of both rules."""
    about = {**setting("set", backbone), "training_domain": [score], "lodo": [score], "ece_lodo": 0.05, **more}
    return [row(held_out=name, correct=own, **about) for name, own in correct.items()]


def cost(speed: float, **more: Any) -> dict[str, Any]:
    """Return the cost of embedding 1,000 views."""
    about = {"run": "a run", "machine": "EPYC", "device": "cpu", "actors": 1, "cores": 4, "memory": 2**30}
    return {"kind": ("embedding", "x"), "work": 1000.0, "seconds": 1000.0 / speed, **about, **more}


# B is tied with A, and C is behind and slower than both: dominated. D has no speed.
TIED = {
    "A": rows_of("A", answers(0.85)),
    "B": rows_of("B", answers(0.85, 0.06, seed=1)),
    "C": rows_of("C", answers(0.70)),
    "D": rows_of("D", answers(0.60)),
}
COSTS: dict[str, list[dict[str, Any]]] = {"A": [cost(100.0)], "B": [cost(320.0)], "C": [cost(50.0)], "D": []}


def chosen(
    names: str = "ABCD",
    costs: dict[str, list[dict[str, Any]]] | None = None,
    rows: dict[str, list[dict[str, Any]]] | None = None,
) -> Choice:
    """Return the comparison of backbones, by default with `TIED` and `COSTS`; `rows` replace those of some backbones."""
    every = TIED | (rows or {})
    of_names = [one for name in names for one in every[name]]
    return choose(results_of(of_names), COSTS if costs is None else costs, Options())


def of(choice: Choice, name: str) -> Candidate:
    """Return a backbone by its label."""
    return next(one for one in choice.candidates if one.name == name)
