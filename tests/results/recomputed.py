"""Averages, standard errors, intervals and verdicts from files of answers alone, for one seed: NumPy, SciPy and JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

FEWEST = 30  # images or groups in an environment


def answers(file: Path) -> dict[str, Any]:
    """Return the columns of a file of answers, sorted by environment and image."""
    lines = sorted(
        (json.loads(line) for line in file.read_text().splitlines()),
        key=lambda line: (line["metadata"]["held_out"], line["sample_id"]),
    )
    return {
        "correct": np.array([line["output"]["raw"] == line["input"]["reference"] for line in lines], float),
        "environment": np.array([line["metadata"]["held_out"] for line in lines]),
        "cluster": np.array([line["metadata"]["group"] or line["sample_id"] for line in lines]),
        "label": np.array([line["input"]["reference"][0] for line in lines]),
        "kept_plain": all(line["metadata"]["kept_plain"] == "true" for line in lines),
    }


def interval(values: Any, of: dict[str, Any]) -> dict[str, float]:
    """Return the mean over environments of the means of values, with its cluster-robust interval and p-value."""
    names, clusters = np.unique(of["environment"]), np.unique(of["cluster"])
    u, means = np.zeros(len(clusters)), []
    for name in names:
        own = values[of["environment"] == name]
        means.append(own.mean())
        place = np.searchsorted(clusters, of["cluster"][of["environment"] == name])
        np.add.at(u, place, (own - own.mean()) / (len(own) * len(names)))
        if len(np.unique(place)) < FEWEST:
            return {"mean": float(np.mean(means)), "p": np.nan}
    g, mean = len(clusters), float(np.mean(means))
    error = float(np.sqrt(g / (g - 1) * (u**2).sum()))
    half = stats.t.ppf(0.975, g - 1) * error if error or not mean else np.nan
    p = 2 * stats.t.sf(abs(mean) / error, g - 1) if error else 1.0 if mean == 0 else 2.0 ** (1 - g)
    return {"mean": mean, "error": error, "low": mean - half, "high": mean + half, "p": float(p)}


def balanced(values: Any, of: dict[str, Any]) -> Any:
    """Return values whose mean in an environment is the mean over its classes, and whose deviations are each image's."""
    out = np.zeros(len(values))
    for name in np.unique(of["environment"]):
        inside = of["environment"] == name
        own, label = values[inside], of["label"][inside]
        classes = np.unique(label)
        moved, of_class = np.zeros(len(own)), []
        for one in classes:
            there = label == one
            centre = own[there].mean() if there.sum() > 1 else own.mean()
            moved[there] = len(own) / (there.sum() * len(classes)) * (own[there] - centre)
            of_class.append(own[there].mean())
        out[inside] = np.mean(of_class) + moved - moved.mean()
    return out


def holm(p: list[float]) -> list[float]:
    """Return p-values adjusted by Holm."""
    found, largest = [1.0] * len(p), 0.0
    for place, i in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, p[i] * (len(p) - place))
        found[i] = min(1.0, largest)
    return found


def verdicts(gains: list[tuple[dict[str, float], dict[str, float], bool]]) -> list[str]:
    """Return the verdicts of one publication from gains in both accuracies, and whether all is plain prediction."""
    up = [a["mean"] > 0 and b["mean"] > 0 for a, b, _ in gains]
    both = [max(a["p"], b["p"]) if both else 1.0 for (a, b, _), both in zip(gains, up, strict=True)]
    families = zip(holm([a["p"] for a, _, _ in gains]), holm([b["p"] for _, b, _ in gains]), holm(both), strict=True)
    found = []
    for (a, b, plain), (p, q, r) in zip(gains, families, strict=True):
        one, other = np.sign(a["mean"]) * (p <= 0.05), np.sign(b["mean"]) * (q <= 0.05)
        only = "helps in accuracy only" if one > 0 else "helps in class-balanced accuracy only"
        said = "trades" if one * other < 0 else "hurts" if one + other < 0 else only if one + other else "no difference"
        found.append("is plain" if plain else "helps" if r <= 0.05 else said)
    return found
