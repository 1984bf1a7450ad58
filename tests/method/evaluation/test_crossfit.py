"""Cross-fitted selection: against NumPy and scikit-learn, with poisoned held-out data, and the number of fits."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import fractional_matrix_power

from benchmark.method.arrays import scaled
from benchmark.method.evaluation import evaluation
from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.curves import RankCurve
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.fits import Sources, cases_of
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import Rows, select
from benchmark.method.evaluation.splits import Split
from benchmark.method.evaluation.tested import Tested
from benchmark.method.predictors import PREDICTORS
from benchmark.method.predictors.base import Head, Problem
from benchmark.method.predictors.linear_probe import GRID, LinearProbe, Probe
from benchmark.method.prompts import Prompt
from benchmark.method.subspace import PROJECTIONS, Basis, Projection, SourceMoments
from benchmark.store.rows import curve_columns, schema
from tests.method.evaluation.crossfit_reference import (
    RULES,
    Candidate,
    World,
    answers,
    best,
    grid,
    made_up,
    nuisance_of,
    pick,
    scores_of,
    standard_error,
    tested,
    unit,
    validation_of,
    without,
)
from tests.method.predictors.test_coop import tower
from tests.method.prompted import prompted
from tests.method.wrapped import Wrapped

Curves = Iterator[tuple[Projection, RankCurve]]
THREE = ("interventions", "environments", "both")
PLAIN = Candidate("plain", rank=12)


def planted() -> tuple[World, list[Candidate]]:
    """Two sources of four and two images outside fold 0, with known correctness of candidates 0 (plain) and 1."""
    environment, fold = np.array([0, 1, 1, 1, 1, 2, 2, 1]), np.array([0, 1, 1, 2, 2, 1, 2, 0])
    nothing = np.zeros((8, 2))
    world = World(nothing, [], np.zeros(8, int), environment, fold, np.zeros((2, 2)))
    candidates = [replace(PLAIN, rank=2), Candidate("shrinkage", lambda_=1.0, rank=2)]
    right = np.array([[0, 0, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 1, 0, 0]], dtype=bool)
    for j, s in itertools.product((1, 2), (1, 2)):
        there = (environment == s) & (fold == j)  # elsewhere, and by other fits, the answers are the other way round
        world.fitted[frozenset({0, s}), frozenset({0, j}), tuple(candidates)] = np.where(there, right, ~right)
    return world, candidates


@pytest.mark.parametrize(("group", "squared"), [(None, 6 / 5 * 0.04296875), (True, 4 / 3 * 0.07421875)])
def test_scores_and_standard_errors_are_those_counted_by_hand(group: bool | None, squared: float) -> None:
    """Differences 1, 0, 0, 0 (mean 1/4) and 1, 0 (mean 1/2): u is 3/32, -1/32 three times, 1/8 and -1/8 by image.

    By group the first images of both sources are one, and the second ones: u is 7/32, -5/32, -1/32 and -1/32.
    """
    world, candidates = planted()
    if group:
        world = replace(world, group=np.array([9, 0, 1, 2, 3, 0, 1, 9]))
    sources = validation_of(world, 0, 0, "lodo", candidates)
    assert scores_of(sources) == [0.25, 0.625]  # (2/4 + 0/2) / 2 and (3/4 + 1/2) / 2
    errors = [standard_error(world, sources, candidate, 0) for candidate in (0, 1)]
    assert errors == pytest.approx([0.0, np.sqrt(squared)], abs=1e-15)


def test_of_equals_the_larger_rank_is_best_then_the_first() -> None:
    candidates = [replace(PLAIN, rank=rank) for rank in (2, 4, 4, 3)]
    assert best([0.5, 0.5, 0.5, 0.5], candidates) == 1
    assert best([0.5, 0.4, 0.4, 0.5], candidates) == 3


def test_the_reference_fits_what_the_formula_says() -> None:
    """F^(1/2) by powers of matrices, as section 8 writes it."""
    world = made_up()
    rows, z, t = world.environment != 1, unit(world.z), unit(world.text)
    c_z = z[rows].T @ z[rows] / rows.sum()
    root, whitener = (fractional_matrix_power(c_z, p) for p in (0.5, -0.5))
    for name in THREE:
        inside = np.eye(12) + 3.0 * whitener @ nuisance_of(world, rows, name) @ whitener
        f = root @ fractional_matrix_power(inside, -0.5) @ whitener
        expected = ((z @ f.T) @ unit(t @ f.T).T).argmax(axis=1) == world.label
        np.testing.assert_array_equal(answers(world, rows, [Candidate("shrinkage", name, 3.0)])[0], expected)


def embedded(world: World) -> tuple[Embedded, Split]:
    """The same images as the product knows them."""
    split = Split(0, folds=int(world.fold.max()) + 1)
    names = [f"environment {e}" for e in range(world.environment.max() + 1)]
    data = Embedded(
        z=world.z, environment=world.environment, label=world.label, side={split: world.fold}, text=world.text,
        environments=names, classes=[f"class {c}" for c in range(len(world.text))], group=world.group,
        views=tuple(world.views),
    )  # fmt: skip
    return data, split


def curves_of(
    world: World, projection: Projection, lambdas: Sequence[float], ranks: Sequence[int], predictor: object,
    hidden: Callable[[Prompt], bool] = lambda _: False, share: float = 1.0,
) -> Curves:  # fmt: skip
    """Yield the curves of all held-out environments and folds, lambda by lambda, then nuisance by nuisance."""
    data, split = embedded(world)
    if PREDICTORS.create(predictor).uses_text_tower:
        data = replace(data, tower=tower(data.classes)[0])
    views = {f"kind {i}": scaled(view, "before") for i, view in enumerate(world.views)}
    cells = cells_of(data.layout(split), scaled(data.z, "before"), views)
    base, dim = data.layout(split).base, world.z.shape[1]
    cells = replace(cells, prompts=prompted(projection, data.classes, data.environments, base, dim, hidden))
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_fold"])
    evaluation = Evaluation(data, cells, FitSettings(split, "before", train_share=share))
    for lambda_ in lambdas:
        for setting in projection.settings:
            projected = setting if isinstance(setting, Wrapped) else setting.at(lambda_=lambda_)
            method = Method(projected, PREDICTORS.create(predictor), tuple(ranks))
            for curve in evaluation.curves(method, holdouts):
                yield projected, curve


def rows_of(curves: Curves, predictor: object, ranks: Sequence[int]) -> tuple[list[dict[str, Any]], dict[str, Tested]]:
    """The rows that curves become, and the images that they name."""
    rows, images = [], {}
    settings = PREDICTORS.create(predictor).settings
    for projection, curve in curves:
        images[curve.tested.hash] = curve.tested
        rows.append({
            **dict.fromkeys(schema().names),
            "seed": 0, "fold": curve.fold, "ranks": list(ranks), "intervention_set": "all", "normalize": "before",
            "predictor_params": json.dumps(settings[curve.setting].params), "class_half": "all", "n_base": 2,
            "projection_params": json.dumps(projection.params), "nuisance": projection.params.get("nuisance"),
            "lambda_": getattr(projection, "lambda_", None), "n_classes": 4, "C": curve.setting,
            "projection": projection.name, **curve_columns(curve),
        })  # fmt: skip
    return rows, images


def assert_equal_to_the_reference(
    world: World, spec: object, lambdas: Sequence[float], ranks: Sequence[int], cs: Sequence[float] | None = None
) -> Counter[str]:
    """Scores, standard errors, accuracies and picks of all four rules; return how often a rule takes plain."""
    predictor: object = "zero_shot" if cs is None else {"name": "linear_probe", "C": list(cs)}
    projection, dim = PROJECTIONS.create(spec), world.z.shape[1]
    nuisances = [setting.params.get("nuisance", "interventions") for setting in projection.settings]
    candidates = grid(projection.name, nuisances, lambdas, ranks, cs or (None,))
    plain = [Candidate("plain", rank=dim, c=c) for c in cs or (None,)]
    every, n = [*candidates, *plain], len(candidates)
    rows, images = rows_of(curves_of(world, projection, lambdas, ranks, predictor), predictor, ranks)
    of_plain, images_of_plain = rows_of(
        curves_of(world, PROJECTIONS.create("identity"), [0.0], [dim], predictor), predictor, [dim]
    )
    assert images_of_plain == images
    names, folds = embedded(world)[0].environments, sorted(set(world.fold.tolist()))
    accuracies = {}
    for (e, name), k in itertools.product(enumerate(names), folds):
        mine = [row for row in rows if (row["held_out"], row["fold"]) == (name, k)]
        assert len(mine) * len(ranks) == n  # lambda by lambda, then N, then C
        accuracies[name, k] = tested(world, e, k, every)
        assert np.ravel([row["target"] for row in mine]) == pytest.approx(accuracies[name, k][:n], abs=1e-12)
        for rule in RULES[:2]:
            scores = scores_of(sources := validation_of(world, e, k, rule, every))
            p = n + best(scores[n:], plain)
            errors = [standard_error(world, sources, candidate, p) for candidate in range(n)]
            assert np.ravel([row[rule] for row in mine]) == pytest.approx(scores[:n], abs=1e-12)
            assert np.ravel([row[f"{rule}_se"] for row in mine]) == pytest.approx(errors, abs=1e-12)
    taken: Counter[str] = Counter()
    for rule in RULES:
        picks = select(Rows(pd.DataFrame(rows), pd.DataFrame(of_plain)), rule, images).frame().to_dict("records")
        assert len(picks) == len(names) * len(folds)
        for line in picks:
            expected = pick(world, names.index(line["held_out"]), line["fold"], rule, candidates, plain)
            accuracy = accuracies[line["held_out"], line["fold"]][expected]
            assert line["target"] == line["correct"].mean() == pytest.approx(accuracy, abs=1e-12)
            taken[rule] += line["kept_plain"]
            assert line["kept_plain"] == (expected >= n)
            if line["kept_plain"]:
                assert of_plain[line["position"] - len(rows)]["C"] == expected - n
            else:
                row, c = rows[line["position"]], candidates[expected]
                nuisance = row["nuisance"] or "interventions"
                assert (nuisance, row["lambda_"], line["rank"]) == (c.nuisance, c.lambda_, c.rank)
                assert cs is None or cs[row["C"]] == c.c
    return taken


ZERO_SHOT = [
    ("shrinkage", (0.0, 0.3, 1.0, 10.0), (12,)),
    ({"name": "shrinkage", "nuisance": "both"}, (0.3, 3.0), (12,)),
    ("icm", (0.3, 1.0, 3.0), (2, 4, 8, 12)),
    ({"name": "icm", "nuisance": list(THREE)}, (0.3, 3.0), (4, 8)),
]


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(("spec", "lambdas", "ranks"), ZERO_SHOT, ids=str)
def test_zero_shot_is_scored_and_picked_as_the_reference_has_it(
    spec: object, lambdas: Sequence[float], ranks: Sequence[int], grouped: bool
) -> None:
    taken = assert_equal_to_the_reference(made_up(grouped=grouped), spec, lambdas, ranks)
    assert taken["lodo"] == taken["training_domain"] == 0
    assert taken["lodo_1se"] + taken["training_domain_1se"] > 0 or lambdas == (0.3, 3.0)


@pytest.mark.parametrize("spec", [{"name": "shrinkage", "nuisance": "both"}, "icm"], ids=str)
def test_the_probe_is_picked_as_scikit_learn_has_it(spec: object) -> None:
    world = made_up(4, 3, dim=6, classes=3, concepts=24, noise=1.4, seed=1)
    ranks = (3,) if spec == "icm" else (6,)
    assert_equal_to_the_reference(world, spec, (1.0,), ranks, GRID)


def test_only_fits_that_serve_a_choice_alone_end_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that leave out two environments or two folds."""
    fitted = set()

    def seen(probe: LinearProbe, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Head]]:
        fitted.add((problem.for_choice, len(np.unique(problem.environments)), problem.train.tobytes()))
        return Probe.heads(probe, problem, ranks)

    monkeypatch.setattr(LinearProbe, "heads", seen)
    world = made_up(4, 3, dim=6, classes=3, concepts=24)
    list(curves_of(world, PROJECTIONS.create("identity"), (1.0,), (6,), {"name": "linear_probe", "C": 1.0}))
    kinds = Counter((for_choice, environments) for for_choice, environments, _ in fitted)
    assert kinds == {(False, 3): 4 * 3, (True, 3): 4 * 3, (True, 2): 6 * 3}


