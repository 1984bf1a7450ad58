"""Diagnostics of subspaces (CLIP-ICM, arXiv 2405.15289, section 4).

This module computes the two terms of the objective at every rank, the displacement by interventions along every
direction, angles between subspaces, and the decodability of the environment. `benchmark/commands/diagnose.py` reports
them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, subspace_angles

from benchmark.method.arrays import Array, Floats, Ints, Values, finite
from benchmark.method.predictors.logistic import SoftmaxRegression
from benchmark.method.subspace.basis import Basis, lost_by_rank
from benchmark.method.subspace.moments import Differences, Moments, SourceMoments


def terms(
    basis: Basis, moments: Moments | SourceMoments, lambda_: float, nuisance: Array | None = None
) -> tuple[Array, Array]:
    """Return the two terms of the objective at every rank, two arrays of shape (D,); entry k - 1 is for rank k.

    With A = V_k^T, the first k columns of the basis,

        reconstruction = (1/N) sum || A^T A z_i - z_i ||^2 = tr C_z - 2 tr(A C_z A^T) + tr(A C_z A^T A A^T)
        consistency    = lambda (1/N) sum || A z_i - A z_i^do ||^2 = lambda tr(A C_d A^T)

    These formulas hold for oblique bases too. For orthonormal ones the first term is tr C_z - tr(A C_z A^T). With
    lambda_ = 0 no differences are needed. A `nuisance`, shape (D, D), replaces C_d.
    """
    v = basis.vectors
    reconstruction = lost_by_rank(v, v, moments.c_z())
    n = moments.c_d() if lambda_ and nuisance is None else nuisance
    consistency = np.zeros(len(v)) if n is None else lambda_ * np.cumsum(basis.energy(n))
    return reconstruction, np.asarray(consistency)


def terms_of_map(
    matrix: Array, moments: Moments | SourceMoments, lambda_: float, nuisance: Array
) -> tuple[float, float]:
    """Return the two terms of the objective for a map x^ = M z without ranks, with the nuisance N.

        reconstruction = (1/N) sum || M z_i - z_i ||^2 = tr (M - I) C_z (M - I)^T
        consistency    = lambda tr M N M^T

    Their sum is minimal for M = F = C_z (C_z + lambda N)^-1, the filter of shrinkage.
    """
    lost = matrix - np.eye(len(matrix))
    return float(np.sum((lost @ moments.c_z()) * lost)), lambda_ * float(np.sum((matrix @ nuisance) * matrix))


def share_left(basis: Basis, second_moment: Array) -> float | None:
    """Return tr(M C M^T) / tr(C), the share of C that the map M of images keeps; None if C is 0."""
    whole = float(np.trace(second_moment))
    return float(basis.energy(second_moment).sum()) / whole if whole > 0 else None


def invariance_ratio(basis: Basis, moments: Moments | SourceMoments) -> Array:
    """Return v^T C_d v / v^T C_z v for every direction, shape (D,): displacement by interventions over energy.

    At 0 no intervention moves the direction. At 2, z and z^do along it are as different as independent values of equal
    energy and mean zero. Energies below D x machine epsilon x the largest energy count as 0. Then 0 / 0 is NaN (neither
    images nor interventions use the direction), and x / 0 is infinity.

    Raises:
        ValueError: there are no interventional pairs.
    """
    energies = [basis.energy(c) for c in (moments.c_d(), moments.c_z())]
    smallest = [len(energy) * np.finfo(np.float64).eps * np.abs(energy).max() for energy in energies]
    moved, energy = (np.where(e > least, e, 0.0) for e, least in zip(energies, smallest, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(moved / energy)


def moved_by(basis: Basis, differences: Mapping[str, Differences]) -> dict[str, Array]:
    """Return for each kind of intervention the displacement v^T C_d v along every direction v, shape (D,)."""
    return {kind: basis.energy(d.moment()) for kind, d in differences.items()}


def principal_angles(a: Array, b: Array) -> Array:
    """Return the principal angles between two subspaces in degrees, ascending, shape (min(k1, k2),).

    For orthonormal bases A and B, cos theta_i is the i-th largest singular value of A^T B (Bjoerck and Golub, 1973).
    Small angles are computed from their sines (Knyazev and Argentati, 2002).

    Raises:
        ValueError: the subspaces belong to spaces of different width.
    """
    a, b = finite(a, "The first basis"), finite(b, "The second basis")
    if len(a) != len(b):
        raise ValueError(f"Subspaces of spaces of different width D ({len(a)} and {len(b)}) form no angles.")
    return np.asarray(np.rad2deg(subspace_angles(a, b))[::-1])


def sample_angles(x: Floats, y: Floats) -> Array:
    """Return the canonical angles between two embeddings of the same images, in degrees, ascending.

    They are the principal angles between the column spaces of the centred X and Y. Their cosines are the canonical
    correlations (Hotelling, 1936; by QR, Bjoerck and Golub, 1973). Scale, rotation and width of the embeddings do not
    matter, so X and Y may come from different backbones. The angles describe these images only. If n - 1 < rank X +
    rank Y, the two spaces intersect, and rank X + rank Y - (n - 1) angles are 0 for any embeddings. So use several
    times as many images.

    Args:
        x: projected embeddings X, shape (n, k1).
        y: projected embeddings Y of the same images in the same order, shape (n, k2).

    Returns:
        The angles, shape (min(rank X, rank Y),), with ranks after centring.

    Raises:
        ValueError: the numbers of images differ, a value is NaN or infinite, or all images have the same embedding.
    """
    x, y = finite(x, "X"), finite(y, "Y")
    if len(x) != len(y):
        raise ValueError(f"X has {len(x)} rows and Y has {len(y)}: both need a row for each image.")
    return principal_angles(_column_space(x, "X"), _column_space(y, "Y"))


def _column_space(x: Array, name: str) -> Array:
    """Return an orthonormal basis of the columns of `x` after centring, shape (n, rank)."""
    centred = x - x.mean(axis=0) if len(x) else x
    q, r, _ = qr(centred, mode="economic", pivoting=True)  # with pivoting, the diagonal of R gives the rank
    sizes = np.abs(r.diagonal())
    rounding = max(x.shape) * np.finfo(np.float64).eps * np.abs(x).max(initial=0.0) * np.sqrt(len(x))
    rank = int((sizes > rounding).sum())
    if not rank:
        raise ValueError(f"The embeddings {name} are the same for all images, so they form no angle with others.")
    return np.asarray(q[:, :rank])


@dataclass(frozen=True)
class Decodability:
    """Accuracy of a linear classifier of the environment."""

    balanced_accuracy: float  # mean recall over environments, from 0 to 1
    chance: float  # 1 / E for E environments
    n: int  # number of images, each tested once


def decodability(
    z: Floats,
    environment: Values,
    group: Values | None = None,
    seed: int = 0,
    folds: int = 5,
    c: float = 1.0,
) -> Decodability:
    """Return the cross-validated accuracy of a linear classifier of the environment label.

    It is a multinomial logistic regression in which environments have equal weight. Embeddings are divided by the root
    of their mean variance, a scalar, so the penalty does not depend on their scale.

    Args:
        z: embeddings or projected embeddings, shape (n, k).
        environment: environment label of each image, shape (n,), of any type that sorts.
        group: group of each image, such as its concept, shape (n,), of any type that sorts. A group stays in one fold.
            None (default): no groups.
        seed: seed of the random assignment of images or groups to folds, >= 0, default 0.
        folds: number of folds of the cross-validation, >= 2, default 5.
        c: inverse weight of the L2 penalty, scikit-learn's `C`, > 0, default 1.0.

    Raises:
        ValueError: there are fewer than two environments, an environment has fewer images (or groups) than folds, or
            `z` has another shape, NaN or infinite values.
    """
    z = finite(z, "Z")
    names, labels, counts = np.unique(environment, return_inverse=True, return_counts=True)
    if len(labels) != len(z):
        raise ValueError(f"There are {len(z)} embeddings and {len(labels)} environment labels: each image needs one.")
    if len(names) < 2:
        raise ValueError("Decodability needs at least two environments.")
    if group is None:
        fold = stratified_folds(labels, folds, seed)
    else:  # a group in several environments counts as part of the first one
        _, first, of_image = np.unique(group, return_index=True, return_inverse=True)
        fold = stratified_folds(labels[first], folds, seed)[of_image]
    scale = np.sqrt(z.var(axis=0).mean())
    z = z / scale if scale > 0 else z
    weights = len(z) / (len(names) * counts[labels])
    predicted = np.empty_like(labels)
    for f in range(folds):
        train, test = fold != f, fold == f
        problem = SoftmaxRegression(z[train], labels[train], len(names), sample_weights=weights[train])
        predicted[test] = problem.fit(z.shape[1], c).logits(z[test]).argmax(axis=1)
    recalls = np.bincount(labels[predicted == labels], minlength=len(names)) / counts
    return Decodability(float(recalls.mean()), 1 / len(names), len(z))


def stratified_folds(labels: Ints, folds: int, seed: int) -> Ints:
    """Return the fold of each image, stratified by label, shape (n,), 0 <= fold < folds."""
    if folds < 2:
        raise ValueError(f"folds={folds}: cross-validation needs at least 2.")
    rng = np.random.default_rng(seed)
    fold = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < folds:
            raise ValueError(f"An environment has {len(members)} images, fewer than the {folds} folds.")
        fold[rng.permutation(members)] = np.arange(len(members)) % folds
    return fold


def angle_table(bases: Mapping[str, Basis], rank: int) -> tuple[list[str], Array]:
    """Return the labels of the bases, and a matrix of angles in degrees, shape (bases, bases).

    An entry is the largest principal angle between the subspaces of rank `rank` of two bases.

    Raises:
        ValueError: widths differ, or `rank` is not between 1 and D.
    """
    labels = list(bases)
    table = np.zeros((len(labels), len(labels)))
    for label, basis in bases.items():
        if not 1 <= rank <= len(basis.vectors):
            raise ValueError(f"rank={rank} is not between 1 and D={len(basis.vectors)} of '{label}'.")
    for i, one in enumerate(labels):
        for j, other in enumerate(labels[:i]):
            angles = principal_angles(bases[one].vectors[:, :rank], bases[other].vectors[:, :rank])
            table[i, j] = table[j, i] = angles[-1]
    return labels, table
