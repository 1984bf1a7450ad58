"""`icm_bench.evaluate`: judges embeddings in arrays, as `icm-bench import-embeddings` and `icm-bench run` judge a file.

The arrays are imported into a temporary store, and their trials run in this process, without Ray.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from benchmark.commands.gather import gather
from benchmark.commands.interchange.embedding_files import BLOCK, Block, Digest, Texts
from benchmark.commands.interchange.import_embeddings import import_read, new_recipe
from benchmark.commands.interchange.read_embeddings import ImportOptions, ReadFile, Rows
from benchmark.commands.preparing import checks
from benchmark.commands.preparing.imported_sets import imported_subject, manifests_of
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.storage.files import Storage, reason
from benchmark.common.terminal.progress import verbosity
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store.embeddings import ORIGINAL
from benchmark.sweep.serial import sweep_here
from benchmark.sweep.trials import trials_of
from reports.analysis import findings, verdicts
from reports.analysis.selections import Predicted, Selections
from reports.analysis.settings import Options, by_setting
from reports.text.summary import terminal_text
from reports.text.verdicts import headline, sentence

Floats = NDArray[np.float32]
NAME, ENCODER = "arrays", "embeddings"  # names of data set and encoder in sentences
# The part `sweep` of the recipe. The last projection and truncation with the same N serve to explain a gain.
SWEEP: dict[str, Any] = {
    "folds": 5,
    "seeds": [0],
    "normalize": ["before"],
    "predictors": ["zero_shot"],
    "projections": [
        "identity",
        "icm",
        {"name": "icm", "nuisance": ["interventions", "environments", "both"]},
        "shrinkage",
        "fixed",
        "isotropic_environments",
    ],
}
WITHOUT_VIEWS = {"projections": ["identity", "shrinkage", "isotropic_environments"]}
NO_VIEWS = (
    "CLIP-ICM and fixed shrinkage are left out: they compare images with views of the same images after an "
    "intervention; give these as views={name: embeddings}."
)
_MAX_NAME = 1024  # characters, as in files of embeddings
_ONE_CALL = Lock()  # the caches of a sweep belong to one set of images


@dataclass(frozen=True, repr=False)
class Result:
    """What `evaluate` finds. `print` shows the answer and a table.

    Attributes:
        headline: the answer in at most 45 words.
        plain: accuracy of plain prediction, averaged over held-out environments, in percent; NaN if it was not tested.
        verdicts: one record for each method with a verdict, with the columns of `tables/verdicts.csv`: among others
            `method`, `accuracy` (percent), `difference`, `low` and `high` (gain over plain prediction in points, with
            its 95 % interval), `p_holm`, `verdict` and `sentence`.
        left_out: a sentence on the methods that need views, if there are none; else empty.
        recipe: the recipe with which `icm-bench run` gives these numbers for the same embeddings in a file.
    """

    headline: str
    plain: float
    verdicts: list[dict[str, Any]]
    left_out: str
    recipe: dict[str, Any]
    _text: str = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Return `verdicts` as a table, one row for each method."""
        return pd.DataFrame(self.verdicts)

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__


