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
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash, from_json
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.escaping import FORMULA_SIGNS
from benchmark.method.evaluation.answers import Answered
from benchmark.method.evaluation.inference import CONFIDENCE, ImageInterval
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED
from benchmark.results.answers import RESTORE, SCHEMA, Answers, Heading

VERSION = 1  # version of `Details`
COLLECTION = "icm-bench"
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
PATH = re.compile(rf"data(/[^/]+){{3}}/{_UUID.pattern}\.json")
SAMPLES, TABLE = "_samples.jsonl", "results.csv"


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
        record_version: `VERSION`.
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
    def of_strings(cls, strings: Any, place: str) -> "Details":
        """Return the details that `to_strings` made.

        Args:
            strings: `additional_details` of a record.
            place: name of the file and field, for messages.

        Raises:
            IcmBenchError: a later version, an unknown key, a missing one, or a value that is not of its type.
        """
        if not isinstance(strings, dict) or not all(isinstance(value, str) for value in strings.values()):
            raise IcmBenchError(f"{place} is not an object of texts; {RESTORE}.")
        if (version := strings.get("record_version", "")).isdigit() and int(version) > VERSION:
            raise IcmBenchError(f"{place} has record_version {version}, of a later icm-bench; update icm-bench.")
        kinds = {one.name: one.type for one in fields(cls)}
        if unknown := [key for key in strings if key not in kinds]:
            raise IcmBenchError(f"{place} has the unknown key '{unknown[0]}'; remove it, or update icm-bench.")
        texts = {name for name, kind in kinds.items() if kind in (str, str | None)}
        plain = {k: v if k in texts else from_json(v, f"{place}.{k}", RESTORE) for k, v in strings.items()}
        try:
            return _reader().validate_python(plain)
        except ValidationError as error:
            key, why = error.errors()[0]["loc"][0], error.errors()[0]["msg"].lower()
            raise IcmBenchError(f"{place}.{key}: {why}; {RESTORE}, or update icm-bench.") from error

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
def _reader() -> TypeAdapter[Details]:
    return TypeAdapter(Details)


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
        return f"{'gain_in_' * self.gain}{self.metric}{self.held_out and f'/{self.held_out}'}"

    def entry(self, details: Details) -> dict[str, Any]:
        """Return the entry of `evaluation_results`."""
        one, uncertainty = self.interval, dict[str, Any](num_samples=self.images)
        if not np.isnan(one.standard_error):
            uncertainty["standard_error"] = {"value": one.standard_error, "method": "cluster-robust over images"}
        if not np.isnan(one.low):
            ends = {"lower": one.low, "upper": one.high, "confidence_level": CONFIDENCE, "method": "Student's t"}
            uncertainty["confidence_interval"] = ends
        known = {name: _json(v) for name in _OF_INTERVAL if not np.isnan(v := getattr(one, name))}
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
                "score": one.estimate,
                "details": {"metric": self.metric, "gain": _json(self.gain), "held_out": self.held_out, **known},
                "uncertainty": uncertainty,
            },
        }  # fmt: skip

    @classmethod
    def of_entry(cls, entry: Any) -> "Number":
        """Return the number of an entry of `evaluation_results`; raise KeyError, TypeError or ValueError without it."""
        score, details = entry["score_details"], entry["score_details"]["details"]
        error = score["uncertainty"].get("standard_error", {"value": np.nan})["value"]
        more: dict[str, Any] = {name: float(details.get(name, "nan")) for name in _OF_INTERVAL}
        counts = {name: int(more[name]) for name in ("clusters", "min_clusters", "seeds")}
        counts["num_samples"] = int(score["uncertainty"]["num_samples"])
        if not all(0 <= count < 2**31 for count in counts.values()) or np.isinf([*more.values()]).any():
            raise ValueError(f"{counts} or {more} are out of range")
        images = counts.pop("num_samples")
        interval = ImageInterval(float(score["score"]), float(error), **{**more, **counts})
        metric, held_out = details["metric"], details["held_out"]
        if metric not in ("accuracy", "balanced_accuracy") or not isinstance(held_out, str):
            raise ValueError(f"{metric!r} in {held_out!r} is not one")
        return cls(metric, details["gain"] == "true", held_out, interval, images)


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
            average = ours.estimate(minus, metric=metric)
            names = average.held_outs if average and metric == ACCURACY else ()
            for held_out, one in {"": average, **{e: ours.estimate(minus, e, metric) for e in names}}.items():
                images = [ours[key].tested.position for key in ours if held_out in ("", key[0])]
                if one is not None:
                    n = len(np.unique(np.concatenate(images)))
                    found.append(Number(name, minus is not None, held_out, one.interval, n))
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
        return Details.of_strings(strings, f"{self.path}: eval_library.additional_details")

    @cached_property
    def numbers(self) -> list[Number]:
        """The record's numbers, as they are stated."""
        try:
            return [Number.of_entry(entry) for entry in self.record["evaluation_results"]]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            problem = f"evaluation_results has an entry without its numbers ({error!r})"
            raise IcmBenchError(f"{self.path}: {problem}; {RESTORE}.") from error

    @cached_property
    def publisher(self) -> Publisher:
        """Who published the record."""
        try:
            source, time = self.record["source_metadata"], int(self.record["retrieved_timestamp"])
            who = str(source["source_organization_name"]), str(source["evaluator_relationship"])
            return Publisher(*who, {"": str(self.record["model_info"]["id"])}, time)
        except (KeyError, TypeError, ValueError) as error:
            raise IcmBenchError(f"{self.path} lacks {error}, of who published it and when; {RESTORE}.") from error

    @property
    def model_id(self) -> str:
        """Id of the encoder, as developer/model."""
        return self.publisher.model_ids[""]

    @property
    def samples(self) -> str:
        """Path of the file of answers inside the results folder."""
        return self.path.removesuffix(".json") + SAMPLES

    @property
    def heading(self) -> Heading:
        """What the lines of its answers have in common."""
        return Heading(str(self.record.get("evaluation_id")), self.model_id, self.details.dataset, self.details.rule)

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
    model_id = publisher.model_id(details.encoder)
    record = {
        "schema_version": SCHEMA,
        "evaluation_id": f"{COLLECTION}/{model_id}/{details.uuid(model_id)}",
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
        "evaluation_results": [number.entry(details) for number in numbers],
    }  # fmt: skip
    made = Published(details.path(model_id), record, answers)
    if answers is not None:
        checksum = hashlib.sha256(answers.to_jsonl(made.heading)).hexdigest()
        record["detailed_evaluation_results"] = {
            "format": "jsonl", "file_path": made.samples, "hash_algorithm": "sha256", "checksum": checksum,
            "total_rows": len(answers),
        }  # fmt: skip
    return made


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
    record = from_json(storage.read_bytes(name), name, RESTORE)
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA:
        problem = f"{name}: schema_version is {version!r}, and this icm-bench reads {SCHEMA}"
        raise IcmBenchError(f"{problem}; update icm-bench.")
    try:
        _json(record).encode()
    except (ValueError, RecursionError) as error:
        raise IcmBenchError(f"{name} has a text that is no Unicode; {RESTORE}.") from error
    alone = Published(name, record)
    detailed = record.get("detailed_evaluation_results")
    if detailed is None or not answers:
        return alone
    if (content := storage.read_if_there(alone.samples)) is None:
        raise IcmBenchError(f"{alone.samples} is missing, and {name} names its answers; {RESTORE}.")
    read, heading = Answers.of_jsonl(content, alone.samples)
    for one in fields(heading):
        stated, expected = getattr(heading, one.name), getattr(alone.heading, one.name)
        if stated != expected:
            problem = f"{alone.samples}: its lines are of {one.name} {stated!r}, its record of {expected!r}"
            raise IcmBenchError(f"{problem}; put the answers of this record there, or publish its recipe again.")
    if not isinstance(detailed, dict) or hashlib.sha256(content).hexdigest() != detailed.get("checksum"):
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
            if (owner := there.publisher.organization) != one.publisher.organization:
                raise IcmBenchError(f"{one.path} is published by '{owner}'; publish into another folder with --to.")
            then = {**one.record, "retrieved_timestamp": there.record["retrieved_timestamp"]}
            if files | Published(one.path, then).files() == before:
                continue
        changed |= {name: content for name, content in files.items() if content != before[name]}
    for name, content in changed.items():
        storage.write_bytes(name, content)
    return [*changed, *write_table(storage)]


