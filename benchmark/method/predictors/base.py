"""The base class of predictors, the classification problem that they get, and the text encoder for learnt prompts."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmark.common.registry import Component
from benchmark.method.arrays import Array, Floats, Labels, unit

if TYPE_CHECKING:
    import torch

TEMPERATURES = (1e-3, 1e3)  # lower and upper bound of fitted temperatures
PLACEHOLDER = "X"  # a word of one token, which context vectors replace, as in CoOp's code


@dataclass(frozen=True)
class TextTower:
    """Text encoder of a dual encoder, for prompts with learnt context."""

    names: tuple[str, ...]  # class names in prompts
    tokenize: "Callable[[Sequence[str]], torch.Tensor]"  # texts -> tokens, int64, shape (n, length)
    table: "torch.nn.Module"  # the module that looks up the embedding of each token: (n, length) -> (n, length, width)
    encode: "Callable[[torch.Tensor], torch.Tensor]"  # tokens -> raw embeddings, shape (n, D), float32
    map: Array | None = None  # matrix that maps text embeddings to coordinates of a basis, shape (D, D)
    offset: Array | None = None  # vector to subtract from text embeddings before `map`, shape (D,); None: nothing

    def mapped(self, matrix: Array, offset: Array | None = None) -> "TextTower":
        """Return a tower whose text embeddings are in the coordinates of a basis: (embedding - offset) @ matrix."""
        return replace(self, map=matrix, offset=offset)

    def prompts(self, context: int) -> "Prompts":
        """Return the prompts "X X ... X name." of all classes, with `context` vectors in place of the words X.

        Raises:
            ValueError: the tower's tokenizer has no single token for X.
        """
        tokens = self.tokenize([f"{' '.join([PLACEHOLDER] * context)} {name}." for name in self.names])
        if not (tokens[:, 1 : context + 1] == tokens[0, 1]).all() or (tokens[:, context + 1] == tokens[0, 1]).any():
            raise ValueError(f"The text tower's tokenizer has no single token for '{PLACEHOLDER}', as prompts need.")
        return Prompts(self, tokens, context)


@dataclass(frozen=True)
class Prompts:
    """The prompts of all classes, whose embeddings are a function of the context vectors."""

    tower: TextTower  # the text encoder
    tokens: "torch.Tensor"  # tokens with placeholders after the first one, shape (n_classes, length)
    context: int  # number of context vectors

    @property
    def width(self) -> int:
        """Width of a context vector."""
        import torch

        with torch.no_grad():
            return int(self.tower.table(self.tokens[:1]).shape[-1])

    def texts(self, vectors: "torch.Tensor", classes: "torch.Tensor | None" = None) -> "torch.Tensor":
        """Return text embeddings at unit length for given context vectors, shape (classes, D).

        `vectors` has shape (context, width). `classes` are row numbers of classes; None: all classes. If the tower has
        an `offset` or a `map`, it is applied after the scaling.
        """
        import torch
        from torch.nn.functional import normalize

        def put(_module: object, _inputs: object, found: torch.Tensor) -> torch.Tensor:
            own = vectors.to(found).expand(len(found), -1, -1)
            return torch.cat([found[:, :1], own, found[:, 1 + self.context :]], dim=1)

        hook = self.tower.table.register_forward_hook(put)
        try:
            embedded = normalize(self.tower.encode(self.tokens if classes is None else self.tokens[classes]))
        finally:
            hook.remove()
        if self.tower.offset is not None:
            embedded = embedded - torch.from_numpy(np.asarray(self.tower.offset, dtype=np.float32)).to(embedded)
        if self.tower.map is None:
            return embedded
        return embedded @ torch.from_numpy(np.asarray(self.tower.map, dtype=np.float32)).to(embedded)


@dataclass(frozen=True)
class Head:
    """A linear classifier: logits are `x @ weights + bias`.

    Attributes:
        weights: weights W, shape (rank, classes).
        bias: intercepts b, shape (classes,); minus infinity for a class without training images.
        objective: final value of the objective; NaN (default) if unknown.
        steps: number of solver steps, default 0.
        converged: whether the solver converged before `max_iter` steps. Default true.
        singular: whether the penalty is below double-precision rounding, so that the solution is not unique. Default
            false.
    """

    weights: Array
    bias: Array
    objective: float = math.nan
    steps: int = 0
    converged: bool = True
    singular: bool = False

    def logits(self, x: Floats) -> Array:
        """Return the logits of embeddings, shape (n, classes), in the precision of `x`."""
        logits: Array = np.asarray(x @ self.weights.astype(x.dtype))
        logits += self.bias.astype(x.dtype)
        return logits

    def turned(self, matrix: Array) -> "Head":
        """Return the classifier with the weights `matrix @ weights`; `matrix` has shape (new rank, rank)."""
        return replace(self, weights=matrix @ self.weights)


HeadKey = tuple[str, int]  # name that the predictor gives a classifier, rank


@dataclass(frozen=True)
class Problem:
    """A classification problem in the coordinates of a basis. Rank k uses the first k columns of every array.

    Attributes:
        train: embeddings of the training images, shape (n, D).
        labels: class of each training image, shape (n,), 0 <= label < n_classes.
        text: text embedding of each class, shape (n_classes, D).
        tests: several arrays of image embeddings to classify, shape (m, D). Their m may differ.
        renormalize: whether projected image embeddings are scaled to unit length again. Default False.
        environments: number of the source environment of each training image, shape (n,); empty (default) for a single
            environment.
        logit_scale: factor by which the backbone multiplies cosine similarities, default 100.
        seed: the trial's seed, >= 0, default 0. Predictors may use no other source of randomness.
        device: torch device, such as `cuda`, on which logistic regressions are solved. Default `cpu`.
        candidates: for each array of `tests`, its possible classes, or None for all classes. Empty (default): all
            classes are possible everywhere.
        tower: the backbone's text encoder, for predictors that learn prompts; None (default) for all others.
        rotated: classifiers at rank D, fitted to the same images in another orthonormal basis and rotated into this
            one. Predictors with `turns` use them instead of a fit. Empty by default.
        starts: classifiers fitted to the same images in the coordinates of a similar basis, at any rank. The solver may
            start from them. Empty by default.
        found: (name, rank) -> classifier. Predictors store fitted classifiers here; later problems get them as
            `rotated` and `starts`.
        views: for each kind of intervention, embeddings of the intervened training images, shape (n, D). Only for
            predictors with `uses_views`, otherwise empty (default).
        test_views: for each array of `tests` and each kind, embeddings of the intervened images, shape (m, D). Only for
            predictors with `looks_at_target_images`, otherwise empty (default).
        c_d: second moment C_d of the interventional differences of the training images, shape (D, D), before any
            scaling to unit length. Only for predictors with `uses_c_d`, otherwise None (default).
        spent: whether the predictor may overwrite `train`, if it has `spends_training_images`. Default False.
        for_choice: whether the fit only serves model selection, so that solvers may stop earlier. Default False.
        notes: warnings of fits, such as non-convergence: one sentence each that begins with the predictor's name.
            Predictors append to it; a problem made by `replace` shares the list.

    Raises:
        ValueError: arrays of inconsistent shapes, NaN or infinite values, or labels out of range.

    Example:
        Zero-shot prediction at the ranks 1 and 2. By the first coordinate alone, both images are of the first class.

        >>> import numpy as np
        >>> from benchmark.method.predictors import PREDICTORS, Problem
        >>> images, text = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> problem = Problem(train=images[:0], labels=np.zeros(0, dtype=np.int64), text=text, tests=[images])
        >>> PREDICTORS.create("zero_shot").predict(problem, ranks=[1, 2])
        [array([[0, 0],
               [0, 1]])]
    """

    train: Array
    labels: Labels
    text: Array
    tests: Sequence[Array]
    renormalize: bool = False
    environments: Labels = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    logit_scale: float = 100.0
    seed: int = 0
    device: str = "cpu"
    candidates: Sequence[Labels | None] = ()
    tower: TextTower | None = field(default=None, compare=False, repr=False)
    rotated: Mapping[HeadKey, Head] = field(default_factory=dict, compare=False, repr=False)
    starts: Mapping[HeadKey, Head] = field(default_factory=dict, compare=False, repr=False)
    found: dict[HeadKey, Head] = field(default_factory=dict, compare=False, repr=False)
    views: Sequence[Array] = ()
    test_views: Sequence[Sequence[Array]] = ()
    c_d: Array | None = None
    spent: bool = False
    for_choice: bool = False
    notes: list[str] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        width = self.text.shape[-1]
        arrays = [("train", self.train), ("text", self.text), *(() if self.c_d is None else [("c_d", self.c_d)])]
        arrays += [(f"{name}[{i}]", z) for name in ("tests", "views") for i, z in enumerate(getattr(self, name))]
        arrays += [(f"test_views[{i}]", z) for i, views in enumerate(self.test_views) for z in views]
        for name, z in arrays:
            if z.ndim != 2 or z.shape[1] != width:
                raise ValueError(f"{name} must have shape (n, {width}) like the text embeddings, not {z.shape}.")
            if not np.isfinite(z).all():
                raise ValueError(f"{name} contains NaN or infinite values.")
        of_tests = [{len(z), *map(len, views)} for z, views in zip(self.tests, self.test_views, strict=False)]
        if any(len(view) != len(self.train) for view in self.views) or any(len(counts) > 1 for counts in of_tests):
            raise ValueError("Views must be of the same images as `train`, or as their array of `tests`.")
        if len(self.labels) != len(self.train) or len(self.environments) not in (0, len(self.train)):
            raise ValueError(f"{len(self.train)} training images need as many labels and environments.")
        if len(self.labels) and not (np.min(self.labels) >= 0 and np.max(self.labels) < len(self.text)):
            raise ValueError(
                f"Labels must lie between 0 and {len(self.text) - 1}, one less than the number of classes."
            )

    @property
    def n_classes(self) -> int:
        """Number of classes, including those without training images."""
        return len(self.text)

    def with_views(self) -> Iterator[tuple[Array, ...]]:
        """Yield one tuple for each array of `tests`: embeddings of the images, then of their views of each kind.

        Raises:
            ValueError: there are no views.
        """
        if not all(self.test_views) or len(self.test_views) != len(self.tests):
            raise ValueError("A predictor that uses views of the test images needs some, and there are none.")
        yield from ((z, *views) for z, views in zip(self.tests, self.test_views, strict=True))

    def project(self, z: Array, rank: int) -> Array:
        """Return the first `rank` coordinates of images, shape (n, rank); with `renormalize`, at unit length."""
        return unit(z[:, :rank]) if self.renormalize else z[:, :rank]


class Predictor(Component):
    """Base class of predictors, which predict classes from embeddings inside a subspace.

    To add one, derive from this class in a separate file, write `scores`, and give the class a name in `PREDICTORS` (or
    name it `module:Class` in the recipe). Keyword arguments in the class statement define how reports show it, see
    `benchmark.common.registry.Presentation`. A new class attribute must also be named in docs/adding.md;
    tests/docs/test_adding.py checks this.

    Example:
        >>> import numpy as np
        >>> from benchmark.method.predictors import Predictor, Problem
        >>> class DotProduct(Predictor):
        ...     "Zero-shot prediction without lengths."
        ...
        ...     def scores(self, problem, ranks):
        ...         for rank in ranks:
        ...             yield [problem.project(z, rank) @ problem.text[:, :rank].T for z in problem.tests]
        >>> images, text = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> problem = Problem(train=images[:0], labels=np.zeros(0, dtype=np.int64), text=text, tests=[images])
        >>> DotProduct().predict(problem, ranks=[2])
        [array([[0, 1]])]
    """

    uses_training_images: ClassVar[bool] = True
    has_likelihood: ClassVar[bool] = True  # whether scores are logits, as calibration needs
    # Whether it learns classes only from images, as linear probes do. A class without training images then has the
    # score minus infinity. Other predictors know classes by their names.
    learns_classes: ClassVar[bool] = False
    # Whether its classifier at rank D turns with the basis, so that `Problem.rotated` can replace a fit.
    turns: ClassVar[bool] = False
    # Whether fits are slow. Fits for model selection then use only `sweep.selection_images` images.
    samples: ClassVar[bool] = False
    # Whether it may overwrite the embeddings of training images. Not inherited, since a subclass may need them later.
    spends_training_images: ClassVar[bool] = False
    uses_text_tower: ClassVar[bool] = False  # whether it learns prompts and needs `Problem.tower`
    uses_c_d: ClassVar[bool] = False  # whether it uses `Problem.c_d`, which may be a placebo
    uses_views: ClassVar[bool] = False  # whether it uses `Problem.views`, so that it needs an intervention set
    # Whether it uses views of test images, `Problem.test_views`. Tables mark this test-time adaptation.
    looks_at_target_images: ClassVar[bool] = False

    @property
    def uses_interventions(self) -> bool:
        """Whether it uses an intervention set."""
        return self.uses_c_d or self.uses_views

    @property
    def settings(self) -> "tuple[Predictor, ...]":
        """The predictors that a selection rule chooses among, each with one value of every grid."""
        return (self,)

    @abstractmethod
    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """Yield for every rank a list: the class scores of each array of `problem.tests`, shape (m, n_classes).

        Scores are logits if the predictor has a likelihood; the class with the highest score is predicted.

        Args:
            problem: the classification problem in the coordinates of a basis.
            ranks: numbers of coordinates kept, ascending, each from 1 to D.

        Raises:
            ValueError: the predictor has several settings. `scores_of_settings` gives the scores of each setting.
        """

    def scores_of_settings(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """Yield the scores of every setting at every rank, each in the form of `scores`.

        The settings at the first rank come first, then those at the second, and so on.

        Override this method if fits of several settings share work.

        Args:
            problem: the classification problem in the coordinates of a basis.
            ranks: numbers of coordinates kept, ascending, each from 1 to D.
        """
        for of_rank in zip(*(setting.scores(problem, ranks) for setting in self.settings), strict=True):
            yield from of_rank

    def text_factors(self, text: Array, ranks: Sequence[int]) -> Array | None:
        """Return factors for dot products with texts, if the multiplied products alone decide the predicted class.

        Override this method if the predicted class at rank k is the argmax over classes c of f_kc sum_{i <= k} z_i
        t_ci, with z the image and t_c the text of class c. `evaluation.dot_products` then computes it without the
        coordinates of the image.

        Args:
            text: text embedding t_c of each class in the coordinates of a basis, shape (n_classes, D).
            ranks: numbers of coordinates kept, ascending, each from 1 to D.

        Returns:
            The factors f_kc, shape (len(ranks), n_classes), above 0; None (default) for other predictors.
        """
        del text, ranks
        return None

    def labels_used(self, labels: Labels) -> int:
        """Return the number of training images whose label is used. `labels`: labels of all training images."""
        return len(labels) if self.uses_training_images else 0

    def predict(self, problem: Problem, ranks: Sequence[int]) -> list[Labels]:
        """Return the predicted classes for every array of `problem.tests`, shape (len(ranks), m).

        Args:
            problem: the classification problem in the coordinates of a basis.
            ranks: numbers of coordinates kept, ascending, each from 1 to D.
        """
        curves = [np.empty((len(ranks), len(z)), dtype=np.int64) for z in problem.tests]
        allowed = problem.candidates or [None] * len(curves)
        for row, of_rank in enumerate(self.scores(problem, ranks)):
            for curve, scores, classes in zip(curves, of_rank, allowed, strict=True):
                curve[row] = scores.argmax(axis=1) if classes is None else classes[scores[:, classes].argmax(axis=1)]
        return curves


def fitted_temperature(logits: Array, labels: Labels) -> float:
    """Return the maximum-likelihood temperature (temperature scaling, Guo et al., 2017, section 4.2).

    Images whose class has the logit minus infinity are left out. The result is 1.0 if no image remains.
    """
    from scipy.optimize import minimize_scalar  # takes a third of a second to import

    possible = np.isfinite(logits[np.arange(len(labels)), labels])
    logits, labels = logits[possible], labels[possible]
    if not len(labels):
        return 1.0

    own = np.arange(len(labels)), labels

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        likelihoods = scaled[own]
        return -float((likelihoods - np.log(np.exp(scaled, out=scaled).sum(axis=1))).mean())

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))
