"""`icm-bench choose` on a store of synthetic rows: a sentence and a table, JSON, and refusals in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.commands.planning.estimate import embedding_kind
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import load_recipe
from benchmark.store.costs import Cost, remember
from benchmark.store.records import RunRecord, record_file, write_record
from benchmark.store.rows import write_rows
from benchmark.store.tested import write_tested
from tests.commands.conftest import Command
from tests.reports.choose.rows import answers, rows_of
from tests.reports.synthetic import TESTED

NAMES = ("ViT-B-16", "ViT-B-32", "RN50")
SHARES = {"ViT-B-16": (0.85, 0.0, 100.0), "ViT-B-32": (0.85, 0.04, 320.0), "RN50": (0.7, 0.0, 90.0)}


def recipe_in(folder: Path, names: tuple[str, ...] = NAMES) -> str:
    content = {
        "name": "which",
        "datasets": ["PACS"],
        "backbones": [{"name": name, "pretrained": "openai"} for name in names],
        "run": {"store": str(folder / "store")},
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A recipe of three backbones, two of them tied, with rows and costs in its store."""
    file = recipe_in(tmp_path)
    recipe, storage = load_recipe(Path(file)), Storage(str(tmp_path / "store"))
    for spec in recipe.backbones:
        share, flipped, speed = SHARES[spec.name]
        rows: list[dict[str, Any]] = [
            *rows_of(spec.label, answers(share, flipped)),
            *rows_of(spec.label, answers(0.95), protocol="open_class"),
        ]
        write_rows(storage, spec.name, rows)
        for one in rows:
            write_tested(storage, TESTED[one["tested"]])
        of_encoders: dict[str, Any] = {"run": "a run", "device": "cpu", "actors": 1, "cores": 2, "memory": 3 * 2**29}
        remember([storage], [Cost(embedding_kind(spec), 1000.0, 1000.0 / speed, **of_encoders)])
    record = RunRecord("which", {}, recipe.hash(), [*NAMES], 3)
    write_record(storage, record_file(recipe.hash(), ["inputs"]), record)
    return file


def test_sentence_and_table_come_from_the_rows_and_costs_of_a_store(
    file: str, tmp_path: Path, command: Command
) -> None:
    held_out = ["--where", "protocol=held_out"]
    printed = command("choose", file, *held_out, "--out", tmp_path / "out").out
    assert "encodes 3.2 times as many images a second: choose ViT-B-32 openai." in " ".join(printed.split())
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert (tmp_path / "out/tables/choose.tex").is_file()
    assert (tmp_path / "out/figures/choose.pdf").is_file()
    found = command.json("choose", file, *held_out)
    assert (found["chosen"], found["tied"]) == ("ViT-B-32 openai", ["ViT-B-16 openai", "ViT-B-32 openai"])
    assert {one["memory"] for one in found["backbones"]} == {3 * 2**29}
    assert Path(found["report"]).parent == tmp_path / "store" / "reports"
    assert all(Path(name).is_file() for name in found["files"])


def test_what_cannot_be_answered_is_refused_in_one_sentence(file: str, tmp_path: Path, command: Command) -> None:
    assert "--where protocol=VALUE" in command.refused("choose", file)  # rows of two protocols
    (tmp_path / "one").mkdir()
    assert "has one backbone, RN50 openai" in command.refused("choose", recipe_in(tmp_path / "one", ("RN50",)))
    never = command.refused("choose", file, "--store", str(tmp_path / "empty"))
    assert "holds no results of the recipe 'which'" in never
    only = command.refused("choose", file, "--where", "backbone=RN50 openai", "--where", "protocol=held_out")
    assert "there are rows of 'RN50 openai' alone" in only
