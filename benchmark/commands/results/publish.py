"""`icm-bench publish`: writes the results of a recipe as records that others can check."""

import platform
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.gather import Gathered, gather
from benchmark.commands.preparing.records import only_record_of
from benchmark.commands.report import images_of
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.machine import processor
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.selection import KEY, RULES
from benchmark.recipe.published import without_paths
from benchmark.recipe.recipe import Recipe
from benchmark.results.answers import Answers, Texts, answered
from benchmark.results.checking import NO_VERDICT, judged_together
from benchmark.results.records import RELATIONSHIPS, Details, Number, Published, Publisher, build, numbers_of, write
from benchmark.store.records import RunRecord, read_record

if TYPE_CHECKING:
    from benchmark.sweep.subject import Subject
    from reports.analysis.methods import Method
    from reports.analysis.selections import ImagesOf, Selections
    from reports.analysis.settings import Setting

# Packages whose versions a record has, besides that of icm-bench.
_PACKAGES = (
    "icm-bench", "numpy", "scipy", "scikit-learn", "pillow", "torch", "open_clip_torch", "timm", "transformers",
    "openvino",
)  # fmt: skip
_MODEL_ID = re.compile(r"(?!(?i:data|unknown)/)[A-Za-z0-9][\w.-]*(?<!\.)/[A-Za-z0-9][\w.-]*(?<!\.)", re.ASCII)
_ABSOLUTE = re.compile(r"[/~\\]|[A-Za-z][\w+.-]*:[/\\]")


@dataclass(frozen=True)
class Publication:
    """Summary of a publication.

    Attributes:
        records: paths of all its records inside the results folder.
        written: files that were new or changed.
    """

    records: list[str]
    written: list[str]

    def text(self) -> str:
        """Return the summary as text."""
        return f"{len(self.records)} records, {len(self.written)} files written or changed"


def publish(recipe: Recipe, storage: Storage, about: Publisher, folder: Path) -> Publication:
    """Write the records of a recipe into a results folder.

    Args:
        recipe: the recipe, which was run with the store.
        storage: the recipe's store.
        about: who publishes it.
        folder: the results folder.

    Raises:
        IcmBenchError: see `records_of` and `benchmark.results.records.write`.
    """
    published = records_of(recipe, storage, about)
    return Publication([one.path for one in published], write(Storage(str(folder)), published))


def records_of(
    recipe: Recipe, storage: Storage, about: Publisher, subjects: "Sequence[Subject]" = ()
) -> list[Published]:
    """Return the records of a recipe from its rows: plain prediction of each predictor and all methods with a verdict.

    Nothing is fitted, and neither images nor a backbone are needed.

    Args:
        recipe: the recipe of the rows.
        storage: the recipe's store.
        about: who publishes it.
        subjects: subjects of the recipe, if they were prepared. Without them, the store must hold results for a single
            state of data and weights.

    Raises:
        IcmBenchError: the recipe was not run to its end with this store, its rows lack predictions, an encoder has
            random weights, or an encoder has no model id.
    """
    file = only_record_of(recipe, storage, subjects)
    run = read_record(storage, file)
    gathered = gather([(storage, run)])
    _check(recipe, run, gathered, about)
    from reports.analysis.selections import Predicted, Selections
    from reports.analysis.settings import by_setting

    metrics = {dataset.label: recipe.metric_of(dataset) for dataset in recipe.datasets}
    predicted, parts = Predicted(gathered.rows), by_setting(gathered.rows)
    named = cache(partial(images_of, [storage]))
    whole = {_whole(setting) for setting, _ in parts if setting.class_half == "harmonic"}
    shared = _of_run(run, gathered, PurePosixPath(file).stem)
    found: list[tuple[Details, Answers, list[Number]]] = []
    for setting, rows in parts:
        if setting.class_half not in ("base", "new") or _whole(setting) not in whole:  # else their harmonic mean
            selections = Selections(rows, gathered.tested, predicted, metric=metrics.get(setting.dataset, ACCURACY))
            of_setting = _of_setting(shared, setting, selections)
            found += _records(of_setting, setting, selections, named, about.model_id(setting.backbone))
    judged = judged_together([(details, numbers, bool(own.kept_plain.all())) for details, own, numbers in found])
    return [build(d, about, numbers, answers) for d, (_, answers, numbers) in zip(judged, found, strict=True)]


