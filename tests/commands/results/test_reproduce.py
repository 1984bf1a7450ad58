"""`icm-bench reproduce`: what was published is found again, and what was changed is named."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.commands.recipes import DEMO, packaged_recipe
from benchmark.commands.results.labels import label_of
from benchmark.commands.results.publish import publish
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import cache_dir
from benchmark.recipe.loading import load_recipe
from benchmark.recipe.recipe import hash_of
from benchmark.results.answers import answered
from benchmark.results.checking import judged_together, problems_of
from benchmark.results.records import Details, Published, Publisher, numbers_of, read_results, write
from tests.commands.conftest import Command
from tests.conftest import make_toy

ABOUT = Publisher("Ada's lab", "first_party", {"": "ada/blocks"}, 1_000_000_000)
RECIPE: dict[str, Any] = {
    "name": "small",
    "backbones": [{"name": "tests.faults.encoder:Blocks", "engine": "torch"}],
    "interventions": {"kinds": ["grayscale"]},
    "sweep": {
        "projections": ["identity", {"name": "shrinkage", "lambdas": [1]}], "predictors": ["zero_shot"], "folds": 3,
        "seeds": [0], "ranks": [16],
    },
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A published run of made-up images: records of plain prediction and of shrinkage."""

    results: Path  # results folder
    store: Path
    data: Path  # folder that holds the folder of the data set
    published: tuple[Published, ...]

    def written(self, folder: Path, published: list[Published]) -> Path:
        """Return a new results folder with these records."""
        write(Storage(str(folder)), published)
        return folder

    def details(self, change: Callable[[Details], dict[str, Any]], folder: Path) -> Path:
        """Return a new results folder in which details of all records are changed, ids and file names with them."""
        details = [replace(one.details, **change(one.details)) for one in self.published]
        plain = details[0].uuid("ada/blocks")
        details = [one if one.plain is None else replace(one, plain=plain) for one in details]
        made = [Published(d, ABOUT, o.numbers, o.answers) for d, o in zip(details, self.published, strict=True)]
        return self.written(folder, made)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Made:  # noqa: ARG001
    folder = tmp_path_factory.mktemp("reproduce")
    data = folder / "data"
    images = make_toy(data / "toy", environments=3, classes=2, images=20)
    recipe = {**RECIPE, "datasets": [{"name": "toy", "root": str(images)}], "run": {"store": str(folder / "store")}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    assert main(["run", str(folder / "recipe.yaml")]) == 0
    publish(load_recipe(folder / "recipe.yaml"), Storage(str(folder / "store")), ABOUT, folder / "results")
    published, problems = read_results(Storage(str(folder / "results")))
    assert problems + problems_of(published, label_of) == []
    published.sort(key=lambda one: one.details.projection != "identity")
    assert [one.details.projection for one in published] == ["identity", "shrinkage"]
    return Made(folder / "results", folder / "store", data, tuple(published))


def reproduced(command: Command, made: Made, *words: object, code: int = 0) -> dict[str, Any]:
    """Return the JSON of a reproduction with the store of the published run."""
    places = ["--data", made.data, "--store", made.store, "--plugins", "--json"]
    outcome: dict[str, Any] = json.loads(command("reproduce", *words, *places, code=code).out)
    return outcome


def test_a_run_from_nothing_gives_equal_bytes_twice_and_leaves_nothing(
    made: Made, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path))
    words = ["reproduce", made.results, "--data", made.data, "--plugins", "--json"]
    for _ in range(2):
        outcome = json.loads(command(*words).out)
        assert [one["status"] for one in outcome["records"]] == ["equal", "equal"]
        assert (outcome["embedded"], outcome["reused"], outcome["store"]) == (240, 0, [])
        assert outcome["reproduced"]
    assert not [*(cache_dir() / "reproduce").glob("*")]


def test_one_record_is_compared_alone_and_the_store_is_used(made: Made, command: Command) -> None:
    path = made.published[1].path
    outcome = reproduced(command, made, made.results / path)
    assert [(one["record"], one["status"], one["changed"]) for one in outcome["records"]] == [(path, "equal", [])]
    assert (outcome["embedded"], outcome["reused"]) == (0, 240)


def test_another_prompt_is_named(made: Made, command: Command, tmp_path: Path) -> None:
    given = ["--set", "prompts.templates=['the {}.']", "--store", tmp_path / "store"]
    words = ["reproduce", made.results, "--data", made.data, "--plugins", *given]
    said = command(*words, code=2).out
    assert said.count("first setting that differs: prompts (prompts[0] is 'a photo of a {}.' in the record") == 2
    assert "the hash counts the values given with --set" in said


