"""What a command answers to a draw, and whether that is good: right numbers, or one sentence that names the place."""

import contextlib
import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from benchmark.cli import main
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.escaping import one_line
from benchmark.store.rows import write_rows
from benchmark.store.tested import write_tested
from tests.properties.contents import CONFIG, Draw, Embeddings, Picture, recipe_of
from tests.reports.synthetic import TESTED, row

STOPPED = "that far, and no further"  # what stands for Ray says; the command has taken its input by then
# A quoted word, a path, an option, a key with a dot, a row or line, or a word of the command line: where to look.
_PLACE = re.compile(
    r"'[^']*'|\"[^\"]*\"|/|(?<!\w)--?\w|\w+[.:]\w+|\b(row|line|column|folder|store|recipe|required)\b", re.IGNORECASE
)
_FOREIGN = re.compile(r"Traceback|\w(Error|Warning|Exception)\b(?! ?\()|^\s+File \"", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """What came of a command: exit code, what stands on standard output and on standard error, files before and after."""

    code: int | str | None
    out: str
    err: str
    before: dict[str, bytes]
    after: dict[str, bytes]
    exported: dict[tuple[str, str], list[float]] | None = None


class Lab:
    """A folder with a tiny backbone and a store, a copy of which every draw has.

    Args:
        folder: where all of it lies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "tiny").mkdir()
        (folder / "tiny" / "open_clip_config.json").write_bytes(CONFIG)
        storage = Storage(str(folder / "store"))
        for held_out in ("art", "photo"):
            one = row(held_out=held_out, target=(0.5,), n_test=40)
            write_rows(storage, f"invented-{held_out}", [{**one, "trial_id": f"invented-{held_out}"}])
        for tested in TESTED.values():
            write_tested(storage, tested)
        (folder / "old.npz").write_bytes(Embeddings().bytes())
        words = ["import-embeddings", str(folder / "old.npz"), "--name", "old", "--recipe", str(folder / "old.yaml")]
        assert _called([*words, "--store", str(folder / "store")])[0] == 0
        self.answer(
            Draw(["plan", "r.yaml"], {"set/a/cat/0.png": Picture(0)}, recipe_of({}))
        )  # has its imports after it

    def answer(self, draw: Draw) -> Answer:
        """Call the command of a draw in a folder of its own."""
        place = Path(tempfile.mkdtemp(dir=self._folder))
        shutil.copytree(self._folder / "store", place / "store")
        for name, content in draw.files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content if isinstance(content, bytes) else content.bytes())
        if draw.recipe is not None:
            (place / "r.yaml").write_text(yaml.safe_dump(draw.recipe, allow_unicode=True), encoding="utf-8")
        before, home = _contents(place), Path.cwd()
        os.chdir(place)
        try:
            code, out, err = _called(draw.words)
            exported = _exported() if code == 0 and Path("mine.yaml").exists() else None
            return Answer(code, out, err, before, _contents(place), exported)
        finally:
            os.chdir(home)
            shutil.rmtree(place)


def _called(words: list[str]) -> tuple[int | str | None, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: int | str | None = main(words)
        except SystemExit as end:  # of the parser
            code = end.code or 0
    return code, out.getvalue(), err.getvalue()


def _contents(place: Path) -> dict[str, bytes]:
    """Return name -> content of all files below a folder; names that are none are written as Python has them."""
    return {os.fspath(p.relative_to(place)): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def _exported() -> dict[tuple[str, str], list[float]]:
    """Return (image, view) -> embedding of what was imported, as the store has it."""
    code, _, err = _called(["export-embeddings", "mine.yaml", "--to", "exported", "--store", "store"])
    assert code == 0, err
    rows = pq.read_table("exported/embeddings.parquet").to_pylist()
    return {(r["path"], r["view"]): r["embedding"] for r in rows}


def judge(draw: Draw, answer: Answer) -> None:
    """Raise AssertionError where an answer is bad."""
    said = answer.out + answer.err
    assert answer.code in (0, 2), f"exit code {answer.code}: {said[-2_000:]}"
    assert not _FOREIGN.search(answer.err), f"not ours: {answer.err[-2_000:]}"
    if STOPPED in said:
        return
    lost = [name for name, content in answer.before.items() if _matters(name) and answer.after.get(name) != content]
    allowed = {"store"} if {"repair", "clean", "--overwrite"}.intersection(draw.words) else set()
    assert not [name for name in lost if name.partition("/")[0] not in allowed], f"lost or changed: {lost}"
    if answer.code == 2:
        _judge_refusal(draw, answer)
    elif "--json" in draw.words and not {"-h", "--help"}.intersection(draw.words):
        _judge_numbers(draw, answer)


def _matters(name: str) -> bool:
    """Say whether a file may not be changed: what is kept for speed may, and what says who was the last to need a view."""
    return not (name.startswith(("store/reports", "store/costs", "store/index")) or name.endswith("/about.json"))


def _judge_refusal(draw: Draw, answer: Answer) -> None:
    lines = [line for line in answer.err.splitlines() if re.match(r"icm-bench( [\w-]+)?: ", line)]
    assert len(lines) == 1, f"not one sentence: {answer.err[-2_000:]!r} {answer.out[-500:]!r}"
    sentence = lines[0].partition(": ")[2]
    assert sentence.strip(), lines
    assert len(sentence) <= 1_000, f"{len(sentence)} letters: {sentence[:300]}"
    assert _PLACE.search(sentence) or any(one_line(word) in sentence for word in draw.words), (
        f"no place is named: {sentence}"
    )
    if "store" not in draw.words[:1]:
        made = [
            n for n in answer.after if n.startswith(("store/embeddings", "store/images")) and n not in answer.before
        ]
        assert not [name for name in made if name.endswith(".parquet")], f"what was refused is in the store: {made}"


def _refused_constant(name: str) -> Any:
    raise AssertionError(f"{name} in JSON")


def _numbers(content: Any) -> Iterator[float]:
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    yield from (number for part in parts for number in _numbers(part))
    if isinstance(content, int | float) and not isinstance(content, bool):
        yield content


def _judge_numbers(draw: Draw, answer: Answer) -> None:
    try:
        told = json.loads(answer.out, parse_constant=_refused_constant)
    except ValueError as error:
        raise AssertionError(f"not JSON: {answer.out[:500]!r}") from error
    if draw.words[0] == "plan":
        assert all(math.isfinite(number) and number >= 0 for number in _numbers(told)), (
            f"odd numbers: {answer.out[:2_000]}"
        )
        if draw.images is not None:
            assert sum(s["images"] for s in told["sets"]) == draw.images, f"{draw.images} images: {answer.out[:600]}"
    if answer.exported is not None:
        _judge_import(draw, answer.exported)


def _judge_import(draw: Draw, exported: dict[tuple[str, str], list[float]]) -> None:
    """Hold what an import left in the store against what the file holds."""
    given = next(c for c in draw.files.values() if isinstance(c, Embeddings) and not c.texts)
    columns = given.columns()
    ids = np.asarray(columns["image_id"]) if "image_id" in columns else None
    assert ids is not None, "embeddings without names were taken"
    words = [i.decode() if isinstance(i, bytes) else str(i) for i in ids.tolist()]
    views = (
        [v.decode() if isinstance(v, bytes) else str(v) for v in columns["view"].tolist()]
        if "view" in columns
        else ["original"] * len(words)
    )
    z = np.asarray(columns["embedding"]).astype(np.float64)
    assert len(exported) == len(words), f"{len(words)} rows became {len(exported)}"
    for i, key in enumerate(zip(words, views, strict=True)):
        found = exported.get(key)
        assert found is not None, f"{key} is not there"
        assert np.allclose(found, z[i], rtol=1e-5), f"{key}: {z[i].tolist()} became {found}"
