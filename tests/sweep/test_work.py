"""The work of a trial grows as what it does, and short trials on simulated embeddings are of the same kinds."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.recipe.loading import load_recipe
from benchmark.sweep.trials import TrialSpec, trial_specs
from benchmark.sweep.work import BETWEEN, FIRST_TRIAL, Ran, Size, costs_of, kind_of, work_of
from tests.performance.simulated_trials import measured

SIZE = Size({"a": 1000, "b": 2000, "c": 500, "d": 1500}, 7, 64)
RECIPE = """\
name: work
datasets: [emoji_styles]
backbones: [MiniLiT]
interventions: {kinds: [invert]}
sweep:
  lambdas: [1, 10]
  ranks: [8, 64]
  projections: [identity, pca, icm, {name: icm, nuisance: [interventions, both]}, shrinkage]
  predictors: [zero_shot, {name: linear_probe, C: [1, 10]}]
"""


@pytest.fixture
def specs(tmp_path: Path) -> dict[tuple[str, str], TrialSpec]:
    """The trials of a recipe, by predictor and projection."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    return {(s.predictor.name, s.projection.label): s for s in trial_specs(recipe, "emoji_styles", 64)}


def larger(times: int) -> Size:
    return Size({name: times * count for name, count in SIZE.images.items()}, SIZE.classes, SIZE.dim)


def of_images(spec: TrialSpec, size: Size = SIZE) -> float:
    """Return the work that is there because of images: beside it, each fit and evaluation takes what it takes."""
    return work_of(spec, size) - work_of(spec, replace(size, images=dict.fromkeys(size.images, 0)))


def test_fits_grow_with_images_classes_ranks_lambdas_and_settings(specs: Any) -> None:
    probe = specs["linear_probe", "icm"]
    work = of_images(probe)
    assert of_images(probe, larger(2)) == pytest.approx(2 * work)
    assert of_images(probe, replace(SIZE, classes=14)) == pytest.approx(2 * work)
    assert of_images(replace(probe, ranks=(8,))) == pytest.approx(work / 9)
    assert work_of(replace(probe, lambdas=(1.0,)), SIZE) == pytest.approx(work_of(probe, SIZE) / 2)
    equal_n = next(s for (p, label), s in specs.items() if p == "linear_probe" and "nuisance" in label)
    assert work_of(equal_n, SIZE) == pytest.approx(2 * work_of(probe, SIZE))
    with_more_c = replace(probe, predictor=probe.predictor.model_copy(update={"C": (1.0, 10.0, 100.0)}))
    assert of_images(with_more_c) == pytest.approx(work * (1 + 1.8 + 1.8**2) / (1 + 1.8), rel=0.02)


def test_a_fit_that_serves_two_holdouts_counts_once(specs: Any) -> None:
    spec = replace(specs["linear_probe", "identity"], ranks=(64,), seed=0)
    # Held out a: fitted on b + c + d, and without each of them. All four have four triples and six pairs, which are not
    # twelve. An evaluation has two products of images and classes; there are more at the C of 10 than at that of 1.
    evaluations = 25 / 1.8**1.5 * (1 + 1.8)
    per_image = 0.8 * 4 * 7 * 64 * evaluations
    assert of_images(replace(spec, held_out="a")) == pytest.approx(per_image * (4000 + 2000 + 3500 + 2500), rel=0.05)
    assert of_images(spec) == pytest.approx(per_image * (3 * 5000 + 3 * 5000), rel=0.05)


def test_images_for_a_choice_bound_fits_of_probes_and_of_the_validation_images_of_every_predictor(specs: Any) -> None:
    probe, zero = specs["linear_probe", "shrinkage"], specs["zero_shot", "shrinkage"]
    huge = larger(1000)
    some = replace(probe, selection_images=500)
    assert work_of(some, huge) < 0.25 * work_of(replace(probe, selection_images=None), huge)
    # All are tested on a fifth of what is held out; four fits without one environment are validated on out-splits of
    # three, and six without two by both in-splits, which count as four folds.
    work = {most: of_images(replace(zero, selection_images=most), huge) for most in (500, None)}
    n = sum(huge.images.values())
    assert work[500] / work[None] == pytest.approx((0.2 * n + 12 * 500 + 12 * 4 * 500) / (0.2 * n + 0.6 * n + 2.4 * n))


@pytest.mark.parametrize(
    ("environments", "folds", "fold", "counted"),
    [
        (
            "abcdef",
            5,
            None,
            (15 * 10, 6 * 10, 6 * 5),
        ),  # without two environments and two folds; one and two; one and one
        ("abc", 5, None, (0, 3 * 10, 3 * 5)),  # one source is too few
        ("abcdef", 5, 0, (15, 6, 6)),
        ("abcdef", 0, None, (15, 0, 6)),  # the tested fits choose
    ],
)
def test_fits_are_counted_that_serve_several_holdouts_and_folds(
    environments: str, folds: int, fold: int | None, counted: tuple[int, int, int], specs: Any
) -> None:
    splits = ("out_fold",) if folds else ("out_20",)
    spec = replace(specs["zero_shot", "shrinkage"], folds=folds, fold=fold, test_splits=splits)
    assert spec.fit_counts(list(environments)) == counted
    turns = folds if folds and fold is None else 1
    assert spec.rows(list(environments)) == len(spec.settings) * len(environments) * turns


def test_without_holdouts_there_is_no_work(specs: Any) -> None:
    assert work_of(replace(specs["zero_shot", "icm"], held_out="no such one"), SIZE) == 0


def test_short_trials_are_of_the_same_kind_and_end_when_the_time_is_up(specs: Any) -> None:
    wanted = [(spec, SIZE) for spec in specs.values()]
    costs = measured(wanted, seconds=60, images=60)
    assert [c.kind for c in costs] == [kind_of(spec) for spec in specs.values()]
    assert all(c.seconds > 0 and c.work > 0 for c in costs)
    assert measured(wanted, seconds=-1) == []


def test_sets_with_hardly_an_image_are_calibrated_too(specs: Any) -> None:
    tiny = Size({"a": 1, "b": 2, "c": 0}, 7, 64)
    folds = replace(specs["linear_probe", "icm"], folds=5, fold=0, test_splits=("out_fold",))
    assert len(measured([(folds, tiny)], seconds=60)) == 1


def test_trials_that_are_alike_cost_their_mean_and_the_rest_lies_between(specs: Any) -> None:
    manifest = SimpleNamespace(counts=dict(SIZE.images), classes=list("abcdefg"))
    subject = SimpleNamespace(key="set", manifest=manifest, facts=SimpleNamespace(dim=64))
    ran = []
    for number, (spec, seconds) in enumerate(
        [(specs["zero_shot", "icm"], 2.0), (specs["zero_shot", "icm"], 4.0), (specs["zero_shot", "pca"], 6.0)]
    ):
        trial: Any = SimpleNamespace(spec=spec, subject=subject, variants=(), clusters=None)
        ran.append(Ran(trial, 105.0 + number, seconds))
    costs = {c.kind[:3]: c for c in costs_of(ran, began=100.0, slots=2)}
    assert costs["trial", "zero_shot", "icm"].seconds == 3.0
    assert costs["trial", "zero_shot", "pca"].seconds == 6.0
    assert costs[FIRST_TRIAL].seconds == 5.0
    assert costs[BETWEEN].work == 3
    assert costs[BETWEEN].seconds == pytest.approx(13 - 5 - 12 / 2)
    assert costs_of([], 0.0, 1) == []