# What a rule sees must not change where what it may not see does.
FAIR = [spec for spec in PROJECTIONS.names() if not PROJECTIONS.create(spec).looks_at_target_images]
FEW: list[object] = [
    "class_means",
    "ridge",
    "tip_adapter",
    PROBE := {"name": "linear_probe", "C": [0.316, 31.6]},
    {"name": "few_shot", "shots": 1, "C": 3.16},
    {"name": "interpolation", "C": 3.16},
    {"name": "group_dro", "C": 0.316, "rounds": 2},
    {"name": "probe_with_views", "C": 3.16},
    {"name": "soft_penalty", "mu": 3, "C": 0.316},
    {"name": "clip_adapter", "epochs": 1, "alpha": 0.5, "learning_rate": 0.1},
    {"name": "coop", "context": 2, "epochs": 1, "learning_rate": 0.1},
]
POISON = [*((spec, "zero_shot") for spec in FAIR), *((spec, p) for spec in ("icm", "random") for p in FEW)]
POISON += [(spec, PROBE) for spec in ("shrinkage", "pca")]


@pytest.mark.parametrize(("spec", "predictor"), POISON, ids=str)
def test_other_images_and_labels_of_what_is_hidden_change_no_score(spec: object, predictor: object) -> None:
    """Byte for byte, at environment 1 of all folds, and at fold 1 of all environments: they may change elsewhere."""
    world, projection = made_up(4, 3, dim=6, classes=3, concepts=24), PROJECTIONS.create(spec)
    ranks, lambdas = ((6,) if projection.full_rank_only else (3, 6)), (1.0,)
    clean = list(curves_of(world, projection, lambdas, ranks, predictor))
    for hidden, of_image, fits in (("environment", world.environment, 3), ("fold", world.fold, 4)):
        rows, rng = of_image == 1, np.random.default_rng(9)
        noise = [
            np.where(rows[:, None], rng.standard_normal(z.shape), z).astype(np.float32) for z in (world.z, *world.views)
        ]
        label = np.where(rows, rng.integers(3, size=len(rows)), world.label)
        poisoned = replace(world, z=noise[0], views=noise[1:], label=label, fitted={})
        names_it = {"environment": lambda prompt: prompt.environment == 1, "fold": lambda _: False}[hidden]
        other = list(curves_of(poisoned, projection, lambdas, ranks, predictor, names_it))
        compared = 0
        for (_, mine), (_, theirs) in zip(clean, other, strict=True):
            assert (mine.held_out, mine.fold, mine.setting) == (theirs.held_out, theirs.fold, theirs.setting)
            if (mine.held_out == "environment 1") if hidden == "environment" else mine.fold == 1:
                compared += 1
                for name in ("lodo", "lodo_se", "training_domain", "training_domain_se"):
                    one, two = (np.array(getattr(curve, name), dtype=float).tobytes() for curve in (mine, theirs))
                    assert one == two, (hidden, name)
        assert compared == fits * len(clean) // 12
        assert any((mine.correct != theirs.correct).any() for (_, mine), (_, theirs) in zip(clean, other, strict=True))


