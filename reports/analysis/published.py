"""Published accuracies: what each is of, and which of them are never gates.

The numbers lie in `published.csv` of the package: facts with the source of each, as they were found. An empty cell
says that nothing is known, and stays empty.
"""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from statistics import fmean

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.catalog import CATALOG, DatasetFacts

AVERAGE = "average"  # environment of a number that is the mean over all environments of a set
EIGHTY = "80 ImageNet templates"
FAIR = ("zero_shot", "linear_probe")  # what a published method must be for ours of that name to be the same thing
OF_ENVIRONMENTS = ", mean of its environments"  # behind the source of an average that the source itself does not have
# What a source calls its test split -> what rows call it. Zero-shot fits nothing, so that "source-free" says nothing.
_SPLITS = {"full (source-free protocol)": "full", "domainbed in_80": "in_80", "held_out out_20": "out_20"}
_EIGHTY_SPELT = ("80 ImageNet templates", "ensemble of 80")  # what sources call the 80 of CLIP's authors begins so


@dataclass(frozen=True)
class PublishedNumber:
    """One published accuracy, as `published.csv` has it.

    Attributes:
        dataset: the catalog's folder in lower case: "office_home", "imagenet-r".
        environment: the tested one, `average` over all of a set, or `test` and `val` of ImageNet and its variants.
        method: what was evaluated: "zero_shot", "linear_probe", or any other.
        backbone: model of open_clip, or whatever the source calls it.
        pretrained: open_clip's tag; empty where there is none.
        accuracy: in percent; None where the cell is empty.
        test_split: in the words of `published.csv`.
        template: with {} for the class name, or what an ensemble is called; empty where it is not stated.
        source: where it stands.
        note: what else is known of it; SECONDARY and SUSPECT are marks.
    """

    dataset: str
    environment: str
    method: str
    backbone: str
    pretrained: str
    accuracy: float | None
    test_split: str
    template: str
    source: str
    note: str

    @property
    def weights(self) -> str:
        """Backbone and weights, as labels of ours begin: "ViT-B-16 openai"."""
        return f"{self.backbone} {self.pretrained}".rstrip()

    @property
    def split(self) -> str:
        """The test split as rows call it; the source's words where rows have none like it."""
        return _SPLITS.get(self.test_split, self.test_split)

    @property
    def prompt(self) -> str:
        """What templates are compared by: see `prompt_key`; empty where it is not stated."""
        return EIGHTY if self.template.startswith(_EIGHTY_SPELT) else prompt_key(self.template)

    @property
    def context(self) -> str | None:
        """Why it is context and never a gate; None where it may be one."""
        marks = {
            "suspect": "suspect" in self.note.lower(),
            "second-hand": "secondary" in self.note.lower(),
            "split not stated": "not stated" in self.test_split,
            "trained otherwise": self.method not in FAIR,
        }
        return next((reason for reason, marked in marks.items() if marked), None)


COLUMNS = tuple({"accuracy": "accuracy_percent"}.get(field.name, field.name) for field in fields(PublishedNumber))


def prompt_key(template: str) -> str:
    """Return a template without the full stop at its end, in which sources and recipes differ as they please."""
    return template.strip().removesuffix(".")


def facts_of(dataset: str) -> DatasetFacts | None:
    """Return what the catalog says of a set that `published.csv` calls so; None where it has none."""
    return _BY_FOLDER.get(dataset)


_BY_FOLDER = {facts.folder.lower(): facts for facts in CATALOG.values()}


@cache
def read_published() -> tuple[PublishedNumber, ...]:
    """Return all lines of the package's `published.csv`, in its order."""
    return parse(resources.files("reports").joinpath("published.csv").read_text(encoding="utf-8"), "published.csv")


def parse(text: str, name: str) -> tuple[PublishedNumber, ...]:
    """Return the published numbers of a CSV file.

    Args:
        text: its content.
        name: its name, for errors.

    Raises:
        IcmBenchError: a column is missing or a number is none; names file, line and field.
    """
    lines = csv.DictReader(io.StringIO(text))
    if missing := [column for column in COLUMNS if column not in (lines.fieldnames or ())]:
        raise IcmBenchError(f"{name} has no column '{missing[0]}'; its columns are {', '.join(COLUMNS)}.")
    numbers = []
    for line in lines:
        place, words = f"{name}, line {lines.line_num}", {column: line[column] for column in COLUMNS}
        if short := [column for column, word in words.items() if word is None]:
            raise IcmBenchError(f"{place}, has no '{short[0]}'; give every column, empty where nothing is known.")
        accuracy = words.pop("accuracy_percent")
        try:
            value = float(accuracy) if accuracy else None
        except ValueError:
            value = math.nan
        if value is not None and not 0 <= value <= 100:
            raise IcmBenchError(f"{place}: accuracy_percent is '{accuracy}'; give a number from 0 to 100, or nothing.")
        numbers.append(PublishedNumber(accuracy=value, **words))
    return tuple(numbers)


@cache
def published_of(dataset: str, method: str) -> tuple[PublishedNumber, ...]:
    """Return the package's numbers and averages of a method on a data set, without empty ones."""
    every = with_averages(read_published())
    return tuple(one for one in every if (one.dataset, one.method) == (dataset, method) and one.accuracy is not None)


def with_averages(numbers: Iterable[PublishedNumber]) -> list[PublishedNumber]:
    """Return the numbers, and the average of every source that has all environments of a set and no average.

    Such an average says so behind its source. It is not rounded.
    """
    every = list(numbers)
    groups: dict[PublishedNumber, dict[str, float]] = {}
    for one in every:
        if one.accuracy is not None:
            groups.setdefault(replace(one, environment=AVERAGE, accuracy=None), {})[one.environment] = one.accuracy
    for whole, of_environments in groups.items():
        facts = facts_of(whole.dataset)
        if facts is not None and not facts.single and set(of_environments) == set(facts.environments):
            source = whole.source + OF_ENVIRONMENTS
            every.append(replace(whole, accuracy=fmean(of_environments.values()), source=source))
    return every
