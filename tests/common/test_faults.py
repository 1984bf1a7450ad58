"""A mistake of this package ends a command in one sentence and exit code 70, and its traceback lies in a file.

What the machine or an input refuses is none: it ends with exit code 2.
"""

import errno
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmark import cli
from benchmark.cli import COMMANDS, main
from benchmark.commands import report
from benchmark.commands.cluster.submit import _ended
from benchmark.common.errors import FaultError, IcmBenchError
from benchmark.common.failing import during, faults_collected, outcome_of
from benchmark.common.plain import canonical_hash
from benchmark.common.storage import files as storage
from benchmark.embedding import pipeline
from benchmark.embedding.chunks import Chunk
from benchmark.embedding.stages import results, run_stage
from tests.test_cli import VIT, write_recipe
from tests.test_speech import NOWHERE

SECRET = "hunter2hunter2/x"
FAULT = "ended by a bug of icm-bench: "
# What each command needs beside its name.
WORDS = {
    "import": ["recipe.yaml", "file.csv"], "import-embeddings": ["file.npz", "--name", "x"], "init": ["folder"],
    "export-embeddings": ["recipe.yaml", "--to", "x"], "splits": ["recipe.yaml", "--to", "x.csv"],
    **{name: ["recipe.yaml"] for name in ("submit", "choose", "export", "diagnose")},
    "publish": ["recipe.yaml", "--to", "x"], "results": ["check", "x"], "reproduce": ["x"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MY_API_TOKEN", SECRET)
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "faults"


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Take an error that the command `plan` raises."""

    def failing(error: BaseException) -> None:
        def command(_: object) -> None:
            with during("reading a/b.jpg"):
                raise error

        monkeypatch.setitem(COMMANDS, "plan", command)

    return failing


def nothing(*_: object) -> Any:
    return json.loads("{}")[f"s3://KEY:{SECRET}@bucket"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_so(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, name, nothing)
    assert main([name, *WORDS.get(name, ())]) == 70
    out, err = capsys.readouterr()
    (file,) = cache.iterdir()
    assert out == ""
    assert len(err.splitlines()) == 1
    for part in (
        f"`icm-bench {name}",
        FAULT,
        "KeyError",
        f"the traceback is in {file}",
        "finished rows and embeddings are kept",
    ):
        assert part in err
    trace = file.read_text()
    assert "Traceback" in trace
    assert "in nothing" in trace
    assert SECRET not in trace + err


# Faults that the test injects; each must end with exit code 70. None marks anything unfinished.
@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), RecursionError(), AssertionError("odd"), UnicodeError(), NotImplementedError()]
)
def test_under_json_its_kind_and_file_are_said_and_verbose_shows_the_traceback(
    error: Exception, cache: Path, plan: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    plan(error)
    assert main(["plan", "a.yaml", "--json"]) == 70
    out, err = capsys.readouterr()
    (file,) = cache.iterdir()
    assert json.loads(out) == {"error": err.removeprefix("icm-bench: ").strip(), "kind": "fault", "path": str(file)}
    assert "`icm-bench plan a.yaml`" in err
    assert "while reading a/b.jpg" in err
    assert "Traceback" not in err
    plan(type(error)(*error.args))
    assert main(["plan", "a.yaml", "-v"]) == 70
    assert "Traceback" in capsys.readouterr().err
    assert list(cache.iterdir()) == [file]  # the same fault, the same file


def test_where_no_file_can_be_written_the_traceback_is_printed(
    cache: Path, plan: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    cache.parent.write_text("no folder")
    plan(ZeroDivisionError(SECRET))
    assert main(["plan", "a.yaml", "--json"]) == 70
    out, err = capsys.readouterr()
    assert json.loads(out)["path"] is None
    *trace, said = err.splitlines()
    assert trace[0].startswith("Traceback")
    assert "the traceback is above" in said
    assert SECRET not in out + err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 2, "/data/x fails while reading a/b.jpg"),
        (OSError("Corrupt snappy compressed data."), 2, "Corrupt snappy"),
        (MemoryError(), 2, "This machine ran out of memory while reading a/b.jpg"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "This machine ran out of memory"),
        (IcmBenchError("No."), 2, "icm-bench: No."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 141, ""),
        (FaultError("KeyError at x.py:1", "Traceback of a worker"), 70, "KeyError at x.py:1"),
    ],
)
def test_what_the_machine_refuses_is_no_fault(
    error: BaseException, code: int, said: str, cache: Path, plan: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plan(error)
    assert main(["plan", "a.yaml"]) == code
    assert said in capsys.readouterr().err
    assert cache.exists() == (code == 70)


@pytest.mark.parametrize("own", [True, False])
def test_a_fault_of_a_thread_ends_a_command_so_when_its_work_is_done(
    own: bool, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def watching() -> None:
        with faults_collected():
            raise OSError("a store that does not answer")
        with faults_collected():
            nothing()

    def command(_: object) -> None:
        thread = threading.Thread(target=canonical_hash, args=(b"",)) if own else threading.Thread(target=watching)
        thread.start()
        thread.join()
        print("the result")

    monkeypatch.setitem(COMMANDS, "plan", command)
    assert main(["plan", "a.yaml"]) == 70
    out, err = capsys.readouterr()
    assert out == "the result\n"
    assert len(err.splitlines()) == 1
    assert FAULT in err
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setitem(COMMANDS, "plan", lambda _: None)
    assert main(["plan", "a.yaml"]) == 0  # nothing is left of it


def test_a_fault_of_a_stage_names_the_image_and_brings_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "model_input", nothing)
    monkeypatch.setattr(pipeline, "_still_missing", lambda *_: 1)
    chunk = Chunk(0, 1, pa.RecordBatch.from_pydict({"path": ["a/0.jpg"], "image_id": ["x"]}))
    work: Any = Work()
    table = run_stage(lambda _: pipeline._decoded(chunk, work), pa.table({"x": [1]}), pa.schema({"x": pa.int64()}))

    class Stage:
        def iter_batches(self, **_: Any) -> Any:
            yield table

    with pytest.raises(FaultError, match=r"KeyError .* while reading a/0.jpg") as error:
        next(results(Stage()))
    assert "in nothing" in error.value.trace
    assert SECRET not in error.value.trace + str(error.value)
    assert outcome_of(error.value) is error.value


class Work:
    """As `pipeline.Work`, of images without a place."""

    views, views_in = ("original",), pipeline.Work.views_in

    class decoding:
        at_source, reduced = False, False

    class geometry:
        size = (1, 1)

    class reader:
        formats = ()

        @staticmethod
        def read(_: object) -> list[bytes]:
            return [b"an image"]


@pytest.mark.parametrize("as_json", [True, False])
def test_trials_that_failed_by_a_fault_end_a_command_so(
    as_json: bool, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"one": "tests.broken:Raises raised", "two": "KeyError ('x') at a.py:1"}
    outcome = report.Outcome(
        0, 0, {}, 3, 9, failed, {"two": "Traceback of it"}, "out", [], "", [], [], built=True, text="the table"
    )
    monkeypatch.setitem(COMMANDS, "plan", lambda args: cli._print_outcome(outcome, args.json))
    assert main(["plan", "a.yaml", *["--json"] * as_json]) == 70
    out, err = capsys.readouterr()
    (file,) = cache.iterdir()
    assert "2 of 5 trials failed, the first by a bug of icm-bench (two) with: KeyError ('x') at a.py:1" in err
    assert file.read_text().endswith("Traceback of it")
    if as_json:
        said = json.loads(out)
        assert (said["kind"], said["path"], said["failed"], "faults" in said) == ("fault", str(file), failed, False)
    else:
        assert out == "the table\n"


def test_submit_passes_the_code_of_a_job_on() -> None:
    class Info:
        submission_id, status, driver_exit_code, message = "demo-1", "FAILED", 70, ""

    assert _ended(Info()).exit_code == 70


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(
            ['datasets.0.root="/tmp/a\\0b"'], "'datasets.0.root' holds the control character U+0000", id="bad-8-root"
        ),
        pytest.param(['name="a\\0b"'], "'name' holds the control character U+0000", id="bad-8-name"),
        pytest.param(
            ["backbones.0={name: 'hf:../no/such'}"], "'../no/such' is no folder and no name on the", id="bad-8-hf"
        ),
        pytest.param(["backbones.0={name: 'hf:/no/such'}"], "'/no/such' is no folder", id="bad-8-hf-folder"),
        pytest.param(["backbones.0={name: 'hf:a/b/c'}"], "'a/b/c' is no folder", id="bad-8-hf-three"),
    ],
)
def test_what_ended_in_a_traceback_names_its_place(
    options: list[str], said: str, tmp_path: Path, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for option in options for word in ("--set", option)]
    assert main(["plan", write_recipe(tmp_path, toy_root, VIT), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("action", ["list", "verify", "repair", "clean"])
def test_a_store_that_may_not_be_read_is_named(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(*_: object) -> None:  # as Arrow says it; a test that is run by root may read everything
        raise PermissionError("[Errno 13] Cannot list directory 'x'. Detail: [errno 13] Permission denied")

    monkeypatch.setattr(storage, "with_retries", denied)
    assert main(["store", action, "--store", str(tmp_path)]) == 2  # bad-8
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"icm-bench: {tmp_path}")
    assert "cannot be read (Permission denied)" in line


@pytest.mark.parametrize(
    ("stream", "place", "code", "said"),
    [
        pytest.param("stdout", None, 2, "Standard output is closed", id="bad-8-closed"),
        pytest.param("stdout", "/dev/full", 2, "Standard output cannot be written (No space", id="poor-command-line-full"),
        pytest.param("stderr", None, 0, "", id="bad-8-closed-error"),
        pytest.param("stderr", "/dev/full", 0, "", id="poor-command-line-full-error"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("words", [["datasets"], ["recipes", "--json"], ["recipes"]])
def test_a_stream_that_takes_nothing_is_said_where_somebody_hears_it(
    stream: str, place: str | None, code: int, said: str, words: list[str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if place and not os.access(place, os.W_OK):
        pytest.skip("there is no full device here")
    file = Path(place).open("w") if place else None  # noqa: SIM115
    with monkeypatch.context() as patched:
        patched.setattr(sys, stream, file)
        assert main(words) == code
    if file:
        file.close()
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in err
    assert bool(out) == (stream == "stderr")


@pytest.mark.parametrize(
    ("words", "said"), [(["--help"], "output cannot be written"), ([*NOWHERE, "--json"], "nowhere.yaml cannot be read")]
)
def test_help_and_errors_that_cannot_be_written_are_said(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_name_that_an_encoding_lacks_is_printed_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as ascii_:
        monkeypatch.setattr(sys, "stdout", ascii_)
        monkeypatch.setitem(COMMANDS, "plan", lambda _: print("Zürich"))
        assert main(["plan", "a.yaml"]) == 0
    assert (tmp_path / "out").read_text() == "Z\\xfcrich\n"