def test_the_random_seed_of_a_fit_is_that_of_its_training_set_whatever_fold_is_tested() -> None:
    world = made_up(4, 3, dim=4, classes=3, concepts=12)
    data, split = embedded(world)
    cells = cells_of(data.layout(split), data.z.astype(np.float64), {})
    asked = [((0, 1), {0}), ((0, 1), {2}), ((0, 2), {0}), ((0, 1), {0, 2})]
    fits = [Sources(environments, frozenset(sides), ("base", "new")) for environments, sides in asked]
    every, second = (Evaluation(data, cells, FitSettings(split, "none", fold)) for fold in (None, 1))
    seeds = [every._seed_of(fit) for fit in fits]
    assert seeds == [second._seed_of(fit) for fit in fits]
    assert len(set(seeds)) == len(fits)


@pytest.mark.parametrize(("folds", "fold", "share"), [(0, None, 1.0), (5, None, 1.0), (5, 2, 1.0), (5, None, 0.25)])
def test_fits_that_only_serve_a_choice_say_so_and_the_tested_one_never_does(
    folds: int, fold: int | None, share: float
) -> None:
    holdouts = PROTOCOLS.create("held_out").holdouts(list("abcd"), ["out_fold" if folds else "out_20"])
    cases = cases_of(holdouts, Split(0, folds=folds), False, fold, train_share=share)
    tested = {case.tested for case in cases}
    assert not any(fit.for_choice for fit in tested)
    chosen = [fit for case in cases for fit, _ in (*case.training_domain, *case.lodo)]
    # What is tested and serves a choice too is fitted once: all sources of an 80/20 split, or one fold of several.
    assert all(fit.for_choice or fit in tested for fit in chosen)
    assert not any(fit.for_choice and replace(fit, for_choice=False) in tested for fit in chosen)
    assert {fit in tested for fit in chosen} == ({False} if folds and share == 1 else {False, True})


