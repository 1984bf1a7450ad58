"""Records of published results in the schema of Every Eval Ever: how they are built, read and written.

A record is the result of one method in one setting (data set, encoder, protocol, test split, class half) under the rule
of verdicts. `Details` has what the schema has no field for. A record follows from its details, its publisher, its
numbers and its answers alone, so that a check can make it again and compare.

    results/data/COLLECTION/DEVELOPER/MODEL/UUID.json             the record
    results/data/COLLECTION/DEVELOPER/MODEL/UUID_samples.jsonl    its answers, if they are published
    results/results.csv                                           one line for each record
"""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import ConfigDict, TypeAdapter, ValidationError

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash, from_json
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.escaping import FORMULA_SIGNS
from benchmark.method.evaluation.answers import Answered
from benchmark.method.evaluation.inference import CONFIDENCE, ImageInterval
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED
from benchmark.results.answers import RESTORE, SCHEMA, Heading, of_jsonl, to_jsonl

COLLECTION = "icm-bench"
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
PATH = re.compile(rf"data(/[^/]+){{3}}/{_UUID.pattern}\.json")
SAMPLES, TABLE = "_samples.jsonl", "results.csv"


class RangeError(ValueError):
    """A number of a record lies outside the range of what it counts."""


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

    def model_id(self, encoder: str) -> str:
        """Return the id of the encoder with a label."""
        return self.model_ids.get(encoder) or self.model_ids[""]