def _check(recipe: Recipe, run: RunRecord, gathered: Gathered, about: Publisher) -> None:
    """Refuse unfinished runs, random weights, and a publisher who leaves something out."""
    if gathered.failed or gathered.conflicts or gathered.finished < run.planned:
        done = f"{gathered.finished} of {run.planned} trials of '{recipe.name}' have rows"
        raise IcmBenchError(f"{done}, and publish needs all; run the recipe to its end.")
    random = gathered.rows.loc[gathered.rows["random_weights"], "backbone"].unique()
    if len(random):
        raise IcmBenchError(f"'{random[0]}' is no result and is not published; remove it from the recipe's backbones.")
    if about.relationship not in RELATIONSHIPS:
        raise IcmBenchError(f"publish needs --relationship to the encoder, one of {', '.join(RELATIONSHIPS)}.")
    if not about.organization.strip():
        raise IcmBenchError("publish needs --organization NAME: who ran the evaluation.")
    labels = [str(label) for label in gathered.rows["backbone"].unique()]
    for label in about.model_ids:
        if label and label not in labels:
            raise IcmBenchError(f"--model-id '{label}=...': the recipe's encoders are {some(labels)}.")
    for label in labels:
        given = about.model_ids.get(label) or (about.model_ids.get("") if len(labels) == 1 else None)
        if given is None:
            option = "--model-id" if len(labels) == 1 else f"--model-id '{label}=...'"
            raise IcmBenchError(f"publish needs the id of '{label}' as developer/model; give it with {option}.")
        if not _MODEL_ID.fullmatch(given):
            raise IcmBenchError(f"--model-id {given} is not developer/model, as in laion/CLIP-ViT-B-32-laion2B.")


def _whole(setting: "Setting") -> "Setting":
    return replace(setting, class_half="all", prompts=(), rounding=None)


def _of_run(run: RunRecord, gathered: Gathered, publication: str) -> dict[str, Any]:
    """Return the fields of `Details` that all records of a run share."""
    content, shortened = without_paths(run.recipe)
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    machines = {cost["gpu"] or cost["machine"] for cost in gathered.costs if cost["device"]} - {""}
    return {
        "recipe_name": run.name, "recipe_hash": run.recipe_hash, "recipe": content, "shortened": shortened,
        "publication": publication, "versions": versions, "machine": sorted(machines) or [processor()],
    }  # fmt: skip


def _of_setting(shared: Mapping[str, Any], setting: "Setting", selections: "Selections") -> dict[str, Any]:
    """Return the fields of `Details` that all methods of a setting share."""
    specs = [BackboneSpec.model_validate(spec) for spec in shared["recipe"]["backbones"]]
    spec = max((s for s in specs if setting.backbone.startswith(s.label)), key=lambda s: len(s.label), default=None)
    is_open = spec and spec.family and not any(key.startswith("backbones") for key in shared["shortened"])
    same = ("dataset", "grouped", "random_weights", "precision", "protocol", "test_split", "class_half", "rounding")
    return {
        **shared, **{name: getattr(setting, name) for name in (*same, "folds")},
        "data_fingerprint": setting.dataset_fingerprint, "weights_fingerprint": setting.backbone_fingerprint,
        "encoder": setting.backbone, "engine": spec.engine if spec else "unknown",
        "availability": "open_weights" if is_open else "unknown",
        "metric": "accuracy" if selections.metric == ACCURACY else selections.metric.label,
        "prompts": list(setting.prompts), "classes": list(selections.rows["classes"].iloc[0]),
        "seeds": selections.seeds, "held_outs": selections.held_outs, "rule": selections.rule,
        "code_version": sorted(set(selections.rows["code_version"])),
    }  # fmt: skip


