"""Records of published results in the schema of Every Eval Ever: how they are built, read and written.

A record is the result of one method in one setting (data set, encoder, protocol, test split, class half) under the rule
of verdicts. `Details` has what the schema has no field for. A record is built from its details, its publisher and its
answers alone, so that a check can build it again and compare.

    results/data/COLLECTION/DEVELOPER/MODEL/UUID.json             the record
    results/data/COLLECTION/DEVELOPER/MODEL/UUID_samples.jsonl    its answers, if they are published
    results/results.csv                                           one line for each record
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.inference import ImageInterval
from benchmark.results.answers import SCHEMA, Answers, Heading

VERSION = 1  # version of `Details`
COLLECTION = "icm-bench"
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
SAMPLES = "_samples.jsonl"
TABLE = "results.csv"


@dataclass(frozen=True)
class Publisher:
    """Who publishes results, and under which names.

    Attributes:
        organization: name of the organization that ran the evaluation.
        relationship: of the organization to the encoder: one of `RELATIONSHIPS`.
        model_ids: label of an encoder in the recipe -> its id, as developer/model. The label "" is for a recipe's only
            encoder.
        time: time of publication in Unix seconds.
    """

    organization: str
    relationship: str
    model_ids: Mapping[str, str]
    time: int


@dataclass(frozen=True, kw_only=True)
class Details:
    """What a record says of a run beyond the schema, in `eval_library.additional_details` as strings.

    Texts are stored as they are, other values as JSON. A field that is None is left out. Other keys are refused.

    Attributes:
        record_version: `VERSION`.
        recipe_name: name of the recipe.
        recipe_hash: SHA-256 (hex) of everything in the recipe that can change a number.
        recipe: the recipe as plain data, without `run` and without places of files.
        shortened: dotted keys of the recipe whose value was a place; only the name of the file is left.
        publication: hash of the state of data and weights. Gains with the same `recipe_hash` and `publication` are one
            family of tests.
        dataset: name of the data set in the recipe and in reports.
        data_fingerprint: SHA-256 (hex) of paths, classes, groups and bytes of its images.
        grouped: whether images come in groups (concepts, bursts), which are then the sampling unit.
        metric: metric of the data set, by its name in recipes. Only `accuracy` has verdicts.
        encoder: label of the encoder in the recipe and in reports.
        weights_fingerprint: SHA-256 (hex) of its weights.
        random_weights: whether its weights are random. Such records are refused.
        precision: type of the numbers in the forward pass.
        engine: engine of the image tower on a CPU, as the recipe names it.
        prompts: templates of the prompts.
        protocol: name of the protocol.
        test_split: tested part of the held-out environment.
        class_half: `all`; `base`, `new` or `harmonic` with open classes.
        rounding: rounding of half the number of classes; None without open classes.
        folds: number of folds; 0 for 80/20 splits.
        seeds: seeds of the splits.
        held_outs: held-out environments, sorted.
        classes: names of all classes.
        rule: selection rule.
        looks_at_target: whether protocol, rule or method look at test images or their labels. The record is a bound
            then and has no rank.
        method: label of the method.
        projection: name of the projection in recipes; `identity` for plain prediction.
        order: order of the eigenvectors; None without eigenvectors.
        variant: variant of the projection; empty for the usual one.
        predictor: name of the predictor with its variant.
        plain: file name (without suffix) of the record of plain prediction with this predictor; None for plain
            prediction itself, and if there is none.
        code_version: versions of the code that made the rows.
        versions: package -> version, where the record was published.
        machine: processors or GPUs that embedded the images.
        verdict: verdict on the gain over plain prediction; empty for plain prediction and without accuracy as metric.
        why: reason if there is no verdict; empty otherwise.
        p_holm: p-value of the gain in accuracy, adjusted by Holm over the family; None if unknown.
        p_balanced_holm: the same for class-balanced accuracy.
        p_both_holm: the same for both.
        family: number of gains in the family.
    """

    record_version: int = VERSION
    recipe_name: str
    recipe_hash: str
    recipe: dict[str, Any]
    shortened: list[str] = field(default_factory=list)
    publication: str
    dataset: str
    data_fingerprint: str
    grouped: bool
    metric: str
    encoder: str
    weights_fingerprint: str
    random_weights: bool
    precision: str
    engine: str
    prompts: list[str]
    protocol: str
    test_split: str
    class_half: str
    rounding: str | None = None
    folds: int
    seeds: list[int]
    held_outs: list[str]
    classes: list[str]
    rule: str
    looks_at_target: bool
    method: str
    projection: str
    order: str | None = None
    variant: str = ""
    predictor: str
    plain: str | None = None
    code_version: list[str]
    versions: dict[str, str]
    machine: list[str]
    verdict: str = ""
    why: str = ""
    p_holm: float | None = None
    p_balanced_holm: float | None = None
    p_both_holm: float | None = None
    family: int = 0

    def to_strings(self) -> dict[str, str]:
        """Return key -> value as text, for `additional_details`."""
        raise NotImplementedError

    @classmethod
    def of_strings(cls, strings: Mapping[str, Any], place: str) -> "Details":
        """Return the details that `to_strings` made.

        Args:
            strings: `additional_details` of a record.
            place: name of the file and field, for messages.

        Raises:
            IcmBenchError: a later version, an unknown key, a missing one, or a value that is not of its type.
        """
        raise NotImplementedError

    def uuid(self, model_id: str) -> str:
        """Return the name of the record: a UUID of version 4 whose other bits are a hash of what was evaluated."""
        raise NotImplementedError


@dataclass(frozen=True)
class Number:
    """One number of a record with its interval: an entry of `evaluation_results`.

    Attributes:
        metric: `accuracy` or `balanced_accuracy`.
        gain: whether it is the difference to plain prediction.
        held_out: the held-out environment; empty for the average over all.
        interval: the number with its interval, as a fraction.
        images: number of distinct test images.
    """

    metric: str
    gain: bool
    held_out: str
    interval: ImageInterval
    images: int

    @property
    def id(self) -> str:
        """`evaluation_result_id`: "accuracy", "accuracy/sketch", "gain in accuracy"."""
        raise NotImplementedError


@dataclass(frozen=True)
class Published:
    """A record with its answers.

    Attributes:
        path: its file inside the results folder: `data/icm-bench/DEVELOPER/MODEL/UUID.json`.
        record: the record in the schema of Every Eval Ever, as plain data.
        answers: its answers; None if only the record is published.
    """

    path: str
    record: dict[str, Any]
    answers: Answers | None = None

    @cached_property
    def details(self) -> Details:
        """The record's details."""
        raise NotImplementedError

    @cached_property
    def numbers(self) -> list[Number]:
        """The record's numbers, as they are stated."""
        raise NotImplementedError

    @property
    def model_id(self) -> str:
        """Id of the encoder, as developer/model."""
        return str(self.record["model_info"]["id"])

    @property
    def samples(self) -> str:
        """Path of the file of answers inside the results folder."""
        return self.path.removesuffix(".json") + SAMPLES

    @property
    def heading(self) -> Heading:
        """What the lines of its answers have in common."""
        raise NotImplementedError

    def same(self, other: "Published") -> bool:
        """Return whether two records differ at most in times and in the names of those who publish them."""
        raise NotImplementedError


def build(
    details: Details, publisher: Publisher, numbers: Sequence[Number], answers: Answers | None, time: int | None = None
) -> Published:
    """Return the record of a method in a setting.

    Args:
        details: details of the run.
        publisher: who publishes it.
        numbers: its numbers, see `benchmark.results.checking.numbers_of`.
        answers: its answers; None to publish the record alone.
        time: Unix time of the record; default: that of `publisher`.
    """
    raise NotImplementedError


def read_results(storage: Storage) -> tuple[list[Published], list[str]]:
    """Return the records of a results folder that can be read, and one sentence for each file that cannot."""
    raise NotImplementedError


def write(storage: Storage, published: Sequence[Published]) -> list[str]:
    """Write records and answers atomically, then `results.csv` from all records on disk; return the files written.

    A record that differs from the one on disk only in times is left alone, so publishing twice changes no byte.

    Raises:
        IcmBenchError: another organization has published the record, or a file cannot be written.
    """
    raise NotImplementedError
