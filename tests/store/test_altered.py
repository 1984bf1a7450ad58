"""Files that were altered without a new digest: each is named, none is shown, and the trial is computed again."""

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.cli import main
from benchmark.common.storage.files import Storage
from benchmark.store import row_index, rows, upkeep
from benchmark.store.sealed import DamagedError, sealed_parquet
from reports.made import MADE
from tests.conftest import Swept
from tests.store.test_rows import as_before
from tests.store.test_sealed import flipped

Alter = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Small:
    """A store with the rows of one trial, their index and their tested images."""

    folder: Path

    @property
    def storage(self) -> Storage:
        return Storage(str(self.folder))

    @property
    def row_file(self) -> Path:
        (file,) = self.folder.glob("rows/*")
        return file

    @property
    def index_file(self) -> Path:
        (file,) = self.folder.glob("index/*")
        return file

    def read(self) -> pd.DataFrame:
        return rows.read_rows(self.storage, [self.row_file.stem])

    def verified(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
        """The exit code of `store verify`, and the files that it says are damaged."""
        code = main(["store", "verify", "--json", "--store", str(self.folder)])
        return code, [name for d in json.loads(capsys.readouterr().out) for name in d["damaged"]]

    def assert_found(self, file: Path, capsys: pytest.CaptureFixture[str], what: object = "") -> None:
        """See that a damaged file is named, and that nobody is shown what it holds."""
        assert self.verified(capsys) == (2, [file.relative_to(self.folder).as_posix()]), what
        if file == self.row_file:
            assert main(["report", "--store", str(self.folder)]) == 2, what
            assert f"{file} is " in capsys.readouterr().err


@pytest.fixture
def small(swept_toy: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    monkeypatch.setattr(row_index, "LEAST_ON_DISK", 1)
    (tmp_path / "store" / "rows").mkdir(parents=True)
    of_protocol = {pq.read_table(f, columns=["protocol"])[0][0].as_py(): f for f in swept_toy.store.glob("rows/*")}
    shutil.copy(of_protocol["held_out"], tmp_path / "store" / "rows")
    shutil.copytree(swept_toy.store / "tested", tmp_path / "store" / "tested")
    small = Small(tmp_path / "store")
    rows.read_rows(small.storage, [small.row_file.stem])
    return small


def replaced(name: str, change: Callable[[object], object]) -> Alter:
    """Put other values into a column, and leave everything else as it is, the digest too."""

    def alter(table: pa.Table) -> pa.Table:
        field = table.schema.field(name)
        return table.set_column(
            table.column_names.index(name), field, pa.array([change(v) for v in table[name].to_pylist()], field.type)
        )

    return alter


all_right = replaced("target", lambda curve: [1.0] * len(curve))  # type: ignore[arg-type]
all_bits = replaced("correct", lambda bits: b"\xff" * len(bits))  # type: ignore[arg-type]
ALTERATIONS: dict[str, Alter] = {
    "accuracy": all_right,
    "bits": all_bits,
    "both": lambda table: all_bits(all_right(table)),
    "score of a rule": replaced("training_domain", lambda curve: [1.0] * len(curve)),  # type: ignore[arg-type]
    "a line dropped": lambda table: table.slice(1),
    "a line doubled": lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    "predictions": replaced("predicted", lambda classes: classes and bytes(len(classes))),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("keeps_metadata", [True, False])
@pytest.mark.parametrize("name", ALTERATIONS)
def test_rows_that_were_altered_are_named_and_never_shown(
    small: Small, name: str, keeps_metadata: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.verified(capsys) == (0, [])
    before = pq.read_table(small.row_file)
    after = ALTERATIONS[name](before)
    assert not after.equals(before)
    pq.write_table(after if keeps_metadata else after.replace_schema_metadata(None), small.row_file)
    small.assert_found(small.row_file, capsys)
    with pytest.raises(DamagedError):
        rows.unfinished(small.storage, [small.row_file.stem])


@pytest.mark.parametrize("name", ["accuracy", "bits", "predictions"])
def test_rows_whose_numbers_do_not_agree_are_damaged_whatever_their_digest(
    small: Small, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small.row_file.write_bytes(sealed_parquet(ALTERATIONS[name](pq.read_table(small.row_file))))
    small.index_file.unlink()
    assert small.verified(capsys)[1] == [small.row_file.relative_to(small.folder).as_posix()]


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_index_that_was_altered_is_named_and_passed_over(
    small: Small, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = small.read()
    pq.write_table(ALTERATIONS[name](pq.read_table(small.index_file)), small.index_file)
    small.assert_found(small.index_file, capsys)
    pd.testing.assert_frame_equal(small.read(), before)


def some_bits(content: bytes, count: int) -> list[int]:
    """So many bits of a file, drawn at random, and four more of the mark before its digest."""
    chosen, mark = random.Random(0), 8 * content.index(b"icm-bench-sha256:")
    return [*chosen.sample(range(8 * len(content)), count), *chosen.sample(range(mark, mark + 8 * 17), 4)]


def flips(small: Small, count: int) -> Iterator[tuple[Path, int]]:
    """Flip single bits of the row file, then of its index; then both are as before, so the index is up to date."""
    index = small.index_file
    for file in (small.row_file, index):
        content, state = file.read_bytes(), file.stat()
        for bit in some_bits(content, count):
            file.write_bytes(flipped(content, bit))
            yield file, bit
        file.write_bytes(content)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert small.index_file == index


def test_any_bit_that_flips_is_found(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    before, index = small.read(), small.index_file
    for file, bit in flips(small, 26):
        small.assert_found(file, capsys, bit)
        if file == index:
            pd.testing.assert_frame_equal(small.read(), before)
    assert small.verified(capsys) == (0, [])


@pytest.mark.long("a bit that flips in rows or their index ends the process, or is read as sound")
def test_800_bits_that_flip_are_found(small: Small) -> None:
    before, index = small.read(), small.index_file
    names = {file: file.relative_to(small.folder).as_posix() for file in (small.row_file, index)}
    for file, bit in flips(small, 396):
        assert upkeep.problem_of(small.storage, names[file]), bit
        if file == index:
            pd.testing.assert_frame_equal(small.read(), before)
        else:
            with pytest.raises(DamagedError):
                small.read()
    assert not any(upkeep.problem_of(small.storage, name) for name in names.values())


def test_every_bit_beside_version_and_digest_is_found(small: Small) -> None:
    """A version that reads as an earlier one, of files without a digest, hides nothing."""
    storage, content, name = small.storage, small.row_file.read_bytes(), rows.row_file(small.row_file.stem)
    first, last = content.index(b"icm_bench_rows") - 20, content.index(b"icm-bench-sha256:") + 90
    assert content.count(b"icm_bench_rows") == 1
    assert last - first < 250
    for bit in range(8 * first, 8 * last):
        small.row_file.write_bytes(flipped(content, bit))
        assert upkeep.problem_of(storage, name), bit


@pytest.mark.usefixtures("local_ray")
def test_trials_whose_rows_or_index_were_altered_are_computed_again_and_the_report_has_the_same_bytes(
    swept_toy: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(row_index, "LEAST_ON_DISK", 1)
    store = shutil.copytree(swept_toy.store, tmp_path / "store", ignore=shutil.ignore_patterns("rows"))

    def report_of_run(name: str) -> dict[str, bytes]:
        where = ["--store", str(store), "--out", str(tmp_path / name), "--set", "sweep.protocols=[held_out]"]
        assert main(["run", str(swept_toy.file), *where]) == 0
        files = (file for file in (tmp_path / name).rglob("*.*") if file.name != MADE)  # which knows times of change
        return {file.relative_to(tmp_path / name).as_posix(): file.read_bytes() for file in files}

    before = report_of_run("before")
    (index,), altered = store.glob("index/*"), sorted(store.glob("rows/*"))
    pq.write_table(all_right(pq.read_table(index)), index)
    for file, name in zip(altered, ("both", "a line dropped"), strict=True):
        pq.write_table(ALTERATIONS[name](pq.read_table(file)), file)
    capsys.readouterr()
    assert report_of_run("after") == before
    said = capsys.readouterr().err
    assert all(f"damaged: {file} is not what was written" in said for file in altered)


@pytest.mark.long("a kind of file that is damaged ends a run, or changes its report")
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("seed", range(2))
def test_a_run_on_a_store_in_which_every_file_has_a_wrong_bit_ends_as_on_a_sound_one(
    swept_toy: Swept, tmp_path: Path, seed: int
) -> None:
    store = shutil.copytree(swept_toy.store, tmp_path / "store", ignore=shutil.ignore_patterns("reports"))
    for imported in store.glob("runs/*/*/"):  # what another test imported, no run can make again
        shutil.rmtree(imported)

    def report_of_run(name: str) -> dict[str, bytes]:
        assert main(["run", str(swept_toy.file), "--store", str(store), "--out", str(tmp_path / name)]) == 0
        files = (file for file in (tmp_path / name).rglob("*.*") if file.name != MADE)  # which knows times of change
        return {file.relative_to(tmp_path / name).as_posix(): file.read_bytes() for file in files}

    before, chosen = report_of_run("before"), random.Random(seed)
    for file in sorted(file for file in store.rglob("*") if file.is_file()):
        content = file.read_bytes()
        file.write_bytes(flipped(content, chosen.randrange(8 * len(content))))
    assert report_of_run("after") == before
    assert not any(directory.stale for directory in upkeep.directories(Storage(str(store))))


@pytest.mark.usefixtures("local_ray")
def test_rows_of_an_earlier_version_are_shown_and_run_anew_with_the_reason(
    swept_toy: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, one = tmp_path / "store", ["--set", "sweep.protocols=[held_out]", "--set", "sweep.seeds=[0]"]
    where = [str(swept_toy.file), "--store", str(store), "--out", str(tmp_path / "out"), *one]
    shutil.copytree(swept_toy.store, store, ignore=shutil.ignore_patterns("rows", "runs"))
    assert main(["run", *where]) == 0
    metrics = tmp_path / "out" / "tables" / "metrics.csv"
    as_run, later = pd.read_csv(metrics), ["macro_f1", "top5_accuracy", "nll", "auroc"]  # of predictions and scores
    assert as_run[later].notna().any().all()
    (file,), (record,) = store.glob("rows/*"), store.glob("runs/*/*.json")
    old = as_before(pq.read_table(file))
    for column, value in {"trial_id": "an_old_id", "code_version": "0.0.9+abc"}.items():
        old = old.set_column(old.column_names.index(column), column, pa.array([value] * len(old)))
    file.unlink()
    pq.write_table(old, store / "rows" / "an_old_id.parquet")
    said = json.loads(record.read_bytes())
    record.write_text(json.dumps({**{k: v for k, v in said.items() if k != "sha256"}, "trials": ["an_old_id"]}))
    kept = {f: f.stat().st_mtime_ns for f in store.rglob("*.*") if f.parts[len(store.parts)] in ("embeddings", "sums")}
    assert len(kept) > 5
    assert main(["store", "verify", "--store", str(store)]) == 0
    assert main(["report", *where]) == 0
    shown = pd.read_csv(metrics)
    assert shown[later].isna().all(axis=None)
    pd.testing.assert_frame_equal(shown.drop(columns=later), as_run.drop(columns=later))
    assert "code 0.0.9+abc" in (tmp_path / "out" / "report.md").read_text()
    capsys.readouterr()
    assert main(["run", *where]) == 0
    assert re.search(r"the rows of 1 trials .* icm-bench 0\.0\.9\+abc; .* run anew", capsys.readouterr().err)
    assert {f.name for f in store.glob("rows/*")} == {file.name, "an_old_id.parquet"}
    pd.testing.assert_frame_equal(pd.read_csv(metrics), as_run)
    assert all(f.stat().st_mtime_ns == changed for f, changed in kept.items())
