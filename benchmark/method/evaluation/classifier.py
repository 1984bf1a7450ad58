"""One fit at many points (rank and setting): correctness at all points, metrics of scores at selected points.

A trained predictor is fitted once for all settings and ranks, and its scores are processed one point at a time. A
zero-shot predictor runs on blocks of images. If its scores are dot products with texts, images need not be rotated into
the basis.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from benchmark.method.arrays import Array, Floats, Labels, Mask, Normalize, Single, Values, scaled
from benchmark.method.evaluation import metrics
from benchmark.method.evaluation.checked import checked_predictions, checked_scores
from benchmark.method.evaluation.curves import Predictions, Scored
from benchmark.method.evaluation.dot_products import Correct, DotProducts
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.selection import best_point, best_points
from benchmark.method.evaluation.source_scores import Given
from benchmark.method.predictors import Head, HeadKey, Predictor, Problem
from benchmark.method.predictors.base import fitted_temperature
from benchmark.method.subspace import Basis

BLOCK = 8_192  # number of images classified at a time if no predictor is trained
ROTATED = 512  # number of images rotated at a time: larger arrays leave the cache, and their pages are new each time
WIDTH = 16  # numbers of coordinates are multiples of it, since libraries sum few columns in another order
_NO_GAPS = np.zeros(metrics.BINS)
MAX_CALIBRATED = 5_000  # number of source images, evenly spaced, that a temperature is fitted to


@dataclass(frozen=True)
class ImageSet:
    """A set of images that are classified together."""

    rows: Labels  # positions of the images in the data set, shape (m,)
    labels: Labels  # classes of the images, shape (m,)
    classes: Labels | None = None  # the possible classes; None (default): all

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice) -> "ImageSet":
        return ImageSet(self.rows[which], self.labels[which], self.classes)

    def blocks(self) -> Iterator[tuple[slice, "ImageSet"]]:
        """Yield blocks of the images, each with its slice."""
        for first in range(0, len(self), BLOCK):
            block = slice(first, first + BLOCK)
            yield block, self[block]

    def possible(self, logits: Array) -> Array:
        """Return the columns of `logits` that belong to the possible classes."""
        return logits if self.classes is None else logits[:, self.classes]

    def named(self, positions: Labels) -> Labels:
        """Return the class index for each position among the possible classes."""
        return positions if self.classes is None else self.classes[positions]

    def positions(self) -> Labels:
        """Return the position of each image's label among the possible classes, shape (m,)."""
        if self.classes is None:
            return self.labels
        order = np.argsort(self.classes)
        return np.asarray(order[np.searchsorted(self.classes, self.labels, sorter=order)])


Sliceable = TypeVar("Sliceable", ImageSet, Array)


@dataclass(frozen=True)
class ImageUnions:
    """Unions of overlapping image sets, such as a split and a part of it, so that each image is scored once."""

    unions: list[ImageSet]  # disjoint sets, one for each distinct set of possible classes
    places: list[tuple[int, Labels]]  # for each set, index of its union and positions in it, shape (m,)

    @classmethod
    def of(cls, validation: Sequence[ImageSet], tests: Sequence[ImageSet], label: Labels) -> "ImageUnions":
        """Return the unions of image sets. Validation sets must not overlap; test sets may."""
        sets = [*validation, *tests]
        of_tests = [None if images.classes is None else images.classes.tobytes() for images in tests]
        keys = [*range(len(validation)), *of_tests]
        names = list(dict.fromkeys(keys))
        parts = [[images for images, key in zip(sets, keys, strict=True) if key == name] for name in names]
        rows = [np.unique(np.concatenate([images.rows for images in part])) for part in parts]
        unions = [ImageSet(r, label[r], part[0].classes) for r, part in zip(rows, parts, strict=True)]
        numbers = [names.index(key) for key in keys]
        return cls(unions, [(u, np.searchsorted(rows[u], i.rows)) for u, i in zip(numbers, sets, strict=True)])

    def of_sets(self, of_unions: Sequence[Values], which: slice) -> list[Values]:
        """Return the values of each set in the slice `which`, given the values of each union."""
        return [of_unions[union][rows] for union, rows in self.places[which]]


Heads = Mapping[HeadKey, Head]


