"""Array types of the whole package, and scaling of embeddings to unit length."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = Ints  # class or environment indices; also row numbers
Mask = NDArray[np.bool_]
Single = NDArray[np.float32]  # precision of stored embeddings
Floats = NDArray[np.floating]  # floating-point values of any precision
Values = NDArray[Any]  # values of any type

Normalize = Literal["none", "before", "after", "both"]  # whether to scale to unit length, relative to the projection
Scale = Literal["raw", "unit"]  # embeddings as the encoder returns them, or at unit length


def scale_of(normalize: Normalize) -> Scale:
    """Return whether a projection gets embeddings as they are (`raw`) or at unit length (`unit`)."""
    return "unit" if normalize in ("before", "both") else "raw"


def scaled(z: Floats, normalize: Normalize) -> Array:
    """Return embeddings as a projection gets them: float64, at unit length if `normalize` is `before` or `both`."""
    double: Array = np.asarray(z, dtype=np.float64)
    return unit(double) if normalize in ("before", "both") else double


def unit(z: Array) -> Array:
    """Return the rows of `z` scaled to unit length; rows of zeros are unchanged."""
    norms = np.sqrt(np.einsum("nd,nd->n", z, z))[:, None]  # a third of the time of `np.linalg.norm`
    return np.asarray(z / np.where(norms > 0, norms, 1.0))


def finite(x: Floats, name: str) -> Array:
    """Return an array in float64; ValueError if it is not of shape (n, D), or holds NaN or infinite values."""
    double: Array = np.asarray(x, dtype=np.float64)
    if double.ndim != 2:
        raise ValueError(f"{name} must have shape (n, D), not {double.shape}.")
    if not np.isfinite(double).all():
        raise ValueError(f"{name} contains NaN or infinite values.")
    return double
