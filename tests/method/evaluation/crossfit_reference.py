"""METHOD, section 10, in plain NumPy: scores, standard errors and picks of rules that choose from all the evidence.

Nothing of the product is used: every fit is made from the images it may see, and every mean is a loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression

Array = NDArray[Any]
RULES = ("lodo", "training_domain", "lodo_1se", "training_domain_1se")


@dataclass(frozen=True)
class Candidate:
    """A candidate of a rule: `shrinkage` or `icm` (or `plain`), N, lambda, rank, and C of the probe."""

    kind: str
    nuisance: str = "interventions"
    lambda_: float = 0.0
    rank: int = 0
    c: float | None = None


@dataclass(frozen=True)
class World:
    """Images, shape (n, D), after each kind of intervention too; all at unit length before anything is fitted."""

    z: Array
    views: Sequence[Array]
    label: Array
    environment: Array
    fold: Array
    text: Array
    group: Array | None = None
    fitted: dict[Any, Array] = field(default_factory=dict, compare=False)


def unit(z: Array) -> Array:
    """Rows at unit length."""
    return np.asarray(z, float) / np.linalg.norm(np.asarray(z, float), axis=1, keepdims=True)


def nuisance_of(world: World, rows: Array, name: str) -> Array:
    """N of METHOD, section 8, of some images."""
    z = unit(world.z)
    c_d = np.mean([(d := (z - unit(v))[rows]).T @ d / len(d) for v in world.views], axis=0)
    means = np.array([z[rows & (world.environment == e)].mean(axis=0) for e in np.unique(world.environment[rows])])
    b = (means - means.mean(axis=0)).T @ (means - means.mean(axis=0)) / len(means)
    b *= np.trace(c_d) / (np.trace(b) or 1.0)
    return {"interventions": c_d, "environments": b, "both": c_d + b}[name]


def answers(world: World, rows: Array, candidates: Sequence[Candidate]) -> Array:
    """Whether each image is right by each candidate fitted on some of the images, shape (candidates, n)."""
    z, t = unit(world.z), unit(world.text)
    c_z, found = z[rows].T @ z[rows] / rows.sum(), []
    pairs = {n: eigh(nuisance_of(world, rows, n), c_z) for n in {c.nuisance for c in candidates if c.kind[0] == "s"}}
    for c in candidates:
        maps = np.eye(len(c_z))  # plain
        if c.kind == "shrinkage" and c.lambda_:  # F^(1/2) by N v = m C_z v with V' C_z V = I
            m, v = pairs[c.nuisance]
            maps = (v / np.sqrt(1 + c.lambda_ * m)) @ (c_z @ v).T
        elif c.kind == "icm":
            maps = eigh(c_z - c.lambda_ * nuisance_of(world, rows, c.nuisance))[1][:, ::-1][:, : c.rank]
        if c.c is None:  # zero-shot: the length of an image changes no order of its classes
            found.append((z @ (maps @ unit(t @ maps).T)).argmax(axis=1) == world.label)
        else:
            x = z @ maps
            q = np.mean((x[rows] ** 2).sum(axis=1)) if c.kind == "shrinkage" else 1.0  # of all D coordinates
            probe = LogisticRegression(C=c.c / q, solver="newton-cholesky", max_iter=1000, tol=1e-9).fit(
                x[rows], world.label[rows]
            )
            found.append(probe.predict(x) == world.label)
    return np.array(found)


def without(world: World, environments: set[int], folds: set[int], candidates: Sequence[Candidate]) -> Array:
    """The answers of a fit on all images but those of some environments and some folds; each fit is made once."""
    key = frozenset(environments), frozenset(folds), tuple(candidates)
    if key not in world.fitted:
        rows = ~np.isin(world.environment, list(environments)) & ~np.isin(world.fold, list(folds))
        world.fitted[key] = answers(world, rows, candidates)
    return world.fitted[key]


Source = tuple[Array, Array]  # positions of its validation images, and the answers there, shape (candidates, images)


def validation_of(world: World, e: int, k: int, rule: str, candidates: Sequence[Candidate]) -> list[Source]:
    """Validation images of (e, k), source by source: all folds but k, with answers of fits without e and k."""
    sources = []
    for s in sorted(set(world.environment.tolist()) - {e}):
        left_out = {e, s} if rule.startswith("lodo") else {e}
        places, right = [], []
        for j in sorted(set(world.fold.tolist()) - {k}):
            places.append(np.flatnonzero((world.environment == s) & (world.fold == j)))
            right.append(without(world, left_out, {k, j}, candidates)[:, places[-1]])
        sources.append((np.concatenate(places), np.concatenate(right, axis=1)))
    return sources


def scores_of(sources: Sequence[Source]) -> list[float]:
    """Mean over sources of the accuracy over all their folds together, candidate by candidate."""
    return [float(score) for score in np.mean([right.mean(axis=1) for _, right in sources], axis=0)]


def standard_error(world: World, sources: Sequence[Source], candidate: int, plain: int) -> float:
    """SE^2 = G/(G-1) sum_g u(g)^2, u(g) = sum over s and validation images i of g of (d_i - mean_s) / (n_s S)."""
    u: dict[int, float] = {}
    for places, right in sources:
        d = right[candidate].astype(float) - right[plain]
        for place, part in zip(places.tolist(), ((d - d.mean()) / (len(d) * len(sources))).tolist(), strict=True):
            g = place if world.group is None else int(world.group[place])
            u[g] = u.get(g, 0.0) + part
    return float(np.sqrt(len(u) / (len(u) - 1) * sum(x * x for x in u.values())))


def best(scores: Sequence[float], candidates: Sequence[Candidate]) -> int:
    """The highest score; of equals the larger rank, then the candidate that comes first."""
    return max(range(len(candidates)), key=lambda i: (scores[i], candidates[i].rank, -i))


def pick(world: World, e: int, k: int, rule: str, candidates: Sequence[Candidate], plain: Sequence[Candidate]) -> int:
    """Position among the candidates, followed by those of plain prediction, of what a rule takes."""
    sources, n = validation_of(world, e, k, rule, [*candidates, *plain]), len(candidates)
    scores = scores_of(sources)
    b, p = best(scores[:n], candidates), n + best(scores[n:], plain)
    if rule.endswith("_1se") and not scores[b] - scores[p] > standard_error(world, sources, b, p):
        return p
    return b


def tested(world: World, e: int, k: int, candidates: Sequence[Candidate]) -> Array:
    """Accuracy of every candidate on fold k of the held-out environment, fitted on all sources and folds but k."""
    return without(world, {e}, {k}, candidates)[:, (world.environment == e) & (world.fold == k)].mean(axis=1)


def grid(kind: str, nuisances: Sequence[str], lambdas: Sequence[float], ranks: Sequence[int], cs: Any = (None,)) -> Any:
    """Candidates in the order of rows: lambda by lambda, then N, then C, each with its ranks."""
    return [Candidate(kind, n, x, k, c) for x in lambdas for n in nuisances for c in cs for k in ranks]


def made_up(
    environments: int = 5, folds: int = 4, dim: int = 12, classes: int = 4, concepts: int = 40, *,
    grouped: bool = True, noise: float = 0.9, seed: int = 0,
) -> World:  # fmt: skip
    """Images of concepts that stand in most environments, after two kinds of intervention; folds are of concepts."""
    rng = np.random.default_rng(seed)
    concept, environment = (part.ravel() for part in np.indices((concepts, environments)))
    there = rng.random(len(concept)) < 0.85
    concept, environment = concept[there], environment[there]
    of_class, styles = rng.standard_normal((classes, dim)), rng.standard_normal((environments, dim))
    of_concept, label = rng.standard_normal((concepts, dim)), (np.arange(concepts) % classes)[concept]
    z = (
        of_class[label]
        + 0.6 * of_concept[concept]
        + styles[environment]
        + noise * rng.standard_normal((len(label), dim))
    )
    views = [z + rng.standard_normal((len(label), 2)) @ styles[pair] for pair in ([0, 1], [2, 3])]
    fold = rng.permutation(np.arange(concepts) % folds)[concept]
    if not grouped:
        fold = rng.integers(folds, size=len(label))
    order = np.lexsort((concept, environment))
    single = [np.asarray(part, np.float32)[order] for part in (z, *views)]  # as stored embeddings are
    text = unit(of_class + 0.5 * rng.standard_normal((classes, dim))).astype(np.float32)
    world = World(single[0], single[1:], label[order], environment[order], fold[order], text)
    return replace(world, group=concept[order]) if grouped else world