@dataclass(frozen=True, kw_only=True)
class Details:
    """What a record says of a run beyond the schema, in `eval_library.additional_details` as strings.

    Texts are stored as they are, other values as JSON. A field that is None is left out. Other keys are refused.

    Attributes:
        record_version: version of these fields; a later one is refused.
        recipe_name: name of the recipe.
        recipe_hash: SHA-256 (hex) of everything in the recipe that can change a number.
        recipe: the recipe as plain data without places, see `benchmark.recipe.published`.
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
        availability: `open_weights` if a registry or package has the weights, else `unknown`.
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

    __pydantic_config__ = ConfigDict(extra="forbid")  # for `of_strings`

    record_version: Literal[1] = 1
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
    availability: str
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
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: v if isinstance(v, str) else _json(v) for name, v in values.items() if v is not None}

    @classmethod
    def of_strings(cls, strings: Mapping[str, str], place: str) -> "Details":
        """Return the details that `to_strings` made.

        Args:
            strings: `additional_details` of a record.
            place: name of the file, for messages.

        Raises:
            IcmBenchError: a value is not JSON.
            ValueError: a later version, an unknown key, a missing one, or a value that is not of its type or range.
        """
        texts = {one.name for one in fields(cls) if one.type in (str, str | None)}
        known = {one.name for one in fields(cls)} - texts
        plain = {k: from_json(v, f"{place}: {k}", RESTORE) if k in known else v for k, v in strings.items()}
        details = _DETAILS.validate_python(plain)
        for name in ("p_holm", "p_balanced_holm", "p_both_holm"):
            if (p := getattr(details, name)) is not None and not 0 <= p <= 1:
                raise RangeError(f"{name} is {p:g}, and a p-value lies in 0 to 1")
        return details

    def uuid(self, model_id: str) -> str:
        """Return the name of the record: a UUID of version 4 whose other bits are a hash of what was evaluated."""
        digest = canonical_hash([model_id, *(getattr(self, name) for name in IDENTITY)])
        return str(uuid.UUID(bytes=bytes.fromhex(digest)[:16], version=4))

    def path(self, model_id: str) -> str:
        """Return the path of the record inside a results folder."""
        return f"data/{COLLECTION}/{model_id}/{self.uuid(model_id)}.json"


IDENTITY = (  # details that make a record another one
    "recipe_hash", "publication", "dataset", "data_fingerprint", "encoder", "weights_fingerprint", "precision",
    "prompts", "protocol", "test_split", "class_half", "rounding", "folds", "projection", "order", "variant",
    "predictor",
)  # fmt: skip


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class Number(ImageInterval):
    """One number of a record with its interval, as a fraction: an entry of `evaluation_results`.

    Attributes:
        metric: `accuracy` or `balanced_accuracy`.
        gain: whether it is the difference to plain prediction.
        held_out: the held-out environment; empty for the average over all.
        images: number of distinct test images.
    """

    metric: Literal["accuracy", "balanced_accuracy"]
    gain: bool
    held_out: str
    images: int

    @property
    def id(self) -> str:
        """`evaluation_result_id`: "accuracy", "accuracy/sketch", "gain_in_accuracy"."""
        return f"{'gain_in_' * self.gain}{self.metric}{self.held_out and f'/{self.held_out}'}"

    def entry(self, details: Details) -> dict[str, Any]:
        """Return the entry of `evaluation_results`."""
        uncertainty = dict[str, Any](num_samples=self.images)
        if not np.isnan(self.standard_error):
            uncertainty["standard_error"] = {"value": self.standard_error, "method": "cluster-robust over images"}
        if not np.isnan(self.low):
            ends = {"lower": self.low, "upper": self.high, "confidence_level": CONFIDENCE, "method": "Student's t"}
            uncertainty["confidence_interval"] = ends
        known = {name: _json(v) for name in _OF_INTERVAL if not np.isnan(v := getattr(self, name))}
        what = "gain over plain prediction in " * self.gain + self.metric.replace("balanced_", "class-balanced ")
        where = f" in {self.held_out}" if self.held_out else ", average over held-out environments"
        return {
            "evaluation_result_id": self.id,
            "evaluation_name": f"{details.dataset}: {what}{where}",
            "source_data": {
                "dataset_name": details.dataset, "source_type": "other",
                "additional_details": {"fingerprint": details.data_fingerprint},
            },
            "metric_config": {
                "evaluation_description": f"{what}{where}; classes: {details.class_half}",
                "metric_id": "icm_bench." * self.gain + self.id.partition("/")[0],
                "metric_name": what, "metric_kind": self.metric, "metric_unit": "proportion",
                "lower_is_better": False, "score_type": "continuous", "min_score": -float(self.gain), "max_score": 1.0,
            },
            "score_details": {
                "score": self.estimate,
                "details": {"metric": self.metric, "gain": _json(self.gain), "held_out": self.held_out, **known},
                "uncertainty": uncertainty,
            },
        }  # fmt: skip

    @classmethod
    def of_entry(cls, entry: Any) -> "Number":
        """Return the number of an entry of `evaluation_results`; raise KeyError, TypeError or ValueError without it."""
        score, unknown = entry["score_details"], {"value": np.nan}
        error, images = score["uncertainty"].get("standard_error", unknown), score["uncertainty"]["num_samples"]
        known = {"estimate": score["score"], "standard_error": error["value"], "images": images}
        one = _NUMBER.validate_python({**dict.fromkeys(_OF_INTERVAL, np.nan), **score["details"], **known})
        counts = one.images, one.clusters, one.min_clusters, one.seeds
        if not all(0 <= count < 2**31 for count in counts) or np.isinf([one.degrees_of_freedom, one.slope]).any():
            raise ValueError(f"{one} is out of range")
        lowest, most = -1.0 if one.gain else 0.0, 1 + _ROUNDING
        if not lowest - _ROUNDING <= one.estimate <= most:
            raise RangeError(f"the score of {one.id} is {one.estimate:g}, and it lies in {lowest:g} to 1")
        if not (np.isnan(one.standard_error) or 0 <= one.standard_error <= most):
            raise RangeError(f"the standard_error of {one.id} is {one.standard_error:g}, and it lies in 0 to 1")
        return one


_ROUNDING = 1e-9  # by which a mean of fractions may exceed 1
_DETAILS, _NUMBER = TypeAdapter(Details), TypeAdapter(Number)
_OF_INTERVAL = ("degrees_of_freedom", "clusters", "min_clusters", "seeds", "slope")


def numbers_of(ours: Answered, plain: Answered | None = None) -> list[Number]:
    """Return the numbers of a record: averages of both accuracies, the accuracy in each environment, and gains.

    Args:
        ours: the method.
        plain: plain prediction with the same predictor, of the same call of `answered`. None (default) for plain
            prediction itself, or if there is none; there are no gains then.
    """
    found = []
    for minus in (None,) if plain is None else (None, plain):
        for name, metric in (("accuracy", ACCURACY), ("balanced_accuracy", BALANCED)):
            alone = sorted({held_out for held_out, _ in ours}) if metric == ACCURACY else []
            for held_out in ("", *alone):
                if estimate := ours.estimate(minus, held_out or None, metric):
                    images = np.concatenate([ours[key].tested.position for key in ours if held_out in ("", key[0])])
                    about = {"metric": name, "gain": minus is not None, "held_out": held_out}
                    counted = {**vars(estimate.interval), **about, "images": len(np.unique(images))}
                    found.append(_NUMBER.validate_python(counted))  # the same types as of a record that is read
    return found


@dataclass(frozen=True)
class Published:
    """A record with its answers.

    Attributes:
        details: details of the run.
        publisher: who publishes it.
        numbers: its numbers, see `numbers_of`.
        answers: its answers, see `benchmark.results.answers`; None (default) if only the record is published.
        file: its file inside the results folder it was read from; empty (default) for a new record.
        stated: the record in that file, as plain data; None (default) for a new record.
    """

    details: Details
    publisher: Publisher
    numbers: Sequence[Number]
    answers: pd.DataFrame | None = None
    file: str = ""
    stated: Mapping[str, Any] | None = None

    @property
    def model_id(self) -> str:
        """Id of the encoder, as developer/model."""
        return self.publisher.model_id(self.details.encoder)

    @property
    def path(self) -> str:
        """Path of the record inside the results folder: `data/icm-bench/DEVELOPER/MODEL/UUID.json`."""
        return self.file or self.details.path(self.model_id)

    @property
    def samples(self) -> str:
        """Path of the file of answers inside the results folder."""
        return self.path.removesuffix(".json") + SAMPLES

    @property
    def heading(self) -> Heading:
        """What the lines of its answers have in common."""
        name = f"{COLLECTION}/{self.model_id}/{self.details.uuid(self.model_id)}"
        return Heading(name, self.model_id, self.details.dataset, self.details.rule)

    @cached_property
    def lines(self) -> bytes:
        """The file of answers; empty without answers."""
        return b"" if self.answers is None else to_jsonl(self.answers, self.heading)

    @property
    def record(self) -> dict[str, Any]:
        """The record in the schema of Every Eval Ever, as plain data."""
        details, publisher, model_id = self.details, self.publisher, self.model_id
        record = {
            "schema_version": SCHEMA,
            "evaluation_id": self.heading.evaluation_id,
            "retrieved_timestamp": str(publisher.time),
            "source_metadata": {
                "source_name": "icm-bench", "source_type": "evaluation_run",
                "source_organization_name": publisher.organization, "evaluator_relationship": publisher.relationship,
            },
            "eval_library": {
                "name": "icm-bench", "version": details.versions.get("icm-bench", "unknown"),
                "additional_details": details.to_strings(),
            },
            "model_info": {
                "name": details.encoder, "id": model_id, "developer": model_id.partition("/")[0],
                "additional_details": {"deployment_type": "self_deployed", "model_availability": details.availability},
            },
            "evaluation_results": [number.entry(details) for number in self.numbers],
        }  # fmt: skip
        if self.answers is not None:
            record["detailed_evaluation_results"] = {
                "format": "jsonl", "file_path": self.samples, "hash_algorithm": "sha256",
                "checksum": hashlib.sha256(self.lines).hexdigest(), "total_rows": len(self.answers),
            }  # fmt: skip
        return record

    def files(self) -> dict[str, bytes]:
        """Return path -> content of its files, answers first."""
        text = json.dumps(self.record, indent=1, ensure_ascii=False, allow_nan=False)
        return {**({self.samples: self.lines} if self.lines else {}), self.path: f"{text}\n".encode()}


def read_results(storage: Storage, answers: bool = True) -> tuple[list[Published], list[str]]:
    """Return the records of a results folder that can be read, and one sentence for each file that cannot.

    Args:
        storage: the results folder.
        answers: whether to read answers (default), or only records.
    """
    found, problems = [], []
    there = [name for suffix in (".json", ".jsonl") for name in storage.files("", suffix)]
    for name in there:
        inside, is_record = name.startswith("data/"), name.endswith(".json")
        try:
            if inside and is_record:
                found.append(_read(storage, name, answers))
            elif inside and name.removesuffix(SAMPLES) + ".json" not in there:
                raise IcmBenchError(f"{name} has no record beside it; publish its recipe again, or remove it.")
            elif not inside and _UUID.match(name.rpartition("/")[2]):
                raise IcmBenchError(f"{name} lies outside data/, where nothing reads it; move it, or remove it.")
        except IcmBenchError as error:
            problems.append(str(error))
    return found, problems


def _read(storage: Storage, name: str, answers: bool) -> Published:
    if not PATH.fullmatch(name):
        raise IcmBenchError(f"{name} is not at data/COLLECTION/DEVELOPER/MODEL/UUID.json; move it there, or remove it.")
    alone = _parsed(storage.read_bytes(name), name)
    if not answers or "detailed_evaluation_results" not in (stated := alone.stated or {}):
        return alone
    if (content := storage.read_if_there(alone.samples)) is None:
        raise IcmBenchError(f"{alone.samples} is missing, and {name} names its answers; {RESTORE}.")
    heading = alone.heading._replace(evaluation_id=str(stated.get("evaluation_id")))
    return replace(alone, answers=of_jsonl(content, alone.samples, heading))


def _parsed(content: bytes, name: str) -> Published:
    """Return a record without its answers; raise IcmBenchError if it is none, or of a later version."""
    stated = from_json(content, name, RESTORE)
    try:
        if (version := stated["schema_version"]) != SCHEMA:
            raise IcmBenchError(
                f"{name}: schema_version is {version!r}, and this icm-bench reads {SCHEMA}; update icm-bench."
            )
        who, time = stated["source_metadata"], int(stated["retrieved_timestamp"])
        names = str(who["source_organization_name"]), str(who["evaluator_relationship"])
        return Published(
            Details.of_strings(stated["eval_library"]["additional_details"], name),
            Publisher(*names, {"": str(stated["model_info"]["id"])}, time),
            [Number.of_entry(entry) for entry in stated["evaluation_results"]],
            file=name,
            stated=stated,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where, why = ".".join(map(str, first["loc"])), first["msg"].lower()
        raise IcmBenchError(f"{name}: {error.title}.{where}: {why}; {RESTORE}, or update icm-bench.") from error
    except RangeError as error:
        raise IcmBenchError(f"{name}: {error}; {RESTORE}.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IcmBenchError(f"{name} is not a record of icm-bench ({error!r}); {RESTORE}.") from error


def write(storage: Storage, published: Sequence[Published]) -> list[str]:
    """Write records and answers atomically, then `results.csv` from all records on disk; return the files written.

    A record that differs from the one on disk only in time is left alone, so publishing twice changes no byte.

    Raises:
        IcmBenchError: another organization has published the record, or a file cannot be written.
    """
    changed: dict[str, bytes] = {}
    for one in published:
        files = one.files()
        before = {name: storage.read_if_there(name) for name in files}
        if (stated := before[one.path]) is not None:
            there = _parsed(stated, one.path).publisher
            if there.organization != one.publisher.organization:
                problem = f"{one.path} is published by '{there.organization}'"
                raise IcmBenchError(f"{problem}; publish into another folder with --to.")
            if replace(one, publisher=replace(one.publisher, time=there.time)).files() == before:
                continue
        changed |= {name: content for name, content in files.items() if content != before[name]}
    for name, content in changed.items():
        storage.write_bytes(name, content)
    return [*changed, *write_table(storage)]


def write_table(storage: Storage) -> list[str]:
    """Write `results.csv` from all records of a results folder; return its name if it changed."""
    rows = []
    for one in sorted(read_results(storage, answers=False)[0], key=lambda one: one.path):
        row: dict[str, Any] = {name: getattr(one.details, name) for name in _OF_DETAILS}
        row |= {"file": one.path, "model_id": one.model_id, "organization": one.publisher.organization}
        for of in (number for number in one.numbers if not number.held_out):
            row |= {of.id: of.estimate, f"{of.id}_low": of.low, f"{of.id}_high": of.high, "images": of.images}
        rows.append({  # a spreadsheet must not run a text as a formula
            name: f"'{value}" if isinstance(value, str) and value.lstrip().startswith((*FORMULA_SIGNS,)) else value
            for name, value in row.items()
        })  # fmt: skip
    content = pd.DataFrame(rows, columns=_COLUMNS).to_csv(index=False, lineterminator="\n").encode()
    if storage.read_if_there(TABLE) == content:
        return []
    storage.write_bytes(TABLE, content)
    return [TABLE]


_OF_DETAILS = (
    "dataset", "encoder", "method", "predictor", "protocol", "test_split", "class_half", "rule", "looks_at_target",
    "verdict", "p_holm", "p_both_holm", "recipe_name", "recipe_hash",
)  # fmt: skip
_OF_NUMBERS = ("accuracy", "balanced_accuracy", "gain_in_accuracy", "gain_in_balanced_accuracy")
_COLUMNS = [
    "file", "model_id", "organization", *_OF_DETAILS,
    *(f"{name}{end}" for name in _OF_NUMBERS for end in ("", "_low", "_high")), "images",
]  # fmt: skip
