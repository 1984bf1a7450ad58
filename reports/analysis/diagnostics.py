"""What a projection keeps, how stable it is, and accuracies without labels: numbers alone."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from benchmark.method.evaluation.spans import Spans


@dataclass(frozen=True)
class Angles:
    """How far some subspaces lie apart, pair by pair.

    Attributes:
        labels: of the subspaces.
        degrees: angle between each two, in degrees.
        overlap: share of the one that lies in the other, 0 to 1; None where it was not measured.
    """

    labels: list[str]
    degrees: list[list[float]]
    overlap: list[list[float]] | None = None


@dataclass(frozen=True)
class Readability:
    """How well a linear classifier reads the environment in a space.

    Attributes:
        space: `plain` or `projected`.
        rank: number of directions of that space.
        balanced_accuracy: mean over environments of the share that is recognised, cross-validated, 0 to 1.
        chance: what guessing gives, 0 to 1.
        n: number of images.
    """

    space: str
    rank: int
    balanced_accuracy: float
    chance: float
    n: int


@dataclass(frozen=True)
class Displacement:
    """What interventions move; every list runs over the D directions, in the order in which they are kept.

    Attributes:
        energy: second moment of the embeddings along each direction.
        invariance_ratio: displacement relative to energy; None where there is no energy.
        moved_by: kind of intervention -> second moment of its differences along each direction.
        reconstruction: that term of the objective when so many directions are kept; None without lambda.
        consistency: the other term, likewise.
    """

    energy: list[float]
    invariance_ratio: list[float | None]
    moved_by: dict[str, list[float]]
    reconstruction: list[float] | None
    consistency: list[float] | None


@dataclass(frozen=True)
class Mapped:
    """What a map without ranks, which keeps every direction in part, leaves of images.

    Attributes:
        images_stay: whether images are left as they are, and texts alone are mapped.
        energy_left: share of the energy of the embeddings that is left, 0 to 1.
        displacement_left: kind of intervention -> share of its displacement that is left; None where it moves nothing.
        invariance_ratio: displacement relative to energy, before the map and after it; None without interventions.
        reconstruction: that term of the objective; None without lambda.
        nuisance_left: the other term, lambda times what is left of the nuisance; likewise.
    """

    images_stay: bool
    energy_left: float
    displacement_left: dict[str, float | None]
    invariance_ratio: list[float] | None
    reconstruction: float | None
    nuisance_left: float | None


@dataclass(frozen=True)
class Shift:
    """What is removed of the shift of class means, beside what with placebos of C_d would be.

    Attributes:
        target: environments that are left out, as if held out; their labels enter the shift to them.
        real: the shares of the projection at its rank.
        placebos: name of a placebo -> the shares of the same projection with each of its draws.
    """

    target: list[str]
    real: Spans
    placebos: dict[str, list[Spans]]


@dataclass(frozen=True)
class Diagnosis:
    """What a projection keeps and how stable it is.

    Attributes:
        choice: the projection, its lambda and intervention set, in words.
        dataset: its name.
        backbone: its label.
        random_weights: whether the weights are random, and so worthless for accuracy.
        normalize: where embeddings were scaled to unit length.
        seed: of the split.
        split: the images that are fitted on, of each environment, in words.
        rank: of the subspaces that are compared; None where there are no ranks.
        dim: embedding width D.
        images: number of images that the projection is fitted on.
        environments: their environments.
        spectrum: eigenvalues in the order in which directions are kept; None where there are none.
        displacement: what interventions move; None where the projection looks at none, or has no ranks.
        mapped: what is left of images; None where there are ranks.
        nuisance: name of what is weighed against the energy, or shrunk; None where the projection names nothing.
        shift: what is removed of the shift of class means.
        angles: what is compared -> how far the subspaces lie apart.
        decodability: how well the environment can be read, space by space.
        backbones: how far the same images lie apart under several backbones; None where there is one.
    """

    choice: str
    dataset: str
    backbone: str
    random_weights: bool
    normalize: str
    seed: int
    split: str
    rank: int | None
    dim: int
    images: int
    environments: list[str]
    spectrum: list[float] | None
    displacement: Displacement | None
    mapped: Mapped | None
    nuisance: str | None
    shift: Shift
    angles: dict[str, Angles]
    decodability: list[Readability]
    backbones: Angles | None

    def content(self) -> dict[str, Any]:
        """Return the diagnosis as plain data, flat, without what is not there."""
        flat = {**asdict(self), **(asdict(self.displacement) if self.displacement else {})}
        return {k: v for k, v in flat.items() if k != "displacement" and (v is not None or k == "spectrum")}


@dataclass(frozen=True)
class Estimated:
    """What is estimated of one method on one environment that is no source, mean over seeds; shares from 0 to 1.

    Attributes:
        dataset: name of the data set.
        backbone: label of the backbone.
        method: what predicts.
        environment: where.
        sources: number of environments that are fitted on.
        source: accuracy on images of the sources that no fit has seen.
        atc: by average thresholded confidence.
        agreement: by agreement on the line; NaN with fewer than three methods.
        accuracy: the truth; NaN where the environment has no labels.
    """

    dataset: str
    backbone: str
    method: str
    environment: str
    sources: int
    source: float
    atc: float
    agreement: float
    accuracy: float

    @property
    def is_labelled(self) -> bool:
        """Whether the truth is known."""
        return not math.isnan(self.accuracy)

    def error(self, way: str) -> float:
        """Return how far an estimate is from the truth, as a share."""
        return abs(float(getattr(self, way)) - self.accuracy)

    def content(self) -> dict[str, Any]:
        """Return it as plain data, with None for what is not known."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}
