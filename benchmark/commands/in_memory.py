"""`icm_bench.evaluate`: judges embeddings in arrays, as `icm-bench import-embeddings` and `icm-bench run` judge a file.

The arrays are imported into a temporary store, and their trials run in this process, without Ray.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from benchmark.commands.gather import gather
from benchmark.commands.interchange.embedding_files import BLOCK, Block, Digest, Texts, unusable
from benchmark.commands.interchange.import_embeddings import import_read, new_recipe
from benchmark.commands.interchange.read_embeddings import ImportOptions, ReadFile, Rows
from benchmark.commands.preparing import checks
from benchmark.commands.preparing.imported_sets import imported_subject, manifests_of
from benchmark.common.errors import IcmBenchError
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
Views = Mapping[str, ArrayLike]
NAME, ENCODER = "arrays", "embeddings"  # names of data set and encoder in sentences
# The part `sweep` of the recipe. Truncation with other N and isotropic shrinkage only serve to explain a gain.
SWEEP: dict[str, Any] = {"folds": 5, "seeds": [0], "normalize": ["before"], "predictors": ["zero_shot"]}
WITHOUT_VIEWS = ["identity", "shrinkage", "isotropic_environments"]
TRUNCATION = {"name": "icm", "nuisance": ["interventions", "environments", "both"]}
PROJECTIONS = [*WITHOUT_VIEWS, "icm", TRUNCATION, "fixed"]
NO_VIEWS = (
    "CLIP-ICM and fixed shrinkage are left out: they compare images with views of the same images after an "
    "intervention; give these as views={name: embeddings}."
)
_ONE_CALL = Lock()  # the caches of a sweep, and limits of threads, belong to one call


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
    views: Views | None = None,
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
        ['CLIP-ICM + zero-shot', 'Shrinkage + zero-shot', 'Fixed shrinkage + zero-shot']
    """
    if sweep.get("search"):
        raise IcmBenchError("search: `evaluate` does not search; import the embeddings with `icm-bench`, and run that.")
    read = _read(embeddings, labels, environments, texts, views or {}, groups, names)
    with _ONE_CALL, verbosity("quiet"), threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        content = new_recipe(import_read(storage, read, ImportOptions(NAME, ENCODER)), None)
        content["sweep"] = {**SWEEP, "projections": PROJECTIONS if views else WITHOUT_VIEWS, **sweep}
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
    gathered, metric = gather([(storage, None)]), recipe.metric_of(recipe.datasets[0])
    rows, tested, predicted = gathered.rows, gathered.tested, Predicted(gathered.rows)
    results = [(s, Selections(part, tested, predicted, recipe.metrics, metric)) for s, part in by_setting(rows)]
    answer = verdicts.answer(results, [findings.comparisons(*one, Options()) for one in results])
    records = [one.record() | {"sentence": sentence(one)} for one in answer.verdicts]
    plain = next((metric.shown(one.plain) for one in answer.standings), np.nan)
    text = terminal_text(answer, [left_out] if left_out else [], None)
    return Result(headline(answer), plain, records, left_out, content, text)


def _read(
    embeddings: ArrayLike, labels: ArrayLike, environments: ArrayLike, texts: ArrayLike, views: Views, *others: Any
) -> ReadFile:
    """Return the arrays, after checks, as what a file of them contains; `others` are groups and names."""
    z, t, (groups, names) = _vectors("embeddings", embeddings), _vectors("texts", texts), others
    if t.shape[1] != z.shape[1]:
        raise IcmBenchError(f"texts: width {t.shape[1]}, embeddings {z.shape[1]}; embed both with one encoder.")
    words = {
        "image_id": _words("names", np.arange(len(z)) if names is None else names, len(z)),
        "environment": _words("environments", environments, len(z)),
        "class": _classes(labels, len(z), len(t)),
        **({} if groups is None else {"group": _words("groups", groups, len(z))}),
    }
    _check(words)
    if not isinstance(views, Mapping) or not all(isinstance(name, str) and name != ORIGINAL for name in views):
        raise IcmBenchError("views: give a dictionary, name of an intervention -> embeddings of the same images.")
    every = {ORIGINAL: z, **{name: _vectors(f"views['{name}']", view, z.shape) for name, view in views.items()}}
    rows, digest = Rows(Path("views")), Digest()
    for view, vectors in every.items():
        columns: dict[str, Any] = {**words, "view": [view] * len(z)}
        for start in range(0, len(z), BLOCK):
            part = slice(start, start + BLOCK)
            rows.add(Block(start + 1, {name: column[part] for name, column in columns.items()}, vectors[part]))
    rows.finish()
    classes = [str(row) for row in range(len(t))]
    digest.add(Block(1, {"class": [*classes]}, t))
    given = Texts(classes, t, digest.hexdigest())
    return ReadFile(rows.file, rows, np.concatenate([*every.values()]), None, given, Path("texts"), [])


