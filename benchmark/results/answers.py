"""`Answers`: the answer of one method to every tested image, as arrays and as JSON lines.

A line is an instance of Every Eval Ever's schema. `answered` gives answers the form from which reports compute averages
and intervals.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_json
from benchmark.method.arrays import Ints, Mask
from benchmark.method.evaluation.answers import Answered, Pooled
from benchmark.method.evaluation.tested import Tested
from benchmark.results.differences import differences

SCHEMA = "0.3.0"  # version of Every Eval Ever's schemas, of records and of lines
RESTORE = "restore the file as it was published, or publish its recipe again"
MAX_TEXT = 16_384  # bytes of the texts of a line
Texts = NDArray[np.str_]


@dataclass(frozen=True)
class Heading:
    """What all lines of a file of answers have in common; the record says the same.

    Attributes:
        evaluation_id: `evaluation_id` of the record.
        model_id: the encoder, as developer/model.
        dataset: name of the data set.
        rule: selection rule.
    """

    evaluation_id: str
    model_id: str
    dataset: str
    rule: str


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of one method in one setting. All arrays have shape (n,), one entry for each test of an image.

    Attributes:
        sample: path of the image inside its data set, or its id; it identifies the image.
        environment: environment of the image.
        held_out: held-out environment, or pair of environments; an image may be tested in several pairs.
        group: group of the image (concept, burst); empty if images do not come in groups.
        half: `all`, or with open classes the half of the classes: `base` or `new`.
        seed: seed of the split.
        fold: number of the tested fold; -1 for an 80/20 split.
        label: class of the image.
        predicted: predicted class.
        kept_plain: whether the selection rule kept plain prediction in this test.
    """

    sample: Texts
    environment: Texts
    held_out: Texts
    group: Texts
    half: Texts
    seed: Ints
    fold: Ints
    label: Texts
    predicted: Texts
    kept_plain: Mask

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def correct(self) -> Mask:
        """Whether each prediction is the class of the image, shape (n,)."""
        return np.asarray(self.label == self.predicted)

    @property
    def unit(self) -> Texts:
        """Sampling unit of each image, shape (n,): its group, or the image itself if there are no groups."""
        return np.where(self.group == "", self.sample, self.group)

    @property
    def held_outs(self) -> list[str]:
        """Held-out environments, sorted."""
        return sorted(set(self.held_out.tolist()))

    @classmethod
    def together(cls, parts: Sequence[Mapping[str, Any]]) -> "Answers":
        """Return the answers of several tests.

        Args:
            parts: field -> array of shape (m,), or one value for all m images of the part. Each part needs an array
                `sample`.
        """
        columns: dict[str, NDArray[Any]] = {}
        for one in fields(cls):
            kind = {"seed": np.int64, "fold": np.int64, "kept_plain": np.bool_}.get(one.name, np.str_)
            each: list[NDArray[Any]] = [
                np.broadcast_to(np.asarray(part[one.name], dtype=kind), len(part["sample"])) for part in parts
            ]
            columns[one.name] = np.concatenate(each) if each else np.zeros(0, kind)
        return cls(**columns)

    def lines(self, heading: Heading) -> list[dict[str, Any]]:
        """Return one JSON object for each answer, in the schema of instances. Images are named, not included."""
        columns = zip(*(getattr(self, one.name).tolist() for one in fields(self)), strict=True)
        return [_line(heading, *row) for row in columns]

    def to_jsonl(self, heading: Heading) -> bytes:
        """Return the file of answers: one JSON object on each line."""
        made = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) for line in self.lines(heading))
        return "".join(f"{line}\n" for line in made).encode()

    @classmethod
    def of_jsonl(cls, content: bytes, place: str) -> "tuple[Answers, Heading]":
        """Return the answers in a file, and what its lines have in common.

        Args:
            content: the file.
            place: name of the file, for messages.

        Raises:
            IcmBenchError: a line is not a line that `to_jsonl` writes, or differs from the first line in what all have
                in common. The message names the line and the field.
        """
        rows: list[tuple[Any, ...]] = []
        heading: Heading | None = None
        for number, line in enumerate(content.splitlines(), start=1):
            where = f"{place}, line {number}"
            found = from_json(line, where, RESTORE)
            try:
                row, of_line = _parsed(found)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise IcmBenchError(f"{where} is not an answer ({error!r}); {RESTORE}.") from error
            heading = heading or of_line
            for one in differences(_line(heading, *row), found):
                raise IcmBenchError(f"{where}: {one.path} is {one.stated!r} instead of {one.expected!r}; {RESTORE}.")
            rows.append(row)
        if heading is None:
            raise IcmBenchError(f"{place} has no answers; {RESTORE}.")
        return cls.together(
            [{one.name: c for one, c in zip(fields(cls), zip(*rows, strict=True), strict=True)}]
        ), heading