def _records(
    shared: Mapping[str, Any], setting: "Setting", selections: "Selections", images_of: "ImagesOf", model_id: str
) -> Iterator[tuple[Details, Answers, list[Number]]]:
    """Yield details, answers and numbers of each published method of a setting; verdicts are still `NO_VERDICT`."""
    from reports.analysis.findings import judged, plain_for

    without = setting.class_half in ("new", "harmonic")  # of some classes there are no training images
    every = [method for method in selections.parts if method.is_plain]
    every += [method for method in judged(selections.parts) if not (without and method.learns_classes)]
    bound = setting.protocol_class.looks_at_target or RULES[selections.rule].looks_at_target
    known: dict[Method | None, tuple[Details, Answers]] = {}
    for method in dict.fromkeys(every):  # plain prediction comes first
        plain = None if method.is_plain else plain_for(method, selections.parts)
        why, of_plain = "", known.get(plain)
        if setting.protocol_class.looks_at_target:
            why = "the protocol uses labels of the held-out environment"
        elif selections.metric != ACCURACY:
            why = f"verdicts are about accuracy, and the metric of the data set is {selections.metric.title}"
        elif of_plain is None:
            why = "there is no plain prediction with this predictor"
        details = Details(
            **shared, looks_at_target=bound or method.looks_at_target_images, method=method.label,
            projection=method.projection, order=method.order, variant=method.variant, predictor=method.predictor,
            plain=of_plain and of_plain[0].uuid(model_id), verdict="" if why or method.is_plain else NO_VERDICT,
            why="" if method.is_plain else why,
        )  # fmt: skip
        answers = answers_of(selections, method, images_of)
        known[method] = details, answers
        yield details, answers, numbers_of(*answered([answers, of_plain[1]] if of_plain else [answers]))


def answers_of(selections: "Selections", method: "Method", images_of: "ImagesOf") -> Answers:
    """Return the answers of a method under the rule of verdicts.

    Raises:
        IcmBenchError: a test has no rows, or rows lack predictions.
    """
    rule, names = selections.rule, np.array(selections.rows["classes"].iloc[0])
    picks, dim = selections.picks(method, rule), int(selections.rows["dim"].iloc[0])
    present = selections.pooled(method, rule)
    if absent := [(e, s) for s in selections.seeds for e in selections.held_outs if (e, s) not in present]:
        where = f"held-out environment {absent[0][0]}, seed {absent[0][1]}"
        raise IcmBenchError(f"'{method.label}' has no answers for {where}; run the recipe to its end.")

    @cache
    def columns_of(hash_: str) -> tuple[Texts, Texts]:
        table = images_of(hash_)
        if table is None:
            raise IcmBenchError(f"The store lacks the image list {hash_} that its rows name; run the recipe again.")
        groups = ["" if group is None else group for group in table["group"].to_pylist()]
        return sample_ids(*(table[name].to_pylist() for name in ("path", "image_id", "environment"))), np.array(groups)

    parts = []
    points = (picks[name].tolist() for name in (*KEY, "kept_plain", "rank", "lambda_"))
    for held_out, seed, fold, kept_plain, rank, lambda_, halves in zip(
        *points, selections.kept(method, rule), strict=True
    ):
        if not halves or any(one.images is None for one in halves):
            raise IcmBenchError(f"Rows of '{method.label}' lack predictions of each image; run the recipe again.")
        for one in halves:
            tested, (sample, group) = selections.tested[one.tested], columns_of(str(one.images))
            parts.append({
                "sample": sample[tested.position], "environment": np.array(tested.names)[tested.environment],
                "held_out": held_out, "group": "" if tested.group is None else group[tested.position],
                "half": one.half, "seed": seed, "fold": fold, "label": names[tested.label],
                "predicted": names[one.classes], "kept_plain": kept_plain or method.is_plain_at(rank, lambda_, dim),
            })  # fmt: skip
    return Answers.together(parts)


def sample_ids(paths: Sequence[str], ids: Sequence[str], environments: Sequence[str]) -> Texts:
    """Return the name of each image of a list: its path inside the data set; its id if the path is absolute.

    If two names are equal, as with several data sets, all begin with the environment, and equal ones get a number.
    """
    names = [id_ if not path or _ABSOLUTE.match(path) else path for path, id_ in zip(paths, ids, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{environment}/{name}" for environment, name in zip(environments, names, strict=True)]
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        names[place] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return np.array(names)


def publisher(model_ids: Iterable[str], relationship: str | None, organization: str | None) -> Publisher:
    """Return the publisher that the command line names. Missing fields are empty, and `records_of` refuses them.

    Each of `model_ids` is developer/model or LABEL=developer/model.
    """
    given = (one.rpartition("=") for one in model_ids)
    named = {label: model_id for label, _, model_id in given}
    return Publisher(organization or "", relationship or "", named, int(time.time()))
