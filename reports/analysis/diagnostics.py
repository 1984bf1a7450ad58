"""Results of `icm-bench diagnose` (properties of a projection) and `unlabelled` (estimated accuracies), as numbers."""
# benchmark/commands/diagnose.py and unlabelled.py fill these fields; reports/text/diagnosis.py shows them.

import math
from dataclasses import asdict, dataclass
from typing import Any

from benchmark.method.evaluation.spans import Spans


@dataclass(frozen=True)
class Angles:
    """Pairwise angles between subspaces.

    Attributes:
        labels: names of the subspaces.
        degrees: angle between each pair, in degrees.
        overlap: share of one subspace that lies in the other, 0 to 1; None if not measured.
    """

    labels: list[str]
    degrees: list[list[float]]
    overlap: list[list[float]] | None = None


@dataclass(frozen=True)
class Readability:
    """How well a linear classifier predicts the environment from the embeddings in one space.

    Attributes:
        space: `plain` or `projected`.
        rank: dimension of the space.
        balanced_accuracy: cross-validated, 0 to 1.
        chance: balanced accuracy of guessing, 0 to 1.
        n: number of images.
    """

    space: str
    rank: int
    balanced_accuracy: float
    chance: float
    n: int


@dataclass(frozen=True)
class Displacement:
    """Displacement of embeddings by interventions. Each list begins with the directions that are kept first.

    Attributes:
        energy: second moment of the embeddings along each direction.
        invariance_ratio: displacement divided by energy along each direction; None for a direction without energy.
        moved_by: kind of intervention -> second moment of the differences that it causes, along each direction.
        reconstruction: reconstruction term of the objective at each rank; None without lambda.
        consistency: consistency term of the objective at each rank; None without lambda.
    """

    energy: list[float]
    invariance_ratio: list[float | None]
    moved_by: dict[str, list[float]]
    reconstruction: list[float] | None
    consistency: list[float] | None


@dataclass(frozen=True)
class Mapped:
    """Effect of a full-rank map, which shrinks directions instead of dropping them, on image embeddings.

    Attributes:
        images_stay: whether only texts are mapped.
        energy_left: remaining share of the embeddings' energy, 0 to 1.
        displacement_left: kind of intervention -> remaining share of its displacement; None if it moves nothing.
        invariance_ratio: displacement relative to energy, before and after the map; None without interventions.
        reconstruction: reconstruction term of the objective; None without lambda.
        nuisance_left: nuisance term of the objective, lambda times the remaining nuisance; None without lambda.
    """

    images_stay: bool
    energy_left: float
    displacement_left: dict[str, float | None]
    invariance_ratio: list[float] | None
    reconstruction: float | None
    nuisance_left: float | None


@dataclass(frozen=True)
class Shift:
    """How much of the shift of class means between environments a projection removes.

    Attributes:
        target: environments left out of the fit. The shift to them is computed with their labels.
        real: removed shares with the real C_d, at the projection's rank.
        placebos: name of a placebo -> removed shares with this placebo in the place of C_d, for each draw.
    """

    target: list[str]
    real: Spans
    placebos: dict[str, list[Spans]]


@dataclass(frozen=True)
class Diagnosis:
    """Properties and stability of a projection.

    Attributes:
        choice: the projection, its lambda and intervention set, in words.
        dataset: name of the data set.
        backbone: label of the backbone.
        random_weights: whether the weights are random; accuracies are then meaningless.
        normalize: step at which embeddings were scaled to unit length.
        seed: seed of the split.
        split: which images of each environment are in the fit, in words.
        rank: rank of the compared subspaces; None for full-rank maps.
        dim: embedding width D.
        images: number of images in the fit.
        environments: environments in the fit.
        spectrum: eigenvalues in the order in which directions are kept; None if there are none.
        displacement: displacement by interventions; None without interventions or without ranks.
        mapped: effect of a full-rank map; None for projections with ranks.
        nuisance: name of the nuisance in the objective; None if the projection names none.
        shift: shares of the shift of class means that the projection removes.
        angles: factor that is varied between fits -> angles between the subspaces of these fits.
        decodability: decodability of the environment in each space.
        backbones: angles between the subspaces of the backbones, on the same images; None with one backbone.
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
        """Return the diagnosis as a flat dictionary of plain data, without None except for `spectrum`."""
        flat = {**asdict(self), **(asdict(self.displacement) if self.displacement else {})}
        return {k: v for k, v in flat.items() if k != "displacement" and (v is not None or k == "spectrum")}


@dataclass(frozen=True)
class Estimated:
    """Estimated accuracies of one method on one target environment, means over seeds, fractions.

    Attributes:
        dataset: name of the data set.
        backbone: label of the backbone.
        method: label of the method.
        environment: target environment.
        sources: number of source environments in the fit.
        source: accuracy on unseen images of the sources.
        atc: estimate by average thresholded confidence.
        agreement: estimate by agreement on the line; NaN with fewer than three methods.
        accuracy: true accuracy; NaN without labels.
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
        """Whether the true accuracy is known."""
        return not math.isnan(self.accuracy)

    def error(self, way: str) -> float:
        """Return the absolute error of the estimate in the field `way` ("atc", "agreement"), a fraction."""
        return abs(float(getattr(self, way)) - self.accuracy)

    def content(self) -> dict[str, Any]:
        """Return the fields as plain data, with None in place of NaN."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}
