"""`icm-bench captions`: captions of images and their rewrites, as the file that `{text: {pairs: FILE}}` reads."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmark.commands.doctor import check_nodes
from benchmark.commands.imported_sets import manifest_of
from benchmark.commands.journal import Journal
from benchmark.commands.prepare import Notify, notify_on_stderr
from benchmark.commands.rewriting import WHO, Asking, Question, took
from benchmark.common.cluster import connect, connected
from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.progress import Progress
from benchmark.common.storage import Storage
from benchmark.datasets.manifest import Manifest
from benchmark.embedding.captioners import CAPTIONERS, captioner_class, check_transformers
from benchmark.embedding.captioning import Describing, Rewriting, Said, stream
from benchmark.method.interventions.rewrites import cleaned, why_left_out
from benchmark.recipe.captions import LOCAL, CaptionsSpec
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import RunSpec

_READ = ["path", "file", "position", "bytes"]  # what a reader needs of an image


@dataclass(frozen=True)
class WrittenPairs:
    """What was written.

    Attributes:
        file: of the pairs.
        pairs: number of pairs in it.
        images: number of images that were drawn.
        left_out: reason -> number of images without a pair; each is named in the file `reasons`.
        reasons: of what was left out; None where nothing was.
        journal: of all answers, which a rerun does not ask for again.
        tokens_in: number of tokens sent for the pairs, as the endpoint counts, those of earlier runs included.
        tokens_out: number of tokens answered, likewise.
        cost: what they cost; None without prices.
        asked: number of rewrites that this run asked the endpoint for.
        expected_cost: what these would cost, as last said before they were asked; None without prices.
        asked_cost: what they did cost.
    """

    file: str
    pairs: int
    images: int
    left_out: dict[str, int]
    reasons: str | None
    journal: str
    tokens_in: int
    tokens_out: int
    cost: float | None
    asked: int
    expected_cost: float | None
    asked_cost: float | None

    def text(self) -> str:
        """Return it in some lines."""
        lines = [f"{self.file}: {self.pairs} pairs of {self.images} images"]
        if self.reasons:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.left_out.items()))
            lines.append(f"left out: {reasons}; see {self.reasons}")
        if self.tokens_in:
            cost = "" if self.cost is None else f": {self.cost:.4g}"
            lines.append(f"rewrites took {self.tokens_in:,} tokens in, {self.tokens_out:,} out{cost}")
        if self.asked_cost is not None and self.expected_cost is not None and self.asked:
            lines.append(f"of it now {self.asked_cost:.4g}, expected were {self.expected_cost:.4g}")
        return "\n".join(lines)


@dataclass
class _Image:
    """A drawn image, and what has become of it."""

    dataset: str
    row: dict[str, Any]
    name: str  # of its class, in words
    key: str  # of its caption
    caption: str = ""
    question: Question | None = None
    rewrite: str = ""
    why: str | None = None  # it has no pair

    def about(self) -> dict[str, Any]:
        """Return what says which image it is."""
        names = {"image_id": self.row["image_id"], "dataset": self.dataset}
        return {**names, "class_name": self.row["class_name"], "caption": self.caption, "rewrite": self.rewrite}


@dataclass
class _Making:
    """Captions and rewrites of one recipe on their way into a file."""

    spec: CaptionsSpec
    run: RunSpec
    journal: Journal
    notify: Notify
    problems: dict[str, str] = field(default_factory=dict)  # key of a caption -> why its image cannot be read

    def caption(self, manifests: Sequence[Manifest], images: Sequence[_Image]) -> None:
        """Caption the images that no run before has captioned; name those that cannot be read."""
        for manifest in manifests:
            mine = [image for image in images if image.dataset == manifest.name]
            lacking = {image.key: image.row for image in mine if image.key not in self.journal.answers}
            rows = pa.Table.from_pylist([{"key": key} | row for key, row in lacking.items()])
            work = (Describing, (manifest.reader, self.spec.captioner))
            for said in self._streamed(f"captioning {manifest.name}", "images", rows, *work):
                self.problems |= {one.key: one.problem for one in said if one.problem}
                self.journal.add((one.key, {"text": one.text}) for one in said if not one.problem)
            self._bear(manifest, mine)
        for image in images:
            image.caption = cleaned(self.journal.answers.get(image.key, {}).get("text", ""))
            if problem := self.problems.get(image.key):
                image.why = f"cannot be read: {problem}"
            elif not image.caption:
                image.why = "has an empty caption"

    def rewrite(self, images: Sequence[_Image], asking: Asking | None) -> None:
        """Have the captions rewritten that were not: by the endpoint, or here where none is asked."""
        images = [image for image in images if image.why is None]
        for image in images:
            prompt = self.spec.prompt.replace("{class_name}", image.name).replace("{caption}", image.caption)
            image.question = Question(image.caption, prompt, _seed(self.spec.seed, image.row["image_id"]))
        questions = list(dict.fromkeys(image.question for image in images if image.question))
        if asking:
            asking.ask(questions)
        else:
            self._rewrite_here(questions)

    def _rewrite_here(self, questions: Sequence[Question]) -> None:
        rewriter = self.spec.rewriter
        lacking = [
            {"key": key, "prompt": question.prompt, "seed": question.seed}
            for question in questions
            if (key := question.key(rewriter)) not in self.journal.answers
        ]
        arguments = (rewriter.model.removeprefix(LOCAL), rewriter.temperature, rewriter.max_tokens)
        for said in self._streamed(WHO, "rewrites", pa.Table.from_pylist(lacking), Rewriting, arguments):
            self.journal.add((one.key, {"text": one.text, "finish": one.finish}) for one in said)

    def _streamed(
        self, what: str, unit: str, rows: pa.Table, work: type, arguments: tuple[Any, ...]
    ) -> Iterator[list[Said]]:
        progress = Progress(what, rows.num_rows, unit)
        for said in stream(rows, work, arguments, self.run) if rows.num_rows else ():
            yield said
            progress.update(len(said))
        progress.close()

    def _bear(self, manifest: Manifest, images: Sequence[_Image]) -> None:
        """Refuse too many images that cannot be read."""
        bad = [image.row["path"] for image in images if image.key in self.problems]
        if len(bad) > self.run.max_bad_images * len(images):
            raise IcmBenchError(
                f"{len(bad)} of {len(images)} images of {manifest.name} cannot be read, more than "
                f"{self.run.max_bad_images:.0%}; the first is {manifest.place(bad[0])}: replace them, or raise "
                f"run.max_bad_images."
            )


def write_captions(recipe: Recipe, notify: Notify = notify_on_stderr) -> WrittenPairs:
    """Caption images, have the captions rewritten, and write the pairs; what a run before has answered is not asked.

    Args:
        recipe: with a block `captions`.
        notify: takes each line for the person who watches; by default they go to standard error.

    Raises:
        IcmBenchError: there is no such block, no place for the pairs, no usable pair, or whatever else the user can put
            right; what was answered is kept.
    """
    spec, file = _asked(recipe)
    implementation = _implementation(spec)
    manifests = [manifest_of(recipe, dataset) for dataset in recipe.located()]
    images = [image for manifest in manifests for image in _drawn(manifest, spec, implementation)]
    with Journal(file.with_name(f"{file.stem}.journal.jsonl")) as journal, connected():
        making = _Making(spec, recipe.run, journal, notify)
        asking = None if spec.rewriter.is_local else Asking(spec.rewriter, journal, notify)
        if any(image.key not in journal.answers for image in images):
            connect()
            check_nodes(None, manifests, (), notify)
        before = set(journal.answers)
        making.caption(manifests, images)
        making.rewrite(images, asking)
        classes = {manifest.name: manifest.prompt_names for manifest in manifests}
        for image in images:
            _judge(image, spec, journal, asking, classes[image.dataset])
        return _write(spec, file, images, journal, before, asking)


def _asked(recipe: Recipe) -> tuple[CaptionsSpec, Path]:
    """Return what is asked for, and the file to write; refuse what cannot work before anything costs time."""
    spec = recipe.captions
    if spec is None:
        raise IcmBenchError("The recipe has no block 'captions'; give it one with a rewriter, as docs/recipe.md says.")
    to = spec.to or (recipe.interventions.text.pairs if recipe.interventions.text else None)
    if to is None:
        raise IcmBenchError("The pairs have no place: give captions.to, or interventions.text.pairs.")
    if spec.rewriter.is_local:
        check_transformers(spec.rewriter.model)
    return spec, Path(to).expanduser().absolute()


def _implementation(spec: CaptionsSpec) -> str:
    """Return what captions are known by: the captioner's name, with the code of one of the user's own."""
    cls, arguments = captioner_class(spec.captioner)
    return spec.captioner if arguments else CAPTIONERS.implementation(cls)


def _drawn(manifest: Manifest, spec: CaptionsSpec, implementation: str) -> Iterator[_Image]:
    """Yield the images to caption, in the manifest's order: of a class and environment those that the seed draws."""
    ids = manifest.table["image_id"].to_pylist()
    _, first = np.unique(ids, return_index=True)  # bytes that stand twice are one image
    table = manifest.table.select(["image_id", "environment", "class_name", *_READ]).take(np.sort(first))
    rows, places = table.to_pylist(), dict[tuple[str, str], list[str]]()
    for row in rows:
        places.setdefault((row["environment"], row["class_name"]), []).append(row["image_id"])
    drawn = {i for some in places.values() for i in sorted(some, key=lambda i: _seed(spec.seed, i))[: spec.images]}
    names = dict(zip(manifest.classes, manifest.prompt_names, strict=True))
    for row in rows:
        if row["image_id"] in drawn:
            name = " ".join(names[row["class_name"]].replace("_", " ").split())
            yield _Image(manifest.name, row, name, canonical_hash(["caption", implementation, row["image_id"]]))


