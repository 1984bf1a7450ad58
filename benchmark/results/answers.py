"""`Answers`: the answer of one method to every tested image, as arrays and as JSON lines; and what follows from them.

A line is an instance of Every Eval Ever's schema. Averages, intervals and verdicts of records are computed here, from
answers alone, by the functions that reports use.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import RepeatedKeyError, without_repeats
from benchmark.method.arrays import Ints, Mask
from benchmark.method.evaluation.answers import Answered, Pooled
from benchmark.method.evaluation.inference import ImageInterval
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from benchmark.method.evaluation.multiple_testing import Gain, adjusted_gains
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.method.evaluation.tested import Tested

SCHEMA = "0.3.0"  # version of Every Eval Ever's schemas, of records and of lines
HALVES = ("all", "base", "new")
IS_PLAIN, NO_VERDICT = "is plain", "cannot be said"  # verdicts besides `multiple_testing.KINDS`
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
        columns = {}
        for one in fields(cls):
            kind = {"seed": np.int64, "fold": np.int64, "kept_plain": np.bool_}.get(one.name, np.str_)
            each = [np.broadcast_to(np.asarray(part[one.name], dtype=kind), len(part["sample"])) for part in parts]
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
        raise NotImplementedError


def _line(
    heading: Heading, sample: str, environment: str, held_out: str, group: str, half: str, seed: int, fold: int,
    label: str, predicted: str, kept_plain: bool,
) -> dict[str, Any]:  # fmt: skip
    raise NotImplementedError


def answered(parts: Sequence[Answers]) -> list[Answered]:
    """Return the correctness of several methods with common numbers of images, for each (held_out, seed)."""
    raise NotImplementedError


@dataclass(frozen=True)
class Estimates:
    """A metric, or a difference of it between two methods, from answers.

    Attributes:
        average: the average over held-out environments with its interval.
        of: held-out environment -> its value with its interval.
        images: number of distinct images in all, then of each held-out environment (`of`).
    """

    average: ImageInterval
    of: Mapping[str, ImageInterval]


def estimates(ours: Answered, minus: Answered | None = None, metric: Metric = ACCURACY) -> Estimates | None:
    """Return a metric, or its difference to a second method on the same images; None if no image is in common.

    Args:
        ours: a method of `answered`.
        minus: a second method of the same call of `answered`; default: none.
        metric: `ACCURACY` (default) or `BALANCED`.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class Judged:
    """The verdict on the gain of a method over plain prediction, see `benchmark.method.evaluation.multiple_testing`.

    Attributes:
        verdict: the conclusion; `IS_PLAIN` if the rule kept plain prediction in every test, `NO_VERDICT` if there is no
            p-value.
        p: p-value of the gain in accuracy, adjusted by Holm over the family; None if unknown.
        p_balanced: the same for class-balanced accuracy.
        p_both: the same for both.
        family: number of gains in the family.
    """

    verdict: str
    p: float | None
    p_balanced: float | None
    p_both: float | None
    family: int


def judge(gains: Sequence[tuple[ImageInterval, ImageInterval, bool]]) -> list[Judged]:
    """Return the verdicts of one family, which is all gains of a publication.

    Args:
        gains: for each method and setting the gain in accuracy, the gain in class-balanced accuracy, and whether the
            rule kept plain prediction in every test.
    """
    raise NotImplementedError