def write_table(storage: Storage) -> list[str]:
    """Write `results.csv` from all records of a results folder; return its name if it changed."""
    sink = io.StringIO()
    writer = csv.DictWriter(sink, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in sorted(read_results(storage, answers=False)[0], key=lambda one: one.path):
        row = {name: getattr(one.details, name) for name in _OF_DETAILS}
        row |= {"file": one.path, "model_id": one.model_id, "organization": one.publisher.organization}
        for number in (number for number in one.numbers if not number.held_out):
            at, ends = number.interval, zip(("", "_low", "_high"), ("estimate", "low", "high"), strict=True)
            row |= {f"{number.id}{end}": getattr(at, name) for end, name in ends} | {"images": number.images}
        writer.writerow({name: _safe(value) for name, value in row.items()})
    content = sink.getvalue().encode()
    if storage.read_if_there(TABLE) == content:
        return []
    storage.write_bytes(TABLE, content)
    return [TABLE]


_OF_DETAILS = (
    "dataset", "encoder", "method", "predictor", "protocol", "test_split", "class_half", "rule", "looks_at_target",
    "verdict", "p_holm", "p_both_holm", "recipe_name", "recipe_hash",
)  # fmt: skip
_OF_NUMBERS = ("accuracy", "balanced_accuracy", "gain_in_accuracy", "gain_in_balanced_accuracy")
_COLUMNS = (
    "file", "model_id", "organization", *_OF_DETAILS,
    *(f"{name}{end}" for name in _OF_NUMBERS for end in ("", "_low", "_high")), "images",
)  # fmt: skip


def _safe(value: Any) -> Any:
    """Return a value for a CSV file: numbers that are not known are empty, and text is never run as a formula."""
    if value is None or value != value:
        return ""
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith((*FORMULA_SIGNS,)) else value
