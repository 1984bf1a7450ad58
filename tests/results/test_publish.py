"""What is published: complete, without places, the same bytes a second time, and refused where something is missing."""

import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.commands.gather import rows_of
from benchmark.commands.results.publish import publisher, records_of, sample_ids
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import load_recipe
from benchmark.recipe.recipe import hash_of
from benchmark.results.answers import COLUMNS, Heading, of_jsonl, to_jsonl
from benchmark.results.records import Details, Published
from reports.analysis.findings import comparisons
from reports.analysis.selections import Predicted, Selections
from reports.analysis.settings import Options, by_setting
from reports.analysis.verdicts import answer
from tests.commands.conftest import Command
from tests.results.conftest import SWEEPS, WHO


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return file -> content of all files in a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def in_memory(swept: Path, name: str) -> list[Published]:
    """Return the records of a recipe."""
    who = publisher(["acme/tiny"], "first_party", "Acme")
    return records_of(load_recipe(swept / f"{name}.json"), Storage(str(swept / "store")), who)


def test_publishing_again_changes_no_byte(
    results: Path, swept: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, later = bytes_of(results), time.time() + 1e6
    monkeypatch.setattr(time, "time", lambda: later)
    for name in SWEEPS:
        said = command.json("publish", swept / f"{name}.json", "--to", results, *WHO)
        assert said["written"] == []
        assert {*said["records"]} < {*before}
    assert bytes_of(results) == before


@pytest.mark.parametrize("writes", [0, 1, 2, 7])
def test_a_killed_publication_leaves_whole_files_and_the_next_one_completes_it(
    writes: int, published: Path, swept: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = Storage.write_bytes, [writes]

    def dying(self: Storage, name: str, content: bytes) -> None:
        left[0] -= name == "results.csv" or name.startswith("data/")
        if left[0] < 0:
            raise KeyboardInterrupt
        write(self, name, content)

    words = ("publish", swept / "folds.json", "--to", tmp_path / "results", *WHO)
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "write_bytes", dying)
        command(*words, code=130)
    whole, found = bytes_of(published), bytes_of(tmp_path / "results")
    assert len(found) == writes
    for name, content in found.items():
        kept = json.loads(whole[name]) | {"retrieved_timestamp": ""} if name.endswith(".json") else whole[name]
        assert (json.loads(content) | {"retrieved_timestamp": ""} if name.endswith(".json") else content) == kept
    command(*words)
    command("results", "check", tmp_path / "results")


def test_records_have_no_place_and_their_recipe_has_its_hash(published: Path, swept: Path) -> None:
    for name, content in bytes_of(published).items():
        assert str(swept).encode() not in content, name
        if name.endswith(".json"):
            details = json.loads(content)["eval_library"]["additional_details"]
            recipe, shortened = json.loads(details["recipe"]), json.loads(details["shortened"])
            assert shortened == ["backbones.0.folder"]
            recipe["backbones"][0]["folder"] = str(swept / "tiny")
            assert (
                hash_of(recipe)
                == details["recipe_hash"]
                == load_recipe(swept / f"{details['recipe_name']}.json").hash()
            )


def test_answers_come_back_from_their_lines(swept: Path) -> None:
    for one in in_memory(swept, "halves"):
        assert one.answers is not None
        back = of_jsonl(to_jsonl(one.answers, one.heading), "x", one.heading)
        assert one.heading == Heading(one.record["evaluation_id"], "acme/tiny", "toy", one.details.rule)
        pd.testing.assert_frame_equal(back, one.answers[COLUMNS])
        assert Details.of_strings(one.details.to_strings(), "x") == one.details


def test_every_image_is_answered_once_in_each_test(swept: Path) -> None:
    images = sorted(str(file.relative_to(swept / "toy")) for file in (swept / "toy").rglob("*.png"))
    for one in in_memory(swept, "folds"):
        assert one.answers is not None
        assert sorted(one.answers["sample"].tolist()) == images
        assert one.answers["label"].tolist() == [name.split("/")[1] for name in one.answers["sample"].tolist()]
        assert one.answers["environment"].tolist() == [name.split("/")[0] for name in one.answers["sample"].tolist()]
        assert {*one.answers["fold"]} == {0, 1, 2}


@pytest.mark.parametrize("name", ["folds", "halves"])
def test_numbers_and_verdicts_are_those_of_the_report(name: str, swept: Path) -> None:
    recipe, storage = load_recipe(swept / f"{name}.json"), Storage(str(swept / "store"))
    gathered, *_ = rows_of(recipe, storage)
    predicted = Predicted(gathered.rows)
    results = [(s, Selections(rows, gathered.tested, predicted)) for s, rows in by_setting(gathered.rows)]
    every = answer(results, [comparisons(setting, one, Options()) for setting, one in results]).verdicts
    of = {(one.setting.class_half, one.method.label): one for one in every}
    for one in in_memory(swept, name):
        if one.details.verdict:
            verdict = of.pop((one.details.class_half, one.details.method))
            intervals = {number.id: number for number in one.numbers}
            assert one.details.verdict == verdict.kind_label
            assert verdict.gain is not None
            assert verdict.balanced is not None
            pairs = [
                (intervals[f"gain_in_accuracy/{e}"], i)
                for e, i in zip(verdict.gain.held_outs, verdict.gain.single, strict=True)
            ]
            pairs += [(intervals["gain_in_accuracy"], verdict.gain.interval)]
            for mine, reported in [*pairs, (intervals["gain_in_balanced_accuracy"], verdict.balanced.interval)]:
                values = [[getattr(of, name) for name in vars(reported)] for of in (mine, reported)]
                np.testing.assert_allclose(values[0], values[1], rtol=1e-12, atol=1e-14)  # sums in another order
            assert intervals["accuracy"].estimate == pytest.approx(verdict.accuracy, abs=1e-12)
    assert of == {}


def test_bounds_are_marked_and_have_no_verdict(swept: Path) -> None:
    for one in in_memory(swept, "folds"):
        bound = one.details.protocol == "in_domain"
        assert one.details.looks_at_target is bound
        assert bool(one.details.verdict) is (not bound and one.details.projection != "identity")


def test_another_metric_than_accuracy_has_no_verdict(swept: Path) -> None:
    of = {one.details.method: one.details for one in in_memory(swept, "f1")}
    assert {details.metric for details in of.values()} == {"macro_f1"}
    assert {details.verdict for details in of.values()} == {""}
    assert "the metric of the data set is macro-F1" in of["CLIP-ICM + zero-shot"].why


def test_the_table_has_a_line_for_each_record(published: Path) -> None:
    with (published / "results.csv").open(newline="") as stream:
        lines = {line["file"]: line for line in csv.DictReader(stream)}
    files = {str(file.relative_to(published)): file for file in (published / "data").rglob("*.json")}
    assert [*lines] == sorted(files)
    for name, line in lines.items():
        record: dict[str, Any] = json.loads(files[name].read_text())
        of = {one["evaluation_result_id"]: one["score_details"]["score"] for one in record["evaluation_results"]}
        assert float(line["accuracy"]) == of["accuracy"]
        assert line["gain_in_accuracy"] == ("" if "gain_in_accuracy" not in of else str(of["gain_in_accuracy"]))
        assert (line["model_id"], line["organization"]) == ("acme/tiny", "Acme")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "publish needs --relationship to the encoder, one of first_party, third_party, collaborative, other"),
        (("--relationship", "other"), "publish needs --organization NAME"),
        (WHO[2:], "publish needs the id of 'tiny' as developer/model, not '': --model-id 'tiny=laion/CLIP"),
        (("--model-id", "tiny", *WHO[2:]), "publish needs the id of 'tiny' as developer/model, not 'tiny'"),
        (("--model-id", "a/..", *WHO[2:]), "publish needs the id of 'tiny' as developer/model, not 'a/..'"),
        (("--model-id", "other=acme/tiny", *WHO[2:]), "--model-id 'other=...': the recipe's encoders are tiny"),
        ((*WHO[:-1], "Other"), "is published by 'Acme'; publish into another folder with --to"),
    ],
)
def test_what_is_missing_is_asked_for(
    words: tuple[str, ...], said: str, results: Path, swept: Path, command: Command
) -> None:
    before = bytes_of(results)
    assert said in command.refused("publish", swept / "folds.json", "--to", results, *words)
    assert bytes_of(results) == before


def test_an_unfinished_run_is_refused(swept: Path, tmp_path: Path, command: Command) -> None:
    shutil.copytree(swept / "store", tmp_path / "store")
    recipe = load_recipe(swept / "folds.json")
    gathered, *_ = rows_of(recipe, Storage(str(tmp_path / "store")))
    (tmp_path / "store" / "rows" / f"{gathered.rows['trial_id'].iloc[0]}.parquet").unlink()
    words = ("publish", swept / "folds.json", "--store", tmp_path / "store", "--to", tmp_path / "results", *WHO)
    assert "trials of 'folds' have rows, and publish needs all" in command.refused(*words)


def test_images_are_named_by_their_path_inside_the_data_set_else_by_their_id() -> None:
    paths = ["a/x.png", "/srv/me/y.png", "s3://b/z.png", "C:\\w.png", ""]
    names = sample_ids(paths, [f"id{i}" for i in range(5)], ["e"] * 5)
    assert names == ["a/x.png", "id1", "id2", "id3", "id4"]
    twice = sample_ids(["x.png", "x.png", "x.png"], ["1", "2", "2"], ["a", "b", "b"])
    assert twice == ["a/x.png", "b/x.png", "b/x.png#2"]
    assert len(np.unique(twice)) == 3