def test_six_environments_and_five_folds_take_150_and_60_and_30_fits() -> None:
    """Without {e, s} and {k, j}; without e and {k, j}; tested: each once, whatever the holdouts that ask for it."""
    world, fits = made_up(6, 5, dim=4, concepts=30), Counter[tuple[frozenset[int], frozenset[int]]]()
    parts = {
        (frozenset(es), frozenset(ks)): world.z[~np.isin(world.environment, es) & ~np.isin(world.fold, ks)]
        for es in itertools.chain(itertools.combinations(range(6), 1), itertools.combinations(range(6), 2))
        for ks in itertools.chain(itertools.combinations(range(5), 1), itertools.combinations(range(5), 2))
    }
    sums = {key: unit(z).sum(axis=0) for key, z in parts.items()}

    def fit(sources: SourceMoments) -> Basis:
        mine = np.sum([np.sum(m.sums, axis=0) for m in sources.environments.values()], axis=0)
        (key,) = [key for key, theirs in sums.items() if np.allclose(mine, theirs, rtol=0, atol=1e-9)]
        fits[key] += 1
        return PROJECTIONS.create("icm").at(lambda_=1.0).fit(sources)

    curves = list(curves_of(world, Wrapped(fit), [1.0], [2, 4], "zero_shot"))
    assert len(curves) == 6 * 5
    assert set(fits.values()) == {1}
    assert Counter((len(es), len(ks)) for es, ks in fits) == {(2, 2): 150, (1, 2): 60, (1, 1): 30}
    for e, k in itertools.product(range(6), range(5)):  # and the reference needs the same ones
        for rule in RULES[:2]:
            validation_of(world, e, k, rule, [PLAIN])
        without(world, {e}, {k}, [PLAIN])
    assert {(es, ks) for es, ks, _ in world.fitted} == set(fits)