def _array(name: str, given: ArrayLike, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """Return an array; refuse values that make no array, and other shapes."""
    try:
        array = np.asarray(given)
    except Exception as error:  # tensors on a GPU or with gradients, and ragged lists, raise errors of several kinds
        raise IcmBenchError(f"{name}: not an array ({reason(error)}); give a NumPy array.") from error
    if shape and array.shape != shape:
        raise IcmBenchError(f"{name}: shape {array.shape}, expected {shape}, one for each row of embeddings.")
    return array


def _vectors(name: str, given: ArrayLike, shape: tuple[int, ...] | None = None) -> Floats:
    """Return embeddings as float32, shape (n, D); refuse other shapes and types, unusable and equal rows."""
    array = _array(name, given, shape)
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        what = f"{name}: shape {array.shape} and type {array.dtype}"
        raise IcmBenchError(f"{what}; give one row of floating point numbers for each image, or class of texts.")
    with np.errstate(over="ignore"):
        vectors: Floats = np.ascontiguousarray(array, dtype=np.float32)
    if bad := unusable(vectors):
        raise IcmBenchError(f"{name}: row {bad[0]} (from 0) {bad[1]}")
    if len(vectors) > 1 and (vectors == vectors[0]).all():
        raise IcmBenchError(f"{name}: all {len(vectors)} rows are equal; give the output of an encoder.")
    return vectors


def _classes(given: ArrayLike, images: int, classes: int) -> list[str]:
    """Return the labels as names of classes; refuse other types, and labels without a row in texts."""
    labels = _array("labels", given, (images,))
    if labels.dtype.kind not in "iu":
        what = f"labels: type {labels.dtype}, not integers"
        raise IcmBenchError(f"{what}; give rows of texts, such as np.unique(names, return_inverse=True)[1] for names.")
    if (wrong := (labels < 0) | (labels >= classes)).any():
        what = f"labels: {labels[wrong][0]} at position {wrong.argmax()}"
        raise IcmBenchError(f"{what}; texts has {classes} rows, so labels are 0 to {classes - 1}.")
    if (labels == labels[0]).all():
        raise IcmBenchError(f"labels: all are {labels[0]}; give images of two or more classes.")
    return [str(label) for label in labels]


def _words(name: str, given: ArrayLike, images: int) -> list[str]:
    """Return names as texts; refuse other types, and values that are empty or not printable."""
    values = _array(name, given, (images,)).tolist()
    for position, value in enumerate(values):
        if isinstance(value, bool) or not (isinstance(value, str | int) and value != "" and str(value).isprintable()):
            what = f"{name}: {str(value)[:40]!a} at position {position}"
            raise IcmBenchError(f"{what} is no name; give printable texts or integers.")
    return [str(value) for value in values]


def _check(words: Mapping[str, list[str]]) -> None:
    """Refuse equal names of images, a single environment, and environments that lack a class."""
    (name, times), *_ = Counter(words["image_id"]).most_common(1)
    if times > 1:
        raise IcmBenchError(f"names: {times} images are named '{name}'; give each a name of its own.")
    pairs = {*zip(words["environment"], words["class"], strict=True)}
    environments, classes = ({*column} for column in zip(*pairs, strict=True))
    if len(environments) < 2:
        raise IcmBenchError(f"environments: all are '{environments.pop()}'; give two or more, to hold one out.")
    if missing := sorted({*product(environments, classes)} - pairs):
        lacks = "environments: '{}' has no images of class {}".format(*missing[0])
        raise IcmBenchError(f"{lacks}; add some, or leave this class out in all environments.")