def _seed(seed: int, image_id: str) -> int:
    """Return a number below 2**31 that depends on the seed and the image alone."""
    return int.from_bytes(hashlib.sha256(f"{seed} {image_id}".encode()).digest()[:4], "big") >> 1


def _judge(image: _Image, spec: CaptionsSpec, journal: Journal, asking: Asking | None, classes: Sequence[str]) -> None:
    """Say of an image what its caption became, or why that cannot stand."""
    if image.question is None:
        return
    entry = journal.answers.get(image.question.key(spec.rewriter))
    if entry is None:
        image.why = asking.unanswered[image.question] if asking else "unanswered"
        return
    image.rewrite = cleaned(entry["text"])
    image.why = why_left_out(
        image.caption, image.rewrite, image.name, classes, entry["finish"], entry.get("refused", False)
    )


def _write(
    spec: CaptionsSpec,
    file: Path,
    images: Sequence[_Image],
    journal: Journal,
    before: set[str],
    asking: Asking | None,
) -> WrittenPairs:
    """Write the pairs, and beside them what has none and why."""
    storage, reasons = Storage(str(file.parent)), f"{file.stem}.left-out.jsonl"
    made_by = {"captioner": spec.captioner, "model": spec.rewriter.model, "prompt": spec.prompt}
    pairs = [image for image in images if image.why is None]
    out = [image for image in images if image.why is not None]
    if out:
        storage.write_bytes(reasons, _lines([{**i.about(), "path": i.row["path"], "why": i.why} for i in out]))
    else:
        storage.delete(reasons)  # of an earlier run
    if not pairs:
        raise IcmBenchError(
            f"None of {len(images)} images has a usable pair (the first: {images[0].why}); {file.parent / reasons} "
            f"says why of each."
        )
    storage.write_bytes(
        file.name, _lines([{**i.about(), **made_by, "seed": i.question.seed} for i in pairs if i.question])
    )
    rewriter = spec.rewriter
    questions = {i.question.key(rewriter): i.question for i in images if i.question} if asking else {}
    answered = {q: journal.answers[key] for key, q in questions.items() if key in journal.answers}
    now = {q: entry for q, entry in answered.items() if q.key(rewriter) not in before}
    total = took(answered)
    return WrittenPairs(
        file=str(file),
        pairs=len(pairs),
        images=len(images),
        left_out=dict(Counter((image.why or "").partition(":")[0] for image in out)),
        reasons=str(file.parent / reasons) if out else None,
        journal=str(journal.file),
        tokens_in=round(total.sent),
        tokens_out=round(total.answered),
        cost=total.cost(rewriter) if asking else None,
        asked=len(now),
        expected_cost=asking.expected.cost(rewriter) if asking else None,
        asked_cost=took(now).cost(rewriter) if asking else None,
    )


def _lines(entries: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(entry, ensure_ascii=False).encode() + b"\n" for entry in entries)
