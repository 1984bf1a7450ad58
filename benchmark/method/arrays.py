"""Arrays as the method knows them: their types, and the scale at which embeddings are seen."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = Ints  # numbers of classes or environments, counted from 0; also rows of an array
Mask = NDArray[np.bool_]
Single = NDArray[np.float32]  # as embeddings are stored
Floats = NDArray[np.floating]  # of any precision, as embeddings come
Values = NDArray[Any]  # of any type

Normalize = Literal["none", "before", "after", "both"]  # where, seen from the projection, to scale to unit length
Scale = Literal["raw", "unit"]  # as the encoder gives them, or at unit length


def scale_of(normalize: Normalize) -> Scale:
    """Return the scale of the embeddings that a projection sees."""
    return "unit" if normalize in ("before", "both") else "raw"


def scaled(z: Floats, normalize: Normalize) -> Array:
    """Return embeddings as a projection is to see them, in float64: at unit length for `before` and `both`."""
    double: Array = np.asarray(z, dtype=np.float64)
    return unit(double) if normalize in ("before", "both") else double


def unit(z: Array) -> Array:
    """Return the rows of `z` at unit length; rows of zeros stay."""
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    return np.asarray(z / np.where(norms > 0, norms, 1.0))


def finite(x: Floats, name: str) -> Array:
    """Return an array in float64; ValueError if it is not of shape (n, D), or holds NaN or infinite values."""
    double: Array = np.asarray(x, dtype=np.float64)
    if double.ndim != 2:
        raise ValueError(f"{name} must have shape (n, D), not {double.shape}.")
    if not np.isfinite(double).all():
        raise ValueError(f"{name} contains NaN or infinite values.")
    return double
