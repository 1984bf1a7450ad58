"""What a command says and how it ends: -q, -v, errors under --json, SIGTERM."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.cli import main
from benchmark.command_line import command_parser
from benchmark.common import speech
from benchmark.common.errors import IcmBenchError, OutcomeError
from benchmark.common.progress import Progress
from tests.conftest import REPOSITORY

NOWHERE = ["plan", "/nowhere.yaml"]


def test_an_error_under_json_is_json_on_standard_output_and_keeps_its_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
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


def test_an_outcome_that_tells_of_failures_is_the_only_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(args: object) -> None:  # noqa: ARG001
        print(json.dumps({"failed": {"a trial": "a reason"}}))
        raise OutcomeError("1 of 2 trials failed")

    monkeypatch.setitem(cli.COMMANDS, "plan", failing)
    assert main([*NOWHERE, "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {"failed": {"a trial": "a reason"}}


def test_what_nobody_foresaw_is_json_too_and_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(args: object) -> None:  # noqa: ARG001
        raise RuntimeError("unforeseen")

    monkeypatch.setitem(cli.COMMANDS, "plan", failing)
    with pytest.raises(RuntimeError):
        main([*NOWHERE, "--json"])
    assert json.loads(capsys.readouterr().out) == {"error": "RuntimeError: unforeseen"}


def test_verbose_shows_how_one_came_to_a_refusal_and_quiet_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*NOWHERE, "-v"]) == 2
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "FileNotFoundError" in said
    assert said.splitlines()[-1].startswith("icm-bench: The recipe /nowhere.yaml cannot be read")
    assert main([*NOWHERE, "-q"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert os.environ.get("ICM_BENCH_SPEECH") is None  # nothing of it is left for whoever calls `main`


def test_quiet_silences_notes_and_progress_and_leaves_the_result(
    toy_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy_root / "env0" / "cat" / "again.png").write_bytes((toy_root / "env0" / "cat" / "0.png").read_bytes())
    said = []
    for number, options in enumerate(([], ["-q"])):
        assert main(["init", str(toy_root), "--out", str(tmp_path / f"{number}.yaml"), *options]) == 0
        output, error = capsys.readouterr()
        assert "a recipe to start with" in output
        said.append(error)
    assert "images repeat the bytes of another one" in said[0]
    assert said[1] == ""


def test_progress_is_silent_where_it_is_asked_to_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Progress, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(Progress, "LOG_SECONDS", -1.0)
    for level, count in (("quiet", 0), ("normal", 3)):
        with speech.speaking("quiet" if level == "quiet" else "normal"):
            progress = Progress("counting", 2, "things")
            progress.update()
            progress.notify("half")
            progress.close()
        assert len(capsys.readouterr().err.splitlines()) == count


def test_every_command_takes_quiet_verbose_and_json() -> None:
    (commands,) = (action for action in command_parser()._actions if action.choices)
    for name, sub in dict(commands.choices).items():  # type: ignore[arg-type]
        flags = {flag for action in sub._actions for flag in action.option_strings}
        assert flags >= {"--quiet", "--verbose", "--json"}, name


WAITING = """
import sys, time
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
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
    assert json.loads(output.splitlines()[1])["error"].startswith("interrupted; what is finished is kept")
    assert error == "icm-bench: interrupted; what is finished is kept, run the same command to go on.\n"


def test_the_handler_of_sigterm_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    during = []

    def refusing(args: object) -> None:  # noqa: ARG001
        during.append(signal.getsignal(signal.SIGTERM))
        raise IcmBenchError("no.")

    monkeypatch.setitem(cli.COMMANDS, "plan", refusing)
    assert main(NOWHERE) == 2
    assert during != [before]
    assert signal.getsignal(signal.SIGTERM) is before


def test_commands_that_write_for_others_overwrite_nothing_unasked(
    toy_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before anything is loaded: the recipe's weights do not even exist."""
    recipe = tmp_path / "recipe.yaml"
    weights = "{name: ViT-B-32, pretrained: /nowhere.pt}"
    recipe.write_text(
        f"name: toy\ndatasets: [{{name: toy, root: '{toy_root}'}}]\nbackbones: [{weights}]\nrun: {{store: '{tmp_path}/s'}}\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    names = ("projection.json", "diagnostics.md", "embeddings.parquet", "splits.csv")
    for name in names:
        (out / name).write_text("mine")
    for command in (
        ["export", "--rank", "2", "--to", str(out)],
        ["diagnose", "--out", str(out)],
        ["export-embeddings", "--to", str(out)],
        ["splits", "--to", str(out / "splits.csv")],
    ):
        assert main([command[0], str(recipe), *command[1:]]) == 2
        assert "is there already and is not overwritten; give another --" in capsys.readouterr().err, command
    assert {(out / name).read_text() for name in names} == {"mine"}
    assert main(["splits", str(recipe), "--to", str(out / "splits.csv"), "--overwrite"]) == 0
    assert (out / "splits.csv").read_text().startswith('"dataset","image"')


def test_a_plan_loads_nothing_that_it_does_without(toy_root: Path, tmp_path: Path) -> None:
    """So that it answers within two seconds: Ray, PyTorch and SciPy take a third of a second, seconds and a fifth."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: toy\ndatasets: [{{name: toy, root: '{toy_root}'}}]\nbackbones: [MiniLiT]\n")
    code = (
        "import sys\nfrom benchmark.cli import main\n"
        f"assert main(['plan', {str(recipe)!r}, '--store', {str(tmp_path / 's')!r}]) == 0\n"
        "sys.exit(','.join({'ray', 'torch', 'scipy', 'sklearn', 'matplotlib', 'open_clip'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    assert "result rows" in done.stdout