@dataclass
class FitCache:
    """Cache of classifiers that are fitted to the same images."""

    # predictor -> classifiers of plain prediction, in the coordinates of the embeddings. They do not depend on the
    # order of fits, so evaluations may share them. Empty by default
    plain: dict[str, Heads] = field(default_factory=dict)
    basis: Basis | None = None  # basis of the last fit; None (default) before any fit
    last: Heads = field(default_factory=dict)  # classifiers of the last fit, in the coordinates of its basis

    @property
    def nbytes(self) -> int:
        """Total bytes of the cached classifiers."""
        every = (self.last, *self.plain.values())
        return sum(head.weights.nbytes + head.bias.nbytes for heads in every for head in heads.values())


Point = tuple[int, int]  # index of a rank, index of a setting of the predictor
Scorer = Callable[[Given], Array]  # predictions for all validation sets, concatenated, shape (..., m) -> scores (...,)


@dataclass(frozen=True)
class Choice:
    """The points of a method that selection rules select."""

    # for each rule that uses only sources and each setting, the point with the highest score
    picks: frozenset[Point]
    # for each such rule, the point with the highest score of all settings -> temperature fitted on validation images;
    # None if scores are not logits
    temperatures: Mapping[Point, float | None]


@dataclass(frozen=True)
class Results:
    """Results of one fit."""

    # for each validation set, correctness or predicted classes, shape (settings, ranks, m)
    validation: list[Given]
    correct: list[Correct]  # for each test set, correctness, shape (settings, ranks, m)
    # for each test set: point -> metrics of scores, for the points in `Choice.temperatures`
    scored: list[dict[Point, Scored]]
    # for each test set: point -> predictions, for the points in `Choice.picks`
    predictions: list[dict[Point, Predictions]]
    notes: tuple[str, ...] = ()  # warnings of the fit