def _line(
    heading: Heading, sample: str, environment: str, held_out: str, group: str, half: str, seed: int, fold: int,
    label: str, predicted: str, kept_plain: bool,
) -> dict[str, Any]:  # fmt: skip
    correct = label == predicted
    return {
        "schema_version": SCHEMA, "evaluation_id": heading.evaluation_id, "model_id": heading.model_id,
        "evaluation_name": f"{heading.dataset}: accuracy in {held_out}", "evaluation_result_id": f"accuracy/{held_out}",
        "sample_id": sample, "interaction_type": "single_turn",
        "input": {"raw": sample, "reference": [label]}, "output": {"raw": [predicted]},
        "answer_attribution": [{
            "turn_idx": 0, "source": "output.raw", "extracted_value": predicted, "extraction_method": "exact_match",
            "is_terminal": True,
        }],
        "evaluation": {"score": float(correct), "is_correct": correct},
        "metadata": {
            "environment": environment, "held_out": held_out, "group": group, "half": half, "seed": str(seed),
            "fold": str(fold), "rule": heading.rule, "kept_plain": str(kept_plain).lower(),
        },
    }  # fmt: skip


def _parsed(line: Any) -> tuple[tuple[Any, ...], Heading]:
    """Return the arguments of `_line` that make a line."""
    about, (label,), (predicted,) = line["metadata"], line["input"]["reference"], line["output"]["raw"]
    texts = (line["sample_id"], *(about[name] for name in ("environment", "held_out", "group", "half")))
    name = line["evaluation_name"].rpartition(": accuracy in ")[0]
    heading: tuple[str, str, str] = line["evaluation_id"], line["model_id"], name
    row = (*texts, int(about["seed"]), int(about["fold"]), label, predicted, about["kept_plain"] == "true")
    every = "".join((*texts, label, predicted, *heading, about["rule"])).encode()  # raises for what is no text
    if len(every) > MAX_TEXT or not all(-1 <= number < 2**31 for number in row[5:7]):
        raise ValueError(f"longer than {MAX_TEXT} bytes, or a seed or fold of another size")
    return row, Heading(*heading, about["rule"])


def answered(parts: Sequence[Answers]) -> list[Answered]:
    """Return the correctness of several methods, for each (held_out, seed); they share the numbers of images."""
    sizes = np.cumsum([0, *map(len, parts)])
    every = Answers(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Answers)))
    new = every.half == "new"
    n_base = None if new.all() or not new.any() else len(np.unique(every.label[~new]))
    label = np.unique(np.char.add(np.where(new, "1", "0"), every.label), return_inverse=True)[1]  # base classes first
    names, environment = np.unique(every.environment, return_inverse=True)
    position, group = (np.unique(of, return_inverse=True)[1] for of in (every.sample, every.group))
    grouped = bool((every.group != "").any())
    found = []
    for begin, end in itertools.pairwise(sizes):
        pooled = {}
        order = begin + np.lexsort([x[begin:end] for x in (position, label, every.seed, every.held_out)])
        starts = np.flatnonzero((every.held_out[order][1:] != every.held_out[order][:-1])
                                | (every.seed[order][1:] != every.seed[order][:-1])) + 1  # fmt: skip
        for at in np.split(order, starts):
            tested = Tested(position[at], environment[at], label[at], tuple(names), group[at] if grouped else None)
            pooled[str(every.held_out[at[0]]), int(every.seed[at[0]])] = Pooled(every.correct[at], tested)
        found.append(Answered(pooled, int(label.max()) + 1, n_base))
    return found
