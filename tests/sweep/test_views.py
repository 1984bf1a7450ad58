"""Views at evaluation: they reach the predictors that ask for them, from the store, and nobody embeds one for that."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from benchmark.commands.embed import embed_stage
from benchmark.commands.preparing.prepare import Run, have_embeddings, prepare
from benchmark.commands.sweep import sweep_stage
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.selection import unpacked
from benchmark.method.evaluation.splits import Split
from benchmark.method.interventions import view_rng
from benchmark.recipe.loading import parse_recipe
from benchmark.store import embeddings as store
from benchmark.store.rows import read_rows
from benchmark.sweep.loading import lent_views, load, load_view
from benchmark.sweep.trials import Trial, trials_of
from tests.conftest import toy_in

KINDS = ["grayscale", "gaussian_blur", "posterize"]
SETS = [
    {"name": "two", "kinds": KINDS[::2]},
    {"name": "rotated", "kinds": KINDS[::2], "placebo": "rotated", "draws": 20},
]

pytestmark = pytest.mark.usefixtures("local_ray")


def made(tmp_path: Path, embedded_toy: Path, backbone: dict[str, Any], sets: Sequence[object] = SETS) -> Run:
    content = {
        "name": "views",
        "datasets": [toy_in(tmp_path, embedded_toy)],
        "backbones": [backbone],
        "interventions": {"kinds": KINDS},
        "sweep": {
            "projections": ["identity", {"name": "shrinkage", "lambdas": [0, 3], "nuisance": ["interventions", "environments"]}],
            "predictors": ["zero_shot", "mean_of_views", {"name": "linear_probe", "C": 1},
                           {"name": "probe_with_views", "C": 1}, {"name": "soft_penalty", "mu": [0, 3], "C": 1}],
            "seeds": [0], "ranks": [16], "test_splits": ["full"], "intervention_sets": sets,
        },
    }  # fmt: skip
    return prepare(parse_recipe(content), Storage(str(tmp_path / "store")), lambda _: None)


def trials_by(run: Run, projection: str, placebo: bool = False) -> dict[str, Trial]:
    """Predictor -> its trial with a projection."""
    return {
        trial.spec.predictor.name: trial
        for trial in trials_of(run.recipe, run.subjects)
        if trial.spec.projection.name == projection
        and bool(trial.spec.intervention_set and trial.spec.intervention_set.placebo) == placebo
    }


def stored(run: Run, label: str) -> Any:
    (subject,) = run.subjects
    ids = subject.manifest.table["image_id"].to_pylist()
    (view,) = (view for view in subject.views if view.label == label)
    return store.read(run.storage, view, ids)


@pytest.mark.parametrize("pairing", ["each", "random_one"])
def test_what_is_lent_are_the_stored_views_of_the_set_in_the_order_of_the_images(
    pairing: str, tmp_path: Path, embedded_toy: Path, tiny_random: dict[str, Any]
) -> None:
    sets = [{"name": "two", "kinds": KINDS[::2], "pairing": pairing}]
    run = made(tmp_path, embedded_toy, tiny_random, sets)
    trial = trials_by(run, "identity")["mean_of_views"]
    kinds = trial.subject.drawn_from(trial.spec.intervention_set)
    _, images = ray.get(list(load.remote(run.storage, trial.subject, (Split(0),))))
    arrays = {v.directory: ray.get(load_view.remote(run.storage, v, images)[0]) for views in kinds for v in views}
    assert len(arrays) == 2  # and nothing of the third kind
    lent = lent_views(kinds, arrays, images, seed=7)
    assert [view.dtype for view in lent] == [np.float32] * len(lent)
    grey, posterized = (stored(run, label) for label in KINDS[::2])
    if pairing == "each":
        np.testing.assert_array_equal(lent, [grey, posterized])
        return
    (drawn,) = lent
    ids = trial.subject.manifest.table["image_id"].to_pylist()
    for image_id, row, one, other in zip(ids, drawn, grey, posterized, strict=True):
        np.testing.assert_array_equal(row, (one, other)[view_rng(7, image_id, "random_one").integers(2)])
    assert (drawn == grey).all(axis=1).any()
    assert (drawn == posterized).all(axis=1).any()


def test_the_views_of_the_set_and_no_others_are_part_of_what_a_row_is_known_by(
    tmp_path: Path, embedded_toy: Path, tiny_random: dict[str, Any]
) -> None:
    looks = {"mean_of_views", "probe_with_views", "soft_penalty"}
    run = made(tmp_path, embedded_toy, tiny_random)
    before = trials_by(run, "identity")
    (subject,) = run.subjects
    for label, changed in (("posterize", looks), ("gaussian_blur", set())):  # the blurred are in no set
        views = [replace(v, depends_on={"other": 1}) if v.label == label else v for v in subject.views]
        other = replace(run, subjects=(replace(subject, views=tuple(views)),))
        after = trials_by(other, "identity")
        assert {name for name in before if before[name].id != after[name].id} == changed
    assert len({trial.id for trial in before.values()}) == 5
    assert before["zero_shot"].spec.intervention_set is None
    # Where C_d enters the predictor, a placebo reaches what is only scaled by it in shrinkage too.
    of_placebo = trials_by(run, "shrinkage", placebo=True)
    nuisances = {name: [s.params["nuisance"] for s in trial.spec.settings] for name, trial in of_placebo.items()}
    assert nuisances.pop("soft_penalty") == ["interventions", "environments"]
    assert list(nuisances.values()) == [["interventions"]] * 4
    assert set(trials_by(run, "identity", placebo=True)) == {"soft_penalty"}


def test_a_sweep_reads_views_from_the_store_and_placebos_reach_a_trained_predictor(
    tmp_path: Path, embedded_toy: Path, tiny_random: dict[str, Any]
) -> None:
    run = made(tmp_path, embedded_toy, tiny_random)
    assert [done.embedded for done in embed_stage(run)] == [0]
    have_embeddings(run, run.subjects)
    sweep_stage(run)
    rows = read_rows(run.storage, [trial.id for trial in trials_of(run.recipe, run.subjects)])
    plain = rows[rows["projection"] == "identity"]
    z, grey, posterized = (np.asarray(stored(run, label), np.float64) for label in ("original", *KINDS[::2]))
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    (subject,) = run.subjects
    data, _ = ray.get(list(load.remote(run.storage, subject, (Split(0),))))
    scores = (unit(z) + unit(grey) + unit(posterized)) @ unit(np.asarray(data.text, np.float64)).T
    expected = scores.argmax(axis=1) == data.label
    for _, row in plain[plain["predictor"] == "mean_of_views"].iterrows():
        here = data.environment == data.environments.index(row["held_out"])
        np.testing.assert_array_equal(unpacked(dict(row))[-1], expected[here])
    soft = plain[plain["predictor"] == "soft_penalty"]
    assert set(soft["placebo_draw"].dropna()) == set(range(1, 21))
    without_penalty = soft["predictor_params"].map(lambda p: json.loads(p)["mu"] == [0.0])
    parts = soft[soft["placebo"].isna() & without_penalty], plain[plain["predictor"] == "linear_probe"]
    real, probe = (part.set_index("held_out")["correct"].to_dict() for part in parts)
    assert real == probe
