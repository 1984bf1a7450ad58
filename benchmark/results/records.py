"""Records of published results in the schema of Every Eval Ever: how they are built, read and written.

A record is the result of one method in one setting (data set, encoder, protocol, test split, class half) under the rule
of verdicts. `Details` has what the schema has no field for. A record is built from its details, its publisher and its
answers alone, so that a check can build it again and compare.

    results/data/COLLECTION/DEVELOPER/MODEL/UUID.json             the record
    results/data/COLLECTION/DEVELOPER/MODEL/UUID_samples.jsonl    its answers, if they are published
    results/results.csv                                           one line for each record
"""

import csv
import hashlib
import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from typing import Any, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash, from_json
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.escaping import FORMULA_SIGNS
from benchmark.method.evaluation.answers import Answered
from benchmark.method.evaluation.inference import CONFIDENCE, ImageInterval
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED
from benchmark.results.answers import RESTORE, SCHEMA, Answers, Heading, estimates

VERSION = 1  # version of `Details`
COLLECTION = "icm-bench"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
PATH = re.compile(rf"data(/[^/]+){{3}}/{_UUID.pattern}\.json")
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
    def of_strings(cls, strings: Mapping[str, Any], place: str) -> "Details":
        """Return the details that `to_strings` made.

        Args:
            strings: `additional_details` of a record.
            place: name of the file and field, for messages.

        Raises:
            IcmBenchError: a later version, an unknown key, a missing one, or a value that is not of its type.
        """
        version = strings.get("record_version", "")
        if isinstance(version, str) and version.isdigit() and int(version) > VERSION:
            raise IcmBenchError(f"{place} has record_version {version}, of a later icm-bench; update icm-bench.")
        values = {}
        for name, value in strings.items():
            if name not in (kinds := _kinds()):
                raise IcmBenchError(f"{place} has the unknown key '{name}'; remove it, or update icm-bench.")
            kind, is_text = kinds[name]
            if not isinstance(value, str):
                raise IcmBenchError(f"{place}.{name} is not a text; {RESTORE}.")
            try:
                plain = value if is_text else from_json(value, f"{place}.{name}", RESTORE)
                values[name] = kind.validate_python(plain, strict=True)
            except ValidationError as error:
                raise IcmBenchError(f"{place}.{name} is {value!r:.80}, which is not its type; {RESTORE}.") from error
        try:
            return cls(**values)
        except TypeError as error:
            raise IcmBenchError(f"{place} lacks {str(error).rpartition(': ')[2]}; {RESTORE}.") from error

    def uuid(self, model_id: str) -> str:
        """Return the name of the record: a UUID of version 4 whose other bits are a hash of what was evaluated."""
        digest = canonical_hash([model_id, *(getattr(self, name) for name in _IDENTITY)])
        return str(uuid.UUID(bytes=bytes.fromhex(digest)[:16], version=4))

    def path(self, model_id: str) -> str:
        """Return the path of the record inside a results folder."""
        return f"data/{COLLECTION}/{model_id}/{self.uuid(model_id)}.json"


_IDENTITY = (
    "recipe_hash", "publication", "dataset", "data_fingerprint", "encoder", "weights_fingerprint", "precision",
    "prompts", "protocol", "test_split", "class_half", "rounding", "folds", "projection", "order", "variant",
    "predictor",
)  # fmt: skip


