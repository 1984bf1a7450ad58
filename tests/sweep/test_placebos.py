"""Placebos in a sweep: counts, what is embedded for them (nothing), and where their C_d comes from."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from benchmark.commands.embed import embed_stage
from benchmark.commands.planning.plan import plan
from benchmark.commands.preparing.prepare import Run, have_embeddings, prepare
from benchmark.commands.sweep import sweep_stage
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.cells import partners
from benchmark.method.evaluation.splits import IN, Split
from benchmark.recipe.loading import parse_recipe
from benchmark.store import embeddings as store
from benchmark.store.rows import read_rows
from benchmark.sweep.loading import MomentsSpec, cells_for, lent_c_d, load
from benchmark.sweep.summing import stored
from benchmark.sweep.trials import Trial, trials_of
from tests.conftest import make_toy

SETS: list[dict[str, Any]] = [
    {"name": "rotated", "placebo": "rotated", "draws": 3},
    {"name": "matched", "placebo": "matched"},
    {"name": "shuffled", "placebo": "shuffled", "draws": 2},
    {"name": "borrowed", "placebo": "borrowed"},
]

pytestmark = pytest.mark.usefixtures("local_ray")


def content(folder: Path, backbone: dict[str, Any], sets: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "placebos",
        "datasets": [{"name": name, "root": str(folder / name)} for name in ("toy", "other")],
        "backbones": [backbone],
        "interventions": {"kinds": ["grayscale", "invert"]},
        "sweep": {
            "projections": ["identity", "icm", {"name": "shrinkage", "lambdas": [0, 3]}, "isotropic"],
            "predictors": ["zero_shot"], "seeds": [0], "lambdas": [1], "ranks": [4, 16],
            "intervention_sets": [{"name": "all"}, *sets],
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_random: dict[str, Any], local_ray: None) -> Run:  # noqa: ARG001
    """Two embedded data sets, and a recipe with placebos of all kinds."""
    folder = tmp_path_factory.mktemp("placebos")
    make_toy(folder / "toy", images=8)
    make_toy(folder / "other", environments=4, seed=1)
    storage = Storage(str(folder / "store"))
    without = prepare(parse_recipe(content(folder, tiny_random, [])), storage, lambda _: None)
    assert [report.embedded for report in embed_stage(without)] == [48 * 3, 48 * 3]
    made = prepare(parse_recipe(content(folder, tiny_random, SETS)), storage, lambda _: None)
    assert [report.embedded for report in embed_stage(made)] == [0, 0]  # for no placebo
    have_embeddings(made, made.subjects)
    return made


def trial_of(run: Run, dataset: str, name: str) -> Trial:
    (trial,) = (
        t
        for t in trials_of(run.recipe, run.subjects)
        if (t.subject.manifest.name, t.spec.projection.name) == (dataset, "shrinkage")
        and t.spec.intervention_set
        and t.spec.intervention_set.name == name
    )
    return trial


def views_of(run: Run, number: int, labels: tuple[str, ...]) -> list[np.ndarray]:
    subject = run.subjects[number]
    ids = subject.manifest.table["image_id"].to_pylist()
    views = {view.label: view for view in subject.views}
    return [store.read(run.storage, views[label], ids).astype(np.float64) for label in labels]


def test_a_sweep_has_the_planned_trials_and_each_placebo_rows_of_its_own(run: Run) -> None:
    planned = plan(run.recipe, run.storage)
    trials = trials_of(run.recipe, run.subjects)
    # identity and isotropic once, icm and shrinkage with the real set and four placebos, for both data sets
    assert len(trials) == planned.trials == 2 * (2 + 2 * 5)
    sweep_stage(run)
    rows = read_rows(run.storage, [trial.id for trial in trials])
    assert planned.at_most
    assert 0.6 * planned.rows < len(rows) <= planned.rows
    variants = {"rotated 1", "rotated 2", "rotated 3", "matched", "shuffled 1", "shuffled 2", "borrowed"}
    for (_, projection), part in rows.groupby(["dataset", "projection"]):
        taken = variants if projection in ("icm", "shrinkage") else set()
        draws = part["placebo_draw"].map(lambda draw: "" if draw != draw else f" {draw:g}")
        assert set((part["placebo"] + draws).dropna()) == taken
    shrinkage = rows[(rows["projection"] == "shrinkage") & (rows["dataset"] == "toy")]
    placebos = shrinkage[shrinkage["placebo"].notna()]
    assert set(placebos["nuisance"]) == {"interventions", "both"}
    assert set(shrinkage["nuisance"]) == {"interventions", "environments", "both"}
    single = placebos[placebos["placebo"] == "borrowed"]
    assert len(single) == 3 * 2 * 2  # held-outs, lambdas, nuisances: all of them
    numbered = placebos[(placebos["placebo"] == "rotated") & (placebos["placebo_draw"] == 2)]
    assert numbered.groupby("held_out").size().between(1, 2).all()  # what the two rules of the sources pick


def test_what_is_borrowed_is_c_d_of_all_images_of_the_other_set_and_part_of_the_trials_id(run: Run) -> None:
    trial = trial_of(run, "toy", "borrowed")
    assert trial.lender is not None
    assert trial.lender.manifest.name == "other"
    split, chosen = Split(0), trial.spec.intervention_set
    assert chosen is not None
    _, images = ray.get(list(load.remote(run.storage, trial.lender, (split,))))
    read = partial(stored, run.storage, images)
    lent = lent_c_d(run.storage, trial.lender, images, MomentsSpec(chosen, split, "none", merged=True), read)
    z, grey, inverted = views_of(run, 1, ("original", "grayscale", "invert"))
    expected = ((z - grey).T @ (z - grey) + (z - inverted).T @ (z - inverted)) / 2 / len(z)
    np.testing.assert_allclose(lent, expected, atol=1e-9)
    other = replace(run.subjects[1], unreadable="some")  # another lender
    moved = {t.id for t in trials_of(run.recipe, [run.subjects[0], other])}
    of_toy = [t for t in trials_of(run.recipe, run.subjects) if t.subject.manifest.name == "toy"]
    assert {t.id for t in of_toy} - moved == {t.id for t in of_toy if t.lender}


def test_shuffled_moments_are_of_views_of_other_images_of_the_environment_and_side(run: Run) -> None:
    trial, split = trial_of(run, "toy", "shuffled"), Split(0)
    subject, chosen = trial.subject, trial.spec.intervention_set
    assert chosen is not None
    data, images = ray.get(list(load.remote(run.storage, subject, (split,))))
    sources = cells_for(run.storage, subject, images, MomentsSpec(chosen, split, "none")).sources({0: "env0"}, None)
    z, grey, inverted = views_of(run, 0, ("original", "grayscale", "invert"))
    inside = (data.side[split] == IN) & (data.environment == 0)
    for drawn in chosen.drawn():
        partner = partners(data.layout(split), 0, drawn.first)
        assert inside[partner[inside]].all()
        a, b = ((z - view[partner])[inside] for view in (grey, inverted))
        found = sources.differences(subject.shuffled_name(drawn))
        assert found.n == inside.sum()
        np.testing.assert_allclose(found.moment(), (a.T @ a + b.T @ b) / 2 / inside.sum(), atol=1e-9)


def test_a_lender_with_the_same_images_is_refused(run: Run, tmp_path: Path, tiny_random: dict[str, Any]) -> None:
    make_toy(tmp_path / "toy")
    make_toy(tmp_path / "other")
    recipe = parse_recipe(content(tmp_path, tiny_random, SETS))
    for check in (lambda: prepare(recipe, run.storage, lambda _: None), lambda: plan(recipe, run.storage)):
        with pytest.raises(IcmBenchError, match=r"toy borrows from other .* 36 images of both are equal"):
            check()