def evaluate(
    embeddings: ArrayLike,
    labels: ArrayLike,
    environments: ArrayLike,
    texts: ArrayLike,
    views: Mapping[str, ArrayLike] | None = None,
    *,
    groups: ArrayLike | None = None,
    names: ArrayLike | None = None,
    **sweep: Any,
) -> Result:
    """Judge plain prediction, shrinkage and the paper's CLIP-ICM on embeddings in arrays.

    Each environment is held out in turn. Five folds test every image once, and settings are chosen on the other
    environments and folds alone. The numbers are those of `icm-bench import-embeddings` and `icm-bench run` with the
    recipe in `Result.recipe`. The temporary folder needs space for a copy of the arrays.

    Args:
        embeddings: embeddings of n images, floating point numbers, shape (n, D). They need not have unit length.
        labels: class of each image as its row in `texts`, integers from 0 to C - 1, shape (n,).
        environments: environment of each image, such as "photo" and "sketch", texts or integers, shape (n,). Two or
            more, each with images of every class.
        texts: embeddings of the class texts, shape (C, D). Classes without images are left out.
        views: name of an intervention, such as "grayscale" -> embeddings of the same images after it, shape (n, D).
            Without views (default) CLIP-ICM and fixed shrinkage are left out.
        groups: group of each image, such as a camera or a patient, shape (n,). No fold divides a group, and intervals
            count groups. Default: none.
        names: unique name of each image, shape (n,); folds depend on it. Default: its position, "0", "1" and so on.
        **sweep: keys of `sweep` in a recipe that replace those of this function, such as `seeds=[0, 1, 2]`,
            `predictors=["linear_probe"]` or `normalize=["none"]`. A search is not possible.

    Raises:
        IcmBenchError: an array or a key is not valid; the message names it.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels, environments = rng.integers(2, size=(2, 200))
        >>> texts = rng.normal(size=(2, 8))
        >>> embeddings = texts[labels] + 2 * rng.normal(size=(200, 8))
        >>> result = evaluate(embeddings, labels, environments, texts, {"blur": embeddings + 0.1})
        >>> [verdict["method"] for verdict in result.verdicts]
        ['CLIP-ICM (largest) + zero-shot', 'Shrinkage + zero-shot', 'Fixed shrinkage + zero-shot']
    """
    if sweep.get("search"):
        raise IcmBenchError("search: `evaluate` does not search; use `icm-bench import-embeddings` and `icm-bench run`.")
    read = _read(embeddings, labels, environments, texts, views or {}, groups, names)
    with _ONE_CALL, verbosity("quiet"), tempfile.TemporaryDirectory(prefix="icm-bench-evaluate-") as folder:
        storage = Storage(folder)
        content = new_recipe(import_read(storage, read, ImportOptions(NAME, ENCODER)), None)
        content["sweep"] = {**SWEEP, **({} if views else WITHOUT_VIEWS), **sweep}
        recipe = parse_recipe(content, "evaluate")
        (manifest,) = manifests_of(recipe, storage)
        checks.check_protocols(recipe, manifest)
        subject = imported_subject(recipe, storage, manifest, recipe.backbones[0])
        if not (trials := trials_of(recipe, [subject])):
            raise IcmBenchError(" ".join(["evaluate: nothing can be tested.", *checks.left_out(recipe, [subject])]))
        sweep_here(storage, trials)
        return _result(recipe, content, storage, "" if views else NO_VIEWS)


def _result(recipe: Recipe, content: dict[str, Any], storage: Storage, left_out: str) -> Result:
    """Return the verdicts on all rows of the store, as a report gives them."""
    gathered, metric_of = gather([(storage, None)]), {d.label: recipe.metric_of(d) for d in recipe.datasets}
    rows, tested = gathered.rows.astype(object), gathered.tested
    with threadpool_limits(1, "blas"):
        predicted = Predicted(rows)
        results = [
            (setting, Selections(part, tested, predicted, recipe.metrics, metric_of[setting.dataset]))
            for setting, part in by_setting(rows)
        ]
        found = [findings.comparisons(setting, selections, Options()) for setting, selections in results]
        answer = verdicts.answer(results, found)
    first = answer.standings[0] if answer.standings else None
    records = [one.record() | {"sentence": sentence(one)} for one in answer.verdicts]
    text = terminal_text(answer, [left_out] if left_out else [], None)
    plain = first.metric.shown(first.plain) if first else float("nan")
    return Result(headline(answer), plain, records, left_out, content, text)


def _read(
    embeddings: ArrayLike,
    labels: ArrayLike,
    environments: ArrayLike,
    texts: ArrayLike,
    views: Mapping[str, ArrayLike],
    groups: ArrayLike | None,
    names: ArrayLike | None,
) -> ReadFile:
    """Return the arrays, after checks, as what a file of them contains."""
    z, t = _vectors("embeddings", embeddings), _vectors("texts", texts)
    if t.shape[1] != z.shape[1]:
        raise IcmBenchError(f"texts: width {t.shape[1]}, embeddings {z.shape[1]}; embed both with one encoder.")
    if not isinstance(views, Mapping):
        raise IcmBenchError("views: give a dictionary, name of an intervention -> embeddings of the same images.")
    label, of_views = _labels(labels, len(z), len(t)), {name: _view(name, view, z) for name, view in views.items()}
    words = {
        "image_id": _words("names", np.arange(len(z)) if names is None else names, len(z)),
        "environment": _words("environments", environments, len(z)),
        "class": [str(one) for one in label],
        **({} if groups is None else {"group": _words("groups", groups, len(z))}),
    }
    _check_distinct(words["image_id"])
    _check_environments(words["environment"], label)
    rows, digest = Rows(Path("views")), Digest()
    for name, vectors in {ORIGINAL: z, **of_views}.items():
        for start in range(0, len(z), BLOCK):
            part = slice(start, start + BLOCK)
            of_block = {column: values[part] for column, values in words.items()}
            rows.add(Block(start + 1, {**of_block, "view": [name] * len(vectors[part])}, vectors[part]))
    rows.finish()
    classes = [str(row) for row in range(len(t))]
    digest.add(Block(1, {"class": classes}, t))
    given = Texts(classes, t, digest.hexdigest())
    return ReadFile(rows.file, rows, np.concatenate([z, *of_views.values()]), None, given, Path("texts"), [])