@pytest.mark.parametrize(("share", "sizes"), [(0.25, (1, 1)), (0.5, (2, 2)), (1.0, (4, 3))])
def test_a_share_of_the_source_images_is_a_share_of_the_folds(share: float, sizes: tuple[int, int]) -> None:
    world, candidate = made_up(4, 5, dim=6, concepts=60), Candidate("shrinkage", "both", 10.0, 6)

    def folds_without(*hidden: int) -> list[int]:
        left = [fold for fold in range(5) if fold not in hidden]
        count, first = max(1, round(share * len(left))), sum(hidden) % len(left)
        return [left[(first + i) % len(left)] for i in range(count)]

    def fitted(environments: set[int], *hidden: int) -> Any:
        there = ~np.isin(world.environment, list(environments)) & np.isin(world.fold, folds_without(*hidden))
        return answers(world, there, [candidate])[0]

    assert {len(folds_without(k)) for k in range(5)} == {sizes[0]}
    assert {len(folds_without(k, j)) for k in range(5) for j in range(5) if j != k} == {sizes[1]}
    assert len({tuple(sorted(folds_without(k))) for k in range(5)}) == 5  # no fold serves all
    rows, _ = rows_of(curves_of(world, PROJECTIONS.create("fixed"), [10.0], [6], "zero_shot", share=share),
                      "zero_shot", [6])  # fmt: skip
    assert len(rows) == 4 * 5
    for row in rows:
        e, k = int(row["held_out"].split()[-1]), row["fold"]
        tested_here = (world.environment == e) & (world.fold == k)
        assert row["target"] == [pytest.approx(fitted({e}, k)[tested_here].mean(), abs=1e-12)]
        of_sources = []
        for s in {*range(4)} - {e}:
            blocks = [(world.environment == s) & (world.fold == j) for j in range(5) if j != k]
            of_fits = [fitted({e, s}, k, j) for j in range(5) if j != k]
            of_sources.append(np.concatenate([f[b] for f, b in zip(of_fits, blocks, strict=True)]).mean())
        assert row["lodo"] == [pytest.approx(np.mean(of_sources), abs=1e-12)]
        assert row["n_train"] == (np.isin(world.fold, folds_without(k)) & (world.environment != e)).sum()


