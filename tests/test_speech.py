"""What a command says and how it ends: -q, -v, errors under --json, SIGTERM."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.cli import main
from benchmark.common.errors import IcmBenchError, OutcomeError
from benchmark.common.terminal import progress as speech
from benchmark.common.terminal.progress import Progress
from tests.conftest import REPOSITORY
from tests.test_cli import write_recipe

NOWHERE = ["plan", "/nowhere.yaml"]
Plan = Callable[[Callable[[object], None]], None]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Take a function that is the command `plan` for as long as the test lasts."""
    return lambda command: monkeypatch.setitem(cli.COMMANDS, "plan", command)


def test_an_error_under_json_is_json_and_keeps_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*NOWHERE, "--json"]) == 2
    output, error = capsys.readouterr()
    (said,) = error.splitlines()
    assert json.loads(output) == {"error": said.removeprefix("icm-bench: ")}
    assert "/nowhere.yaml cannot be read" in said
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "--nonsense", "--json"])
    assert "--nonsense" in json.loads(capsys.readouterr().out)["error"]
    assert main(NOWHERE) == 2
    assert capsys.readouterr().out == ""


def test_an_outcome_that_tells_of_failures_is_the_only_json(capsys: pytest.CaptureFixture[str], plan: Plan) -> None:
    def failing(_: object) -> None:
        print(json.dumps({"failed": {"a trial": "a reason"}}))
        raise OutcomeError("1 of 2 trials failed")

    plan(failing)
    assert main([*NOWHERE, "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {"failed": {"a trial": "a reason"}}


def test_verbose_shows_how_one_came_to_a_refusal_and_quiet_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*NOWHERE, "-v"]) == 2
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert last.startswith("icm-bench: The recipe /nowhere.yaml cannot be read")
    assert main([*NOWHERE, "-q"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert os.environ.get("ICM_BENCH_SPEECH") is None  # nothing of it is left for whoever calls `main`


def test_quiet_silences_notes_and_progress_and_leaves_the_result(
    toy_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy_root / "env0" / "cat" / "again.png").write_bytes((toy_root / "env0" / "cat" / "0.png").read_bytes())
    for options, lines in (([], 1), (["-q"], 0)):
        assert main(["init", str(toy_root), "--out", str(tmp_path / f"{lines}.yaml"), *options]) == 0
        output, error = capsys.readouterr()
        assert "a first recipe" in output
        assert error.count("images repeat the bytes of another one") == len(error.splitlines()) == lines


def test_progress_is_silent_where_it_is_asked_to_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Progress, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(Progress, "LOG_SECONDS", -1.0)
    levels: dict[speech.Verbosity, int] = {"quiet": 0, "normal": 3}
    for level, count in levels.items():
        with speech.verbosity(level):
            progress = Progress("counting", 2, "things")
            progress.update()
            progress.notify("half")
            progress.close()
        assert len(capsys.readouterr().err.splitlines()) == count


WAITING = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run below nohup
from benchmark import cli
def waiting(args):
    try:
        print("started", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
cli.COMMANDS["plan"] = waiting
sys.exit(cli.main(["plan", "x", "--json"]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_sigterm_ends_a_command_as_an_interrupt_does(number: int, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    began = time.monotonic()
    process.send_signal(number)
    output, error = process.communicate(timeout=30)
    assert process.returncode == code
    assert time.monotonic() - began < 3
    assert output.splitlines()[0] == "cleaned up"
    assert json.loads(output.splitlines()[1])["error"].startswith("interrupted; finished work is kept")
    assert error == "icm-bench: interrupted; finished work is kept, run the same command to go on.\n"


def test_the_handler_of_sigterm_is_given_back(plan: Plan) -> None:
    before, during = signal.getsignal(signal.SIGTERM), []

    def refusing(_: object) -> None:
        during.append(signal.getsignal(signal.SIGTERM))
        raise IcmBenchError("no.")

    plan(refusing)
    assert main(NOWHERE) == 2
    assert during != [before]
    assert signal.getsignal(signal.SIGTERM) is before


def test_commands_that_write_for_others_overwrite_nothing_unasked(
    toy_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before anything is loaded: the recipe's weights do not even exist."""
    weights = {"name": "ViT-B-32", "pretrained": "/nowhere.pt"}
    recipe, out = write_recipe(tmp_path, toy_root, weights), tmp_path / "out"
    out.mkdir()
    names = ("projection.json", "diagnostics.md", "embeddings.parquet", "splits.csv")
    for name in names:
        (out / name).write_text("mine")
    splits = ["splits", recipe, "--to", str(out / "splits.csv")]
    of_folder = (["export", "--rank", "2", "--to"], ["diagnose", "--out"], ["export-embeddings", "--to"])
    for words in (splits, *([*words, str(out), recipe] for words in of_folder)):
        assert main(words) == 2
        assert "is there already and is not overwritten; give another --" in capsys.readouterr().err, words
    assert {(out / name).read_text() for name in names} == {"mine"}
    assert main([*splits, "--overwrite"]) == 0
    assert (out / "splits.csv").read_text().startswith('"dataset","image"')