def _array(name: str, given: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except Exception as error:  # tensors on a GPU or with gradients, and ragged lists, raise errors of several kinds
        raise IcmBenchError(f"{name}: not an array ({reason(error)}); give a NumPy array.") from error


def _vectors(name: str, given: ArrayLike) -> Floats:
    """Return embeddings as float32, shape (n, D); refuse other shapes and types, NaN, zeros and equal rows."""
    array = _array(name, given)
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise IcmBenchError(
            f"{name}: shape {array.shape} and type {array.dtype}; give one row of floating point numbers for each "
            f"{'class' if name == 'texts' else 'image'}."
        )
    with np.errstate(over="ignore"):
        vectors: Floats = np.ascontiguousarray(array, dtype=np.float32)
    if len(bad := np.flatnonzero(~np.isfinite(vectors).all(axis=1))):
        raise IcmBenchError(f"{name}: row {bad[0]} has NaN or infinite values (rows count from 0); remove it.")
    if len(bad := np.flatnonzero(~vectors.any(axis=1))):
        raise IcmBenchError(f"{name}: row {bad[0]} is all zeros (rows count from 0); remove it.")
    if len(vectors) > 1 and (vectors == vectors[0]).all():
        raise IcmBenchError(f"{name}: all {len(vectors)} rows are equal; give the output of an encoder.")
    return vectors


def _view(name: str, given: ArrayLike, z: Floats) -> Floats:
    if not isinstance(name, str) or name == ORIGINAL or not (name.isprintable() and 0 < len(name) <= _MAX_NAME):
        raise IcmBenchError(f"views: {str(name)[:40]!a} is no name of an intervention; give one such as 'grayscale'.")
    view = _vectors(f"views['{name}']", given)
    if view.shape != z.shape:
        raise IcmBenchError(f"views['{name}']: shape {view.shape}, embeddings {z.shape}; give the same images in order.")
    return view


def _labels(given: ArrayLike, images: int, classes: int) -> NDArray[np.int64]:
    labels = _array("labels", given)
    if labels.dtype.kind not in "iu":
        raise IcmBenchError(
            f"labels: type {labels.dtype}; give each image's row in texts as an integer, for names such as "
            f"np.unique(names, return_inverse=True)[1] with the texts in the order of np.unique(names)."
        )
    _check_shape("labels", labels, images)
    if len(bad := np.flatnonzero((labels < 0) | (labels >= classes))):
        raise IcmBenchError(
            f"labels: {labels[bad[0]]} at position {bad[0]}; texts has {classes} rows, so labels are 0 to {classes - 1}."
        )
    if len(np.unique(labels)) < 2:
        raise IcmBenchError(f"labels: all are {labels[0]}; give images of two or more classes.")
    return labels.astype(np.int64)


def _words(name: str, given: ArrayLike, images: int) -> list[str]:
    """Return names as texts; refuse other types, wrong shapes, and values that are empty or not printable."""
    array = _array(name, given)
    _check_shape(name, array, images)
    for position, value in enumerate(values := array.tolist()):
        known = isinstance(value, str | int) and not isinstance(value, bool)
        if not (known and str(value).isprintable() and 0 < len(str(value)) <= _MAX_NAME):
            raise IcmBenchError(f"{name}: {str(value)[:40]!a} at position {position}; give a printable text or integer.")
    return [str(value) for value in values]


def _check_shape(name: str, array: NDArray[Any], images: int) -> None:
    if array.shape != (images,):
        raise IcmBenchError(f"{name}: shape {array.shape}, expected ({images},), one for each row of embeddings.")


def _check_distinct(names: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        if (known := first.setdefault(name, position)) != position:
            raise IcmBenchError(f"names: '{name}' is at positions {known} and {position}; give distinct names.")


def _check_environments(environments: Sequence[str], labels: NDArray[np.int64]) -> None:
    """Refuse a single environment, and environments that lack a class."""
    present: dict[str, set[int]] = {}
    for environment, label in zip(environments, labels.tolist(), strict=True):
        present.setdefault(environment, set()).add(label)
    if len(present) < 2:
        raise IcmBenchError(f"environments: all are '{environments[0]}'; give two or more, one of which is held out.")
    for environment, own in sorted(present.items()):
        if missing := sorted(set(labels.tolist()) - own):
            raise IcmBenchError(
                f"environments: '{environment}' has no images of class {some(missing)}; add some, or leave the images "
                f"of this class out everywhere."
            )
