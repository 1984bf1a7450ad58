"""Cases that a stranger drew up from the pages alone, and that nobody else's table has: one sentence each, before anything is embedded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.backbones.loading import check_finite
from benchmark.cli import main
from benchmark.commands.stores import check_data
from benchmark.common.errors import IcmBenchError
from benchmark.common.terminal.escaping import MAX_SENTENCE, shortened
from benchmark.embedding.opening import UnreadableImage, opened
from benchmark.recipe.loading import parse_recipe
from tests.conftest import make_toy

LINES = [f"env{e}/{c}/{i}.png,{c},env{e}" for e in range(3) for c in ("cat", "dog") for i in range(6)]
HEAD = "path,label,environment"
TABLE = {"layout": "table", "table": "list.csv"}


@pytest.mark.parametrize(
    ("table", "more", "words", "phrase"),
    [
        pytest.param(f"{HEAD}\n", TABLE, [], "list.csv lists no images below its head", id="t31"),
        pytest.param("\n".join([HEAD, *LINES]).replace(",", ";"), TABLE, [], "columns apart by ';'", id="t28"),
        pytest.param("\n".join([HEAD, *LINES]).replace(",", "\t"), TABLE, [], "columns apart by '\\t'", id="t28-tabs"),
        pytest.param(f"{'x' * 9_000},label\na,b\n", TABLE, [], "say in columns.path which it is", id="found-long"),
        pytest.param(None, {}, ["--out", "toy/report"], "run.out: toy/report is in", id="c48"),
        pytest.param(None, {}, ["--store", ""], "--store is empty; give a folder or URI", id="c51"),
        pytest.param(None, {}, ["--out", "toy"], "run.out: toy is in", id="c48-itself"),
        pytest.param(None, {}, ["--store", "toy/store"], "run.store: toy/store is in", id="c48-store"),
    ],
)
def test_a_case_is_one_sentence(
    table: str | None, more: dict[str, Any], words: list[str], phrase: str, toy_root: Path, tmp_path: Path,
    tiny_random: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if table is not None:
        (toy_root / "list.csv").write_text(table)
    recipe = {"name": "r", "datasets": [{"name": "toy", "root": str(toy_root), **more}], "backbones": [tiny_random]}
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["plan", "r.yaml", *(words or ["--store", "store"])]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert phrase in said
    assert len(said) <= MAX_SENTENCE + len("icm-bench: ")


def test_a_report_may_lie_beside_the_folder_of_a_data_set(tmp_path: Path, tiny_random: dict[str, Any]) -> None:
    make_toy(tmp_path / "data" / "toy")
    places = {"out": str(tmp_path / "data" / "toy2"), "store": str(tmp_path / "data" / "store")}
    dataset = {"name": "toy", "root": str(tmp_path / "data")}
    recipe = parse_recipe({"name": "r", "datasets": [dataset], "backbones": [tiny_random], "run": places})
    check_data(recipe)


@pytest.mark.parametrize("command", [["report"], ["choose"], ["details"], ["report", "r.yaml"]])
def test_no_command_writes_a_report_into_the_folder_of_a_data_set(
    command: list[str], toy_root: Path, tmp_path: Path, tiny_random: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    recipe = {"name": "r", "datasets": [{"name": "toy", "root": str(toy_root)}], "backbones": [tiny_random]}
    Path("r.yaml").write_text(json.dumps(recipe))
    before = sorted(toy_root.rglob("*"))
    assert main([*command, "r.yaml", "--store", "store", "--out", "toy/report"]) == 2
    assert "run.out: toy/report is in" in capsys.readouterr().err
    assert sorted(toy_root.rglob("*")) == before


def test_embeddings_that_are_no_numbers_are_refused_with_backbone_and_image() -> None:
    """Case w45: weights with NaN; r08: a normalisation that overflows."""
    z = np.ones((3, 2, 4), np.float32)
    check_finite(z, "ViT", ["a", "b", "c"])
    z[1, 0, 3] = np.inf
    with pytest.raises(IcmBenchError, match=r"ViT gives NaN or infinite values for 'b'.*mend that backbone"):
        check_finite(z, "ViT", ["a", "b", "c"])


def test_a_sentence_that_quotes_at_length_keeps_place_and_remedy() -> None:
    said = shortened(f"r.yaml: sweep: not {'x' * 9_000}; give a number.")
    assert said.startswith("r.yaml: sweep: not x")
    assert said.endswith("x; give a number.")
    assert len(said) < MAX_SENTENCE
    assert shortened("short.") == "short."


def test_a_damaged_image_of_a_format_that_was_added_is_called_damaged() -> None:
    content = b"\0\0\0\x1cftypavif" + bytes(40)
    with pytest.raises(UnreadableImage, match=r"MPO, AVIF, or a damaged one"), opened(content, ("AVIF",)):
        pass
    with pytest.raises(UnreadableImage, match=r"it is of the format AVIF, and not"), opened(content):
        pass


@pytest.mark.parametrize(
    "content", [b"c", b"ca", b"cat", b"\0\0\0", b"\xff\xd8\xff", b"II*", b"\x93NU", b"0123456789abcde"]
)
def test_a_file_of_a_few_bytes_is_a_bad_image(content: bytes) -> None:
    """Of some of Pillow's formats three bytes cannot be looked at: such a file ended a run."""
    with pytest.raises(UnreadableImage), opened(content):
        pass
