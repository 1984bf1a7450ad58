"""`icm-bench results board`: its files and what it refuses. All answers are made up."""

import json
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.results.packed import write_packed
from tests.performance.bench_board import MAX_BYTES, made_up


def test_it_writes_a_page_and_the_same_numbers_as_csv_with_equal_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_packed(tmp_path, made_up(20, 3, 5, 400, bounds=2))
    seen = set()
    for _ in range(2):
        assert main(["results", "board", str(tmp_path), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["page"] == str(tmp_path / "board.html")
        assert (told["datasets"], told["entries"], told["lines"]) == (3, 102, 4 * 102)
        seen.add((Path(told["page"]).read_bytes(), Path(told["csv"]).read_bytes()))
    ((page, csv),) = seen
    assert len(page) < MAX_BYTES
    assert b"MADE UP" in page
    assert len(csv.splitlines()) == 1 + told["lines"]
    assert {file.name for file in tmp_path.iterdir()} == {"board.html", "board.csv", "packed"}


def test_without_packed_answers_it_says_what_to_run_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "board", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"has no packed answers; run `icm-bench results check {tmp_path}` first.")
    write_packed(tmp_path, {})
    assert main(["results", "board", str(tmp_path)]) == 2
    assert "has answers of single images" in capsys.readouterr().err
    write_packed(tmp_path, made_up(2, 1, 1, 100))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/later.json").write_text("{}")
    assert main(["results", "board", str(tmp_path)]) == 2
    assert "are older than its records" in capsys.readouterr().err
    assert not (tmp_path / "board.html").exists()