@cache
def _kinds() -> dict[str, tuple[TypeAdapter[Any], bool]]:
    """Return field of `Details` -> its type, and whether it is stored as it is."""
    hints = get_type_hints(Details)
    return {one.name: (TypeAdapter(h := hints[one.name]), h in (str, str | None)) for one in fields(Details)}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


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
        """`evaluation_result_id`: "accuracy", "accuracy/sketch", "gain_in_accuracy"."""
        return f"{'gain_in_' if self.gain else ''}{self.metric}{self.held_out and f'/{self.held_out}'}"

    @property
    def name(self) -> str:
        """The number in words: "gain in accuracy over plain prediction, average over held-out environments"."""
        what = self.metric.replace("balanced_", "class-balanced ")
        what = f"gain in {what} over plain prediction" if self.gain else what
        return f"{what} in {self.held_out}" if self.held_out else f"{what}, average over held-out environments"

    def entry(self, details: Details) -> dict[str, Any]:
        """Return the entry of `evaluation_results`."""
        one, of_data = self.interval, {"fingerprint": details.data_fingerprint}
        more = {name: getattr(one, name) for name in _OF_INTERVAL if not np.isnan(getattr(one, name))}
        uncertainty: dict[str, Any] = {"num_samples": self.images}
        if not np.isnan(one.standard_error):
            uncertainty["standard_error"] = {"value": one.standard_error, "method": "cluster-robust over images"}
        if not np.isnan(one.low):
            ends = {"lower": one.low, "upper": one.high, "confidence_level": CONFIDENCE, "method": "Student's t"}
            uncertainty["confidence_interval"] = ends
        return {
            "evaluation_result_id": self.id,
            "evaluation_name": f"{details.dataset}: {self.name}",
            "source_data": {"dataset_name": details.dataset, "source_type": "other", "additional_details": of_data},
            "metric_config": {
                "evaluation_description": f"{self.name}; {_CLASSES[details.class_half]}",
                "metric_id": f"icm_bench.{self.id.partition('/')[0]}" if self.gain else self.metric,
                "metric_name": self.name.partition(" in " if self.held_out else ", average")[0],
                "metric_kind": self.metric,
                "metric_unit": "proportion",
                "lower_is_better": False,
                "score_type": "continuous",
                "min_score": -1.0 if self.gain else 0.0,
                "max_score": 1.0,
            },
            "score_details": {
                "score": one.estimate,
                "details": {
                    "metric": self.metric,
                    "gain": _json(self.gain),
                    "held_out": self.held_out,
                    **{name: _json(value) for name, value in more.items()},
                },
                "uncertainty": uncertainty,
            },
        }

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> "Number":
        """Return the number of an entry of `evaluation_results`; raise KeyError, TypeError or ValueError without it."""
        score, details = entry["score_details"], entry["score_details"]["details"]
        error = score["uncertainty"].get("standard_error", {"value": np.nan})["value"]
        more = {name: float(details.get(name, "nan")) for name in _OF_INTERVAL}
        counts = {name: int(more[name]) for name in ("clusters", "min_clusters", "seeds")}
        interval = ImageInterval(
            float(score["score"]), float(error), more["degrees_of_freedom"], **counts, slope=more["slope"]
        )
        images = int(score["uncertainty"]["num_samples"])
        return cls(details["metric"], details["gain"] == "true", details["held_out"], interval, images)


_OF_INTERVAL = ("degrees_of_freedom", "clusters", "min_clusters", "seeds", "slope")
_CLASSES = {
    "all": "all classes",
    "base": "base classes",
    "new": "new classes",
    "harmonic": "harmonic mean of base and new classes",
}


