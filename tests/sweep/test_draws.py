"""Views drawn several times: which seed sees which draw, what is embedded, and that a draw is that of its seed alone."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from benchmark.commands.embed import embed_stage
from benchmark.commands.preparing.prepare import Run, have_embeddings, prepare
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.splits import IN, Split
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store import embeddings as store
from benchmark.store.embeddings import Decoding
from benchmark.sweep.loading import MomentsSpec, cells_for, load
from benchmark.sweep.search import Study, studies_of
from benchmark.sweep.subject import Subject
from benchmark.sweep.trials import Trial, trials_of
from tests.conftest import make_toy


def content(draws: int, seed: int = 5, **changes: Any) -> dict[str, Any]:
    return {
        "name": "drawn",
        "datasets": [{"name": "toy", "root": "toy"}],
        "backbones": [{"name": "ViT-B-32", "pretrained": "random"}],
        "interventions": {"kinds": ["grayscale", "color_jitter"], "seed": seed, "draws": draws},
        "sweep": {
            "projections": ["identity", "icm"], "predictors": ["zero_shot"], "seeds": [3, 1, 2], "lambdas": [1],
            "intervention_sets": [
                {"name": "both", "kinds": ["grayscale", "color_jitter"]},
                {"name": "grey", "kinds": ["grayscale"]},
                {"name": "one", "pairing": "random_one"},
            ],
            **changes,
        },
    }  # fmt: skip


def subject_of(recipe: Recipe) -> Subject:
    subject = Subject(
        manifest=SimpleNamespace(  # type: ignore[arg-type]
            name="toy",
            fingerprint="f",
            table=pa.table({"image_id": ["a", "b"]}),
            environments=["x", "y", "z"],
            prompt_names=["p"],
            counts={"x": 1, "y": 1, "z": 0},
        ),
        backbone=recipe.backbones[0],
        facts=SimpleNamespace(label="b", dim=8, logit_scale=100.0, texts="any", identity=lambda: {"fingerprint": "w"}),  # type: ignore[arg-type]
        interventions=recipe.interventions,
        decoding=Decoding(),
        views=(),
        prompts=("{}",),
        texts="texts",
    )
    return subject.with_kinds([None, *recipe.kinds_for("toy")])


def trials(draws: int, seed: int = 5) -> dict[tuple[str | None, int], Trial]:
    recipe = parse_recipe(content(draws, seed))
    every = trials_of(recipe, [subject_of(recipe)])
    return {(t.spec.intervention_set.name if t.spec.intervention_set else None, t.spec.seed): t for t in every}


def test_only_what_is_drawn_is_embedded_once_for_each_draw() -> None:
    recipe = parse_recipe(content(3))
    views = [(view.label, view.seed) for view in subject_of(recipe).views]
    assert views == [
        ("original", 5), ("grayscale", 5), ("color_jitter", 5), ("color_jitter", 6), ("color_jitter", 7),
    ]  # fmt: skip
    assert recipe.view_count("toy") == len(views)
    assert len({view.directory for view in subject_of(recipe).views}) == len(views)
    for number in range(6):
        seen = subject_of(recipe).at_draw(number).seen
        assert [(view.label, view.seed) for view in seen[2:]] == [("color_jitter", 5 + number % 3)]


def test_seeds_take_the_draws_in_turn_and_a_draw_is_known_by_its_seed_alone() -> None:
    drawn = trials(draws=2)
    alone = {5: trials(1, seed=5), 6: trials(1, seed=6)}
    for name in ("both", "one"):
        for number, seed in enumerate((3, 1, 2)):
            trial = drawn[name, seed]
            assert trial.view_draw == number % 2
            assert trial.id == alone[5 + number % 2][name, seed].id  # as if it were the only draw
            assert trial.interventions == alone[5 + number % 2][name, seed].interventions
            assert json.loads(trial.interventions or "")["seed"] == 5 + number % 2
    for key in ((name, seed) for name in ("grey", None) for seed in (3, 1, 2)):
        assert drawn[key].id == alone[5][key].id  # they see nothing that is drawn: the same rows whatever the draws
        assert drawn[key].view_draw == 0
    pairings = [drawn["one", seed].subject.pairings_of(drawn["one", seed].spec.intervention_set) for seed in (3, 1)]
    assert [[view.seed for view in pairing.views] for (pairing,) in pairings] == [[5, 5], [5, 6]]


def test_more_draws_than_seeds_and_more_views_than_fit_are_refused() -> None:
    with pytest.raises(IcmBenchError, match=r"interventions.draws: 4 draws of views for 3 sweep.seeds"):
        parse_recipe(content(4))
    many = content(1, seeds=list(range(70)))
    many["interventions"]["draws"] = 62
    with pytest.raises(IcmBenchError, match=r"draws: 62 draws make 63 views of each image; the maximum is 62"):
        parse_recipe(many)


def test_a_search_takes_them_in_turn_too() -> None:
    recipe = parse_recipe(
        content(2, search={"samples": 2, "lambdas": [0.1, 10], "strengths": {"color_jitter": {"hue": [0, 0.3]}}},
                intervention_sets=[{"name": "both", "kinds": ["grayscale", "color_jitter"]}])
    )  # fmt: skip
    subject = subject_of(recipe)
    study: Study = studies_of([trial for trial in trials_of(recipe, [subject]) if trial.spec.space])[0]
    changed = recipe.interventions.by_label()["color_jitter"].at_strength({"hue": 0.2})
    wider = subject.with_kinds([changed])
    assert [view.seed for view in wider.views[len(subject.views) :]] == [5, 6]
    found = study.trials(wider, {"lambda": 1.0, "color_jitter.hue": 0.2})
    assert [(trial.spec.seed, trial.view_draw) for trial in found] == [(3, 0), (1, 1), (2, 0)]
    assert [trial.subject.pairings_of(trial.spec.intervention_set)[1].views[0].seed for trial in found] == [5, 6, 5]


@pytest.mark.usefixtures("local_ray")
def test_each_draw_is_embedded_and_its_moments_are_those_of_its_views(
    tmp_path: Path, tiny_random: dict[str, Any]
) -> None:
    make_toy(tmp_path / "toy")

    def prepared(draws: int, seed: int) -> Run:
        recipe = {**content(draws, seed), "backbones": [tiny_random]}
        recipe["datasets"] = [{"name": "toy", "root": str(tmp_path / "toy")}]
        return prepare(parse_recipe(recipe), Storage(str(tmp_path / "store")), lambda _: None)

    run = prepared(2, 5)
    (report,) = embed_stage(run)
    assert report.embedded == 36 * 4
    (again,) = embed_stage(prepared(1, 6))  # the second draw of the first recipe is the only one of this
    assert (again.embedded, again.reused) == (0, 36 * 3)
    have_embeddings(run, run.subjects)
    (subject,), split = run.subjects, Split(0)
    intervention_set = run.recipe.intervention_sets()[0]
    data, images = ray.get(list(load.remote(run.storage, subject, (split,))))
    ids = subject.manifest.table["image_id"].to_pylist()
    inside = (data.side[split] == IN) & (data.environment == 0)
    sums = []
    for draw in (0, 1):
        of_draw = subject.at_draw(draw)
        cells = cells_for(run.storage, of_draw, images, MomentsSpec(intervention_set, split, "none"))
        (view,) = [v for v in subject.views if v.label == "color_jitter" and v.seed == 5 + draw]
        d = (data.z.astype(np.float64) - store.read(run.storage, view, ids))[inside]
        moments = cells.sources({0: "env0"}, subject.weights_of(intervention_set))
        np.testing.assert_allclose(moments.differences("color_jitter").outer, d.T @ d, atol=1e-8)
        sums.append(d.T @ d)
    assert not np.allclose(*sums)