def test_a_prompt_changed_in_the_recipe_of_a_record_is_named(made: Made, command: Command, tmp_path: Path) -> None:
    def changed(details: Details) -> dict[str, Any]:
        prompts = {**details.recipe["prompts"], "templates": ["the {}."]}
        recipe = {**details.recipe, "prompts": prompts}
        return {"recipe": recipe, "recipe_hash": hash_of(recipe)}

    said = command.refused("reproduce", made.details(changed, tmp_path / "results"), "--data", made.data, "--plugins")
    assert "prompts are a photo of a {}., and its recipe has the {}." in said


def forged(made: Made, count: int) -> tuple[list[Published], list[str]]:
    """Return records in which a method has further images right, and all that follows; and these images."""
    plain, ours = made.published
    assert plain.answers is not None
    assert ours.answers is not None
    answers = ours.answers.copy()
    wrong = np.flatnonzero(answers["label"] != answers["predicted"])[:count]
    answers.loc[wrong, "predicted"] = answers.loc[wrong, "label"]
    numbers = [numbers_of(answered([plain.answers])[0], None), numbers_of(*answered([answers, plain.answers]))]
    made_up = judged_together([replace(plain, numbers=numbers[0]), replace(ours, numbers=numbers[1], answers=answers)])
    return made_up, sorted(answers.loc[wrong, "sample"])


def test_a_forged_record_that_contradicts_nothing_is_found(made: Made, command: Command, tmp_path: Path) -> None:
    records, images = forged(made, 4)
    assert len(images) == 4
    results = made.written(tmp_path / "results", records)
    assert problems_of(read_results(Storage(str(results)))[0], label_of) == []
    outcome = reproduced(command, made, results, code=2)
    found = {one["record"]: one for one in outcome["records"]}
    assert found[records[0].path]["status"] == "equal"
    wrong = found[records[1].path]
    assert (wrong["status"], wrong["changed"], wrong["settings"]) == ("differs", images, [])
    assert outcome["reproduced"] is False


def test_with_other_versions_scores_may_differ_a_little(made: Made, command: Command, tmp_path: Path) -> None:
    def older(details: Details) -> dict[str, Any]:
        return {"versions": {**details.versions, "numpy": "0.1"}}

    outcome = reproduced(command, made, made.details(older, tmp_path / "results"))
    for one in outcome["records"]:
        assert (one["status"], one["tolerance"], one["largest"], one["changed"]) == ("close", 0.005, 0, [])
        assert one["settings"][0].startswith("versions of packages (versions.numpy is '0.1' in the record")


def test_what_a_record_needs_is_asked_for(made: Made, command: Command, tmp_path: Path) -> None:
    said = command.refused("reproduce", made.results, "--plugins")
    assert said.endswith("'toy' is images in a folder; give the folder that holds it with --data.")
    said = command.refused("reproduce", made.results, "--data", made.data)
    assert "'tests.faults.encoder:Blocks' is a plugin, which this command imports only with --plugins" in said
    theirs = {"projection": "imported", "method": "zero_shot (imported)"}
    imported = made.details(lambda _: theirs, tmp_path / "imported")
    said = command.refused("reproduce", imported, "--data", made.data, "--plugins")
    assert "were imported, and no recipe makes them" in said
    later = made.written(tmp_path / "later", [*made.published]) / made.published[0].path
    later.write_text(later.read_text().replace('"record_version": "1"', '"record_version": "99"'))
    assert "Details.record_version: input should be 1" in command.refused("reproduce", later)
    assert "is no record; give a file RESULTS/data/" in command.refused("reproduce", made.store / "gone.json")
    assert "holds no record" in command.refused("reproduce", made.data)


SMALL = {  # as the demo has 27 trials, and is run twice here
    "backbones": [{"name": "MiniLiT", "image_size": 96}],
    "interventions.kinds": [{"name": "grayscale"}],
    "sweep.grids": {},
    "sweep.intervention_sets": [{"name": "all"}],
    "sweep.lambdas": [10],
    "sweep.predictors": ["zero_shot"],
    "sweep.projections": ["identity", "icm", "shrinkage"],
    "sweep.protocols": ["held_out"],
    "sweep.ranks": [64, 256],
}


@pytest.mark.long("the record of a real encoder that its own recipe does not give again, to the byte")
@pytest.mark.usefixtures("local_ray", "demo_set")
def test_records_of_the_demos_images_and_encoder_are_found_again(command: Command, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command("run", "demo", "--store", store, *(f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()))
    about = Publisher("icm-bench", "first_party", {"": "icm-bench/minilit"}, 1_000_000_000)
    publish(load_recipe(packaged_recipe(DEMO), SMALL), Storage(str(store)), about, tmp_path / "results")
    outcome = json.loads(command("reproduce", tmp_path / "results", "--store", tmp_path / "again", "--json").out)
    assert {one["status"] for one in outcome["records"]} == {"equal"}
    assert outcome["embedded"] == 2 * 1704