def numbers_of(ours: Answered, plain: Answered | None) -> list[Number]:
    """Return the numbers of a record: accuracies, and gains over plain prediction.

    Args:
        ours: the method.
        plain: plain prediction with the same predictor; None for plain prediction itself, or without any.
    """
    found = []
    asked = [(ACCURACY, "accuracy", None), (BALANCED, "balanced_accuracy", None)]
    asked += [(metric, name, plain) for metric, name, _ in asked if plain is not None]
    for metric, name, minus in asked:
        if one := estimates(ours, minus, metric):
            of = {"": one.average} | (one.of if name == "accuracy" else {})
            found += [Number(name, minus is not None, at, i, one.images[at]) for at, i in of.items()]
    return found


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
        library = self.record.get("eval_library")
        strings = library.get("additional_details") if isinstance(library, dict) else None
        place = f"{self.path}: eval_library.additional_details"
        return Details.of_strings(strings if isinstance(strings, dict) else {}, place)

    @cached_property
    def numbers(self) -> list[Number]:
        """The record's numbers, as they are stated."""
        try:
            return [Number.of_entry(entry) for entry in self.record["evaluation_results"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"evaluation_results has an entry without its numbers ({error!r})"
            raise IcmBenchError(f"{self.path}: {problem}; {RESTORE}.") from error

    @cached_property
    def publisher(self) -> Publisher:
        """Who published the record."""
        try:
            source, time = self.record["source_metadata"], self.record["retrieved_timestamp"]
            who = source["source_organization_name"], source["evaluator_relationship"]
            return Publisher(*who, {self.details.encoder: self.record["model_info"]["id"]}, int(time))
        except (KeyError, TypeError, ValueError) as error:
            raise IcmBenchError(f"{self.path} lacks {error}, which tells who published it; {RESTORE}.") from error

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
        return Heading(self.record["evaluation_id"], self.model_id, self.details.dataset, self.details.rule)

    def files(self) -> dict[str, bytes]:
        """Return path -> content of its files, answers first."""
        text = json.dumps(self.record, indent=1, ensure_ascii=False, allow_nan=False)
        record = {self.path: f"{text}\n".encode()}
        return record if self.answers is None else {self.samples: self.answers.to_jsonl(self.heading)} | record


def build(details: Details, publisher: Publisher, numbers: Sequence[Number], answers: Answers | None) -> Published:
    """Return the record of a method in a setting.

    Args:
        details: details of the run.
        publisher: who publishes it.
        numbers: its numbers, see `numbers_of`.
        answers: its answers; None to publish the record alone.
    """
    model_id = publisher.model_ids.get(details.encoder) or publisher.model_ids[""]
    path = details.path(model_id)
    record = {
        "schema_version": SCHEMA,
        "evaluation_id": f"{COLLECTION}/{model_id}/{details.uuid(model_id)}",
        "retrieved_timestamp": str(publisher.time),
        "source_metadata": {
            "source_name": "icm-bench",
            "source_type": "evaluation_run",
            "source_organization_name": publisher.organization,
            "evaluator_relationship": publisher.relationship,
        },
        "eval_library": {
            "name": "icm-bench",
            "version": details.versions.get("icm-bench", "unknown"),
            "additional_details": details.to_strings(),
        },
        "model_info": {
            "name": details.encoder,
            "id": model_id,
            "developer": model_id.partition("/")[0],
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": details.availability,
            },
        },
        "evaluation_results": [number.entry(details) for number in numbers],
    }
    made = Published(path, record, answers)
    if answers is not None:
        record["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": made.samples,
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(answers.to_jsonl(made.heading)).hexdigest(),
            "total_rows": len(answers),
        }
    return made


def read_results(storage: Storage, answers: bool = True) -> tuple[list[Published], list[str]]:
    """Return the records of a results folder that can be read, and one sentence for each file that cannot.

    Args:
        storage: the results folder.
        answers: whether to read answers (default), or only records.
    """
    found, problems = [], []
    names = storage.files("data", ".json")
    for name in names:
        try:
            found.append(_read(storage, name, answers))
        except IcmBenchError as error:
            problems.append(str(error))
    known = {*names}
    for name in storage.files("data", ".jsonl"):
        if name.removesuffix(SAMPLES) + ".json" not in known:
            problems.append(f"{name} has no record beside it; publish its recipe again, or remove it.")
    return found, problems


def misplaced(storage: Storage) -> list[str]:
    """Return one sentence for each file of a results folder that is named like a record and lies outside `data`."""
    there = [name for suffix in (".json", ".jsonl") for name in storage.files("", suffix)]
    wrong = (name for name in there if not name.startswith("data/") and _UUID.match(name.rpartition("/")[2]))
    return [f"{name} lies outside data/, where nothing reads it; move it to its place, or remove it." for name in wrong]


def _read(storage: Storage, name: str, answers: bool) -> Published:
    if not PATH.fullmatch(name):
        raise IcmBenchError(f"{name} is not at data/COLLECTION/DEVELOPER/MODEL/UUID.json; move it there, or remove it.")
    record = from_json(storage.read_bytes(name), name, RESTORE)
    if not isinstance(record, dict):
        raise IcmBenchError(f"{name} is not a record: it holds no JSON object; {RESTORE}.")
    if record.get("schema_version") != SCHEMA:
        problem = f"{name}: schema_version is {record.get('schema_version')!r}, and this icm-bench reads {SCHEMA}"
        raise IcmBenchError(f"{problem}; update icm-bench.")
    alone = Published(name, record)
    detailed = record.get("detailed_evaluation_results")
    if detailed is None or not answers:
        return alone
    if not isinstance(detailed, dict):
        raise IcmBenchError(f"{name}: detailed_evaluation_results is not an object; {RESTORE}.")
    content = storage.read_if_there(alone.samples)
    if content is None:
        raise IcmBenchError(f"{alone.samples} is missing, and {name} names it; {RESTORE}.")
    read, heading = Answers.of_jsonl(content, alone.samples)
    for one in fields(heading):
        stated, expected = getattr(heading, one.name), getattr(alone.heading, one.name)
        if stated != expected:
            problem = (
                f"{alone.samples}: its lines are of {one.name} {stated!r}, and the record beside it of {expected!r}"
            )
            raise IcmBenchError(f"{problem}; put the answers of this record there, or publish its recipe again.")
    if hashlib.sha256(content).hexdigest() != detailed.get("checksum"):
        problem = f"{name}: detailed_evaluation_results.checksum is not the SHA-256 of {alone.samples}"
        raise IcmBenchError(f"{problem}, which was changed; {RESTORE}.")
    return Published(name, record, read)


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
            there = Published(one.path, from_json(stated, one.path, RESTORE))
            if there.publisher.organization != one.publisher.organization:
                owner = there.publisher.organization
                raise IcmBenchError(f"{one.path} is published by '{owner}'; publish into another folder with --to.")
            same_time = {**one.record, "retrieved_timestamp": there.record["retrieved_timestamp"]}
            files[one.path] = Published(one.path, same_time).files()[one.path]
            if files != before:
                files = one.files()
        changed |= {name: content for name, content in files.items() if content != before[name]}
    for name, content in changed.items():
        storage.write_bytes(name, content)
    return [*changed, *write_table(storage)]


def write_table(storage: Storage) -> list[str]:
    """Write `results.csv` from all records of a results folder; return its name if it changed."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in sorted(read_results(storage, answers=False)[0], key=lambda one: one.path):
        writer.writerow(_safe(_row(one).get(name)) for name in _COLUMNS)
    content = sink.getvalue().encode()
    if storage.read_if_there(TABLE) == content:
        return []
    storage.write_bytes(TABLE, content)
    return [TABLE]


_OF_DETAILS = (
    "dataset", "encoder", "method", "predictor", "protocol", "test_split", "class_half", "rule", "looks_at_target",
    "verdict", "p_holm", "p_balanced_holm", "p_both_holm", "recipe_name", "recipe_hash",
)  # fmt: skip
_OF_NUMBERS = ("accuracy", "balanced_accuracy", "gain_in_accuracy", "gain_in_balanced_accuracy")
_COLUMNS = (
    "file", "model_id", *_OF_DETAILS[:9],
    *(f"{name}{end}" for name in _OF_NUMBERS for end in ("", "_standard_error", "_low", "_high")), "images",
    *_OF_DETAILS[9:], "organization", "relationship",
)  # fmt: skip


def _row(one: Published) -> dict[str, Any]:
    """Return column -> value of a record in `results.csv`; accuracies and gains are fractions."""
    row = {name: getattr(one.details, name) for name in _OF_DETAILS} | {"file": one.path, "model_id": one.model_id}
    row |= {"organization": one.publisher.organization, "relationship": one.publisher.relationship}
    for number in (number for number in one.numbers if not number.held_out):
        at = number.interval
        values = {"": at.estimate, "_standard_error": at.standard_error, "_low": at.low, "_high": at.high}
        row |= {f"{number.id}{end}": value for end, value in values.items()} | {"images": number.images}
    return row


def _safe(value: Any) -> Any:
    """Return a value for a CSV file: numbers that are not known are empty, and text is never run as a formula."""
    if value is None or value != value:
        return ""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in {*FORMULA_SIGNS} - {""} else value