@dataclass(frozen=True)
class Classifier:
    """A predictor in the coordinates of a basis."""

    predictor: Predictor  # the predictor
    ranks: tuple[int, ...]  # numbers of directions kept, ascending
    data: Embedded  # the embeddings
    basis: Basis  # the basis, fitted on the sources
    train: Mask  # training images of the predictor, shape (n,)
    normalize: Normalize  # when embeddings are scaled to unit length, see `FitSettings`
    seed: int  # seed of everything random in the predictor
    device: str  # torch device for training
    known: FitCache = field(default_factory=FitCache, repr=False)  # cached fits to the same training images
    c_d: Array | None = None  # C_d of the sources, shape (D, D); only for predictors with `uses_c_d`
    single: bool = False  # whether the predictor gets embeddings in single precision
    score_metrics: tuple[metrics.Metric, ...] = metrics.SCORED  # metrics of scores, for selected points
    # whether the metric for selection needs predicted classes of validation images and not only correctness. Default
    # false
    validation_classes: bool = False
    for_choice: bool = False  # whether the fit only serves selection, see `Problem`. Default false

    def classify(
        self,
        validation: Sequence[ImageSet],
        tests: Sequence[ImageSet],
        choice: Choice | None = None,
        score: Scorer | None = None,
        lodo: Array | None = None,
    ) -> Results:
        """Return correctness on all sets, and for `tests` predictions and metrics of scores at the selected points.

        `choice` has the selected points. If it is None, points are selected by `score` on the validation sets and by
        `lodo`, the leave-one-domain-out scores, shape (settings, ranks).
        """
        if self.predictor.uses_training_images:
            accumulator = _ScoreAccumulator(self, validation, tests, choice, score, lodo)
            problem = self._trained(accumulator.together.unions)
            for of_point in checked_scores(self.predictor, problem, self.ranks):
                accumulator.update(of_point)
                del of_point  # frees these scores before the next ones are computed
            self.known.basis, self.known.last = self.basis, problem.found
            return accumulator.result(tuple(problem.notes))
        validation_answers = [self._validated(images) for images in validation]
        if choice is None and tests and score:
            scores = [score(np.concatenate(validation_answers, axis=-1)), lodo]
            points = sorted({point for point in map(best_point, scores) if point is not None})
            temperatures = self._temperatures(validation, points)
            choice = Choice(frozenset().union(*map(best_points, scores)), temperatures)
        choice = choice or Choice(frozenset(), {})
        evaluated = [self._evaluated(images, choice.picks, choice.temperatures) for images in tests]
        scored, predictions = [one for one, _ in evaluated], [one for _, one in evaluated]
        return Results(validation_answers, [self._correct(images) for images in tests], scored, predictions)

    def logits(self, images: ImageSet, point: Point) -> Array:
        """Return scores at one point (rank and setting), shape (m, classes), from a fit at this point only."""
        alone = replace(self, predictor=self.predictor.settings[point[1]], ranks=(self.ranks[point[0]],))
        if (plain := self.known.plain.get(repr(self.predictor))) is not None:  # it has classifiers of all settings
            alone = replace(alone, known=replace(self.known, plain={repr(alone.predictor): plain}))
        alone = alone if self.predictor.uses_training_images else alone._truncated(alone.ranks[0])
        return np.array(next(alone.scores([images]))[0])

    def scores(self, sets: Sequence[ImageSet]) -> Iterator[list[Array]]:
        """Fit once, and yield one list for every rank, and for each rank every setting: the scores of each set.

        Scores have the shape (m, n_classes). Labels of these images are not used. The arrays may be overwritten when
        the next list is requested.
        """
        problem = self._trained(sets) if self.predictor.uses_training_images else self._problem(self.train[:0], sets)
        yield from checked_scores(self.predictor, problem, self.ranks)

    def _trained(self, sets: Sequence[ImageSet]) -> Problem:
        """Return the problem with training images, and with cached classifiers if the basis is a rotation."""
        vectors, known, rotated, turns = self.basis.vectors, self.known, dict[HeadKey, Head](), self.basis.is_rotation
        if turns and self.predictor.turns and self.ranks[-1] == len(vectors):
            rotated = {key: head.turned(vectors.T) for key, head in self._plain().items()}
        starts = known.last
        if turns and known.basis and known.basis.is_rotation:
            turn = vectors.T @ known.basis.vectors
            starts = {key: head.turned(turn[: key[1], : key[1]]) for key, head in known.last.items()}
        return replace(self._problem(self.train, sets), rotated=rotated, starts=starts)

    def _plain(self) -> Heads:
        """Return the predictor's classifiers of plain prediction, from the cache or else fitted from scratch."""
        name, dim = repr(self.predictor), len(self.basis.vectors)
        if name not in self.known.plain:
            plain = replace(self, basis=Basis(np.eye(dim)))._problem(self.train, [])
            for _ in self.predictor.scores_of_settings(plain, [dim]):
                pass
            self.known.plain[name] = plain.found
        return self.known.plain[name]

    def _validated(self, images: ImageSet) -> Given:
        """Return correctness or predicted classes of a validation set, shape (settings, ranks, m)."""
        if not self.validation_classes:
            return self._correct(images)
        settings = self.predictor.settings
        classes = np.empty((len(settings), len(self.ranks), len(images)), dtype=np.uint16)
        for place, block in images.blocks():
            problem = self._untrained(block)
            for of_setting, setting in zip(classes, settings, strict=True):
                of_setting[:, place] = block.named(checked_predictions(setting, problem, self.ranks))
        return classes

    def _temperatures(self, validation: Sequence[ImageSet], points: Sequence[Point]) -> dict[Point, float | None]:
        """Return the temperature of each point, fitted on validation images; None if scores are not logits."""
        if not (points and self.predictor.has_likelihood):
            return dict.fromkeys(points)
        some = spaced(validation)
        images = ImageSet(*(np.concatenate([getattr(s, name) for s in some]) for name in ("rows", "labels")))
        problem = self._truncated(max(self.ranks[index] for index, _ in points))._untrained(images)
        return {
            (index, setting): fitted_temperature(logits, images.labels)
            for index, setting in points
            for (logits,) in self.predictor.settings[setting].scores(problem, [self.ranks[index]])
        }

    def _correct(self, images: ImageSet) -> Correct:
        """Return correctness on an image set, shape (settings, ranks, m)."""
        settings, classes = self.predictor.settings, images.classes
        dots = self._dots if classes is None else self._dots_of(self._text[classes])
        correct = np.empty((len(settings), len(self.ranks), len(images)), dtype=np.bool_)
        for place, block in images.blocks():
            problem = self._untrained(block) if None in dots else None
            for setting, of_dots, of_setting in zip(settings, dots, correct, strict=True):
                if of_dots is None:
                    of_setting[:, place] = _correct_by_scores(setting, block, problem, self.ranks)
                else:
                    ties = partial(self._tied, setting, block)
                    of_setting[:, place] = of_dots.correct(partial(self._centred, block), block.positions(), ties)
        return correct

    def _centred(self, images: ImageSet, which: slice | Labels) -> Floats:
        """Return embeddings minus the basis's offset; of any lengths, so stored ones will do if it has none."""
        z = self.data.z[images.rows[which]]
        return z if self.basis.offset is None else scaled(z, self.normalize) - self.basis.offset

    def _evaluated(
        self, images: ImageSet, picks: Collection[Point], temperatures: Mapping[Point, float | None]
    ) -> tuple[dict[Point, Scored], dict[Point, Predictions]]:
        """Return two dictionaries: metrics of scores at the points in `temperatures`, predictions at `picks`."""
        points = sorted({*picks, *temperatures})
        held: dict[Point, Array] = {}
        found: dict[Point, list[Predictions]] = {point: [] for point in picks}
        last = max((self.ranks[index] for index, _ in points), default=0)
        for place, block in images.blocks() if points else ():
            problem = self._truncated(last)._untrained(block)
            for point in points:
                setting, rank = self.predictor.settings[point[1]], [self.ranks[point[0]]]
                for (scores,) in setting.scores(problem, rank):
                    if point in temperatures:
                        if point not in held:
                            held[point] = np.empty((len(images), scores.shape[1]), scores.dtype)
                        held[point][place] = scores
                    if point in found:
                        classes = block.named(checked_predictions(setting, problem, rank)[0])
                        found[point].append(_predictions(classes, scores))
        nothing = _predictions(np.empty(0, dtype=np.uint16), np.empty((0, 1)))
        return (
            {point: self.scored(images, held.pop(point, np.empty((0, 1))), t) for point, t in temperatures.items()},
            {point: sum(of_blocks[1:], (of_blocks or [nothing])[0]) for point, of_blocks in found.items()},
        )

    def scored(self, images: ImageSet, scores: Array, temperature: float | None) -> Scored:
        """Return metrics of `scores`, shape (m, possible classes); with a temperature also calibration errors."""
        labels = images.positions()
        found = metrics.of_scores(self.score_metrics, scores, labels, self.predictor.has_likelihood)
        if temperature is None:
            return Scored(found)
        parts = [(scores[place], block.positions()) for place, block in images.blocks()]
        error, scaled_error = (
            metrics.calibration_error(sum((metrics.confidence_gaps(*part, t) for part in parts), _NO_GAPS), len(images))
            for t in (1.0, temperature)
        )
        return Scored(found, error, scaled_error, temperature)

    def _tied(self, setting: Predictor, images: ImageSet, count: int) -> Correct:
        """Return correctness at the first `count` ranks by the predictor's scores in float64, shape (count, m)."""
        problem = self._truncated(self.ranks[count - 1])._untrained(images)
        return _correct_by_scores(setting, images, problem, self.ranks[:count])

    @cached_property
    def _dots(self) -> list[DotProducts | None]:
        return self._dots_of(self._text)

    def _dots_of(self, text: Array) -> list[DotProducts | None]:
        """Return for each setting a classifier by dot products, or None if it needs the predictor's own scores."""
        factors = [setting.text_factors(text, self.ranks) for setting in self.predictor.settings]
        one_map = not self.basis.by_environment
        return [
            DotProducts.of(self.basis, text, of_setting, self.ranks) if one_map and of_setting is not None else None
            for of_setting in factors
        ]

    @cached_property
    def _text(self) -> Array:
        return self.basis.of_texts(self.data.text.astype(np.float64))

    def _truncated(self, rank: int) -> "Classifier":
        """Return a classifier that uses only the first coordinates: `rank`, rounded up to a multiple of `WIDTH`.

        If scores are not dot products, it is this classifier itself.
        """
        width = -(-rank // WIDTH) * WIDTH
        if None in self._dots or width >= self._text.shape[1]:
            return self
        vectors, texts = self.basis.vectors[:, :width], self.basis.texts[:, :width]
        return replace(self, basis=Basis(vectors, None, texts, self.basis.offset, self.basis.text_share))

    def _untrained(self, images: ImageSet) -> Problem:
        """Return the problem of classifying `images` among their possible classes, without training images."""
        return self._problem(self.train[:0], [ImageSet(images.rows, images.labels)], images.classes)

    def _problem(self, train: Mask, sets: Sequence[ImageSet], classes: Labels | None = None) -> Problem:
        """Return the problem in coordinates of the basis. `train` may be empty; `classes` restricts the classes."""
        data, basis, text, rows = self.data, self.basis, self._text, np.flatnonzero(train)
        views = data.views if self.predictor.uses_views else ()
        of_tests = [images.rows for images in sets]
        tower = data.tower and data.tower.mapped(basis.texts, basis.text_offset(data.text.astype(np.float64)))
        return Problem(
            train=self._coordinates(data.z, rows),
            labels=data.label[rows],
            text=text if classes is None else text[classes],
            tests=[self._coordinates(data.z, of_test) for of_test in of_tests],
            renormalize=self.normalize in ("after", "both"),
            environments=data.environment[rows],
            logit_scale=data.logit_scale,
            seed=self.seed,
            device=self.device,
            candidates=tuple(images.classes for images in sets),
            tower=tower if classes is None else None,
            views=[self._coordinates(view, rows) for view in views],
            test_views=[[self._coordinates(view, of_test) for view in views] for of_test in of_tests]
            if self.predictor.looks_at_target_images
            else (),
            c_d=None if self.c_d is None else basis.vectors.T @ self.c_d @ basis.vectors,
            spent=vars(type(self.predictor)).get("spends_training_images", False),
            for_choice=self.for_choice,
        )

    def _coordinates(self, embeddings: Single, rows: Labels) -> Array:
        """Return the coordinates of the images `rows`; `embeddings` are of the images or of one of their views."""
        mapped = np.empty((len(rows), self.basis.vectors.shape[1]), dtype=np.float32 if self.single else np.float64)
        for first in range(0, len(rows), ROTATED):
            block, own = slice(first, first + ROTATED), self.basis.by_environment
            z, environments = scaled(embeddings[rows[block]], self.normalize), self.data.environment[rows[block]]
            if not own:
                mapped[block] = self.basis.of_images(z)
                continue
            of_block = np.empty_like(z)
            for environment in np.unique(environments):
                there = environments == environment
                basis = own.get(self.data.environments[environment], self.basis)
                of_block[there] = basis.of_images(z[there])
            mapped[block] = of_block
        return mapped


@dataclass
class _ScoreAccumulator:
    """Accumulates results from scores that arrive point by point (rank, setting).

    Points selected by another fit or by `lodo` are known in advance and evaluated on arrival. The point with the
    highest accuracy on the validation sets is known only at the end, so the scores at the best point so far are kept.
    """

    classifier: Classifier
    validation: Sequence[ImageSet]
    tests: Sequence[ImageSet]
    choice: Choice | None
    score: Scorer | None
    lodo: Array | None

    def __post_init__(self) -> None:
        self._count = 0
        self.together = ImageUnions.of(self.validation, self.tests, self.classifier.data.label)  # all sets, scored once
        self._lodo_pick, self._lodo_picks = best_point(self.lodo), best_points(self.lodo)
        self._predictions: dict[Point, list[Predictions]] = {}
        self._best: dict[int, tuple[Point, list[Predictions]]] = {}  # setting -> best point so far, predictions
        self._temperatures: dict[Point, float | None] = {}
        self._scored: dict[Point, list[Scored]] = {}
        self._held: tuple[Point, list[Array], list[Array]] | None = None
        self._settings = len(self.classifier.predictor.settings)
        shape = (self._settings, len(self.classifier.ranks))
        self._correct = [np.empty((*shape, len(images)), dtype=np.bool_) for images in self.tests]
        kind = np.uint16 if self.classifier.validation_classes else np.bool_
        self._validated: list[Given] = [np.empty((*shape, len(images)), dtype=kind) for images in self.validation]
        self._scores = np.full(shape, -np.inf)  # starts below all scores

    def update(self, scores: Sequence[Array]) -> None:
        """Process the scores at the next point: one array for each union of image sets."""
        index, setting = point = divmod(self._count, self._settings)
        self._count += 1
        validation, tests = slice(len(self.validation)), slice(len(self.validation), None)
        unions = list(zip(self.together.unions, scores, strict=True))
        classes = [images.named(images.possible(logits).argmax(axis=1)) for images, logits in unions]
        answers = [of_one == images.labels for of_one, (images, _) in zip(classes, unions, strict=True)]
        given = self.together.of_sets(classes if self.classifier.validation_classes else answers, validation)
        for answers_of_set, of_set in zip(self._validated, given, strict=True):
            answers_of_set[setting, index] = of_set
        for curve, correct in zip(self._correct, self.together.of_sets(answers, tests), strict=True):
            curve[setting, index] = correct
        if self.choice is not None:
            if point in self.choice.temperatures:
                self._score(point, self.choice.temperatures[point], self.together.of_sets(scores, tests))
            if point in self.choice.picks:
                self._predictions[point] = self._predicted(scores)
        elif self.tests and self.score:
            self._scores[setting, index] = self.score(
                np.concatenate([of_set[setting, index] for of_set in self._validated], axis=-1)
            )
            self._choose(point, scores)

    def result(self, notes: tuple[str, ...]) -> Results:
        """Return the results, after the scores at all points were processed."""
        if self._held:
            self._fit(*self._held)
        self._predictions |= dict(self._best.values())
        tests = range(len(self.tests))
        scored = [{point: of_point[i] for point, of_point in self._scored.items()} for i in tests]
        predictions = [{point: of_point[i] for point, of_point in self._predictions.items()} for i in tests]
        return Results(self._validated, self._correct, scored, predictions, notes)

    def _predicted(self, scores: Sequence[Array]) -> list[Predictions]:
        """Return the predictions for each test set, from scores for the images of each union."""
        of_unions = [
            _predictions(images.named(images.possible(logits).argmax(axis=1)), images.possible(logits))
            for images, logits in zip(self.together.unions, scores, strict=True)
        ]
        return [of_unions[union][rows] for union, rows in self.together.places[len(self.validation) :]]

    def _choose(self, point: Point, scores: Sequence[Array]) -> None:
        index, setting = point
        is_best_of_setting = (index, 0) in best_points(self._scores[[setting]])
        if is_best_of_setting or point in self._lodo_picks:
            predicted = self._predicted(scores)
            if is_best_of_setting:
                self._best[setting] = point, predicted
            if point in self._lodo_picks:
                self._predictions[point] = predicted
        best = point == best_point(self._scores)
        if not (best or point == self._lodo_pick):
            return
        # Copied, since a predictor may overwrite its arrays at the next point.
        of_validation = spaced(self.together.of_sets(scores, slice(len(self.validation))))
        of_tests = self.together.of_sets(scores, slice(len(self.validation), None))
        if point == self._lodo_pick:
            self._fit(point, of_validation, of_tests)
        if best:
            self._held = None if point in self._temperatures else (point, of_validation, of_tests)

    def _fit(self, point: Point, of_validation: Sequence[Array], of_tests: Sequence[Array]) -> None:
        """Fit a temperature on the validation images if scores are logits, and evaluate the scores of the tests."""
        temperature = None
        if self.classifier.predictor.has_likelihood:
            labels = np.concatenate([images.labels for images in spaced(self.validation)])
            temperature = fitted_temperature(np.concatenate(of_validation), labels)
        self._score(point, temperature, of_tests)

    def _score(self, point: Point, temperature: float | None, of_tests: Sequence[Array]) -> None:
        self._temperatures[point] = temperature
        self._scored[point] = [
            self.classifier.scored(images, images.possible(scores), temperature)
            for images, scores in zip(self.tests, of_tests, strict=True)
        ]


def _correct_by_scores(setting: Predictor, images: ImageSet, problem: Problem | None, ranks: Sequence[int]) -> Correct:
    """Return correctness from the predictor's scores, shape (ranks, m)."""
    assert problem is not None
    return np.asarray(images.named(checked_predictions(setting, problem, ranks)) == images.labels)


def spaced(sets: Sequence[Sliceable]) -> list[Sliceable]:
    """Return evenly spaced images of each set, about `MAX_CALIBRATED` in total."""
    step = max(1, -(-sum(map(len, sets)) // MAX_CALIBRATED))
    return [images[::step] for images in sets]


def _predictions(classes: Labels, scores: Array) -> Predictions:
    """Return predicted classes and margins from scores, shape (m, possible classes)."""
    margins = np.full(len(scores), np.nan, dtype=np.float32)
    if scores.shape[1] > 1:
        second, best = np.partition(scores.astype(np.float64), -2, axis=1)[:, -2:].T
        with np.errstate(invalid="ignore"):
            difference = best - second
        margins = np.where(np.isfinite(difference), difference, np.nan).astype(np.float32)
    return Predictions(classes.astype(np.uint16), margins)