def test_bases_and_shifts_are_kept_up_to_their_bytes_and_change_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    data, split = embedded(made_up(4))
    layout, dim = data.layout(split), data.z.shape[1]
    cells = cells_of(layout, data.z, {"blur": data.z + 0.1 * np.roll(data.z, 1, axis=1)})
    settings = PROJECTIONS.create("icm").settings
    projections = [setting.at(lambda_=value) for setting in settings for value in (0.1, 1.0)]
    methods = [Method(projection, PREDICTORS.create("zero_shot"), (3, dim)) for projection in projections]
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_fold"])
    kept: dict[int, list[int]] = {}
    curves = []
    for most in (0, 20 * 8 * dim**2, 2**30):
        monkeypatch.setattr(evaluation, "MAX_BASES", most)
        monkeypatch.setattr(evaluation, "MAX_SHIFTS", most)
        evaluated = Evaluation(data, cells, FitSettings(split, "none"))
        scored, kept[most] = evaluated._scored_cases, []

        def counted(*args: Any, scored: Any = scored, sizes: list[int] = kept[most]) -> list[Any]:
            cases = list(scored(*args))
            sizes.append(sum(case.nbytes for case in cases))
            return cases

        monkeypatch.setattr(evaluated, "_scored_cases", counted)
        of_methods = evaluated.curves_of(methods, holdouts)
        curves.append([curve_columns(curve) for of_method in of_methods for curve in of_method])
        assert sum(shifts.nbytes for shifts in evaluated._shifts.values()) <= most
    assert repr(curves[0]) == repr(curves[1]) == repr(curves[2])
    none, some, every = (max(sizes) for sizes in kept.values())
    assert none == 0 < some <= 20 * 8 * dim**2 < every
