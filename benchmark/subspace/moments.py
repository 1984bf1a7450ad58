"""The sums through which the data enter the method (arXiv 2405.15289, section 4)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over embeddings z_i and intervention differences d_j = z_i - z_i^do, in float64.

    They add and subtract like the sets of images they come from: a held-out environment is a subtraction.

    Attributes:
        n: number of images.
        sum_z: sum of z, shape (D,).
        sum_zz: sum of z z^T, shape (D, D).
        n_pairs: number of interventional pairs (several per image where several kinds are used).
        sum_dd: sum of d d^T, shape (D, D).
    """

    n: int
    sum_z: Array
    sum_zz: Array
    n_pairs: int
    sum_dd: Array

    @classmethod
    def of(cls, z: NDArray[np.floating], z_do: Iterable[NDArray[np.floating]] = ()) -> "Moments":
        """Return the moments of images `z`, shape (n, D), and of their views, each of shape (n, D).

        Raises:
            ValueError: not two-dimensional, NaN or infinite, or views of another shape.
        """
        z = _finite(z, "Z")
        sum_dd = np.zeros((z.shape[1], z.shape[1]))
        n_pairs = 0
        for view in z_do:
            view = _finite(view, "Z_do")
            if view.shape != z.shape:
                raise ValueError(f"Z_do has shape {view.shape}, Z has {z.shape}: pairs need the same shape.")
            d = z - view
            sum_dd += d.T @ d
            n_pairs += len(d)
        return cls(len(z), z.sum(axis=0), z.T @ z, n_pairs, sum_dd)

    @property
    def dim(self) -> int:
        """Embedding width D."""
        return len(self.sum_z)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.n + other.n,
            self.sum_z + other.sum_z,
            self.sum_zz + other.sum_zz,
            self.n_pairs + other.n_pairs,
            self.sum_dd + other.sum_dd,
        )

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(
            self.n - other.n,
            self.sum_z - other.sum_z,
            self.sum_zz - other.sum_zz,
            self.n_pairs - other.n_pairs,
            self.sum_dd - other.sum_dd,
        )

    def c_z(self, centered: bool = False) -> Array:
        """Return C_z = (1/n) sum z z^T, shape (D, D); with `centered`, the covariance."""
        if self.n == 0:
            raise ValueError("C_z of no image is not defined.")
        c = self.sum_zz / self.n
        if centered:
            mean = self.sum_z / self.n
            c = c - np.outer(mean, mean)
        return c

    def c_d(self) -> Array:
        """Return C_d = (1/n_pairs) sum d d^T, shape (D, D)."""
        if self.n_pairs == 0:
            raise ValueError("C_d needs interventional pairs, and there are none.")
        return self.sum_dd / self.n_pairs


def _finite(x: NDArray[np.floating], name: str) -> Array:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"{name} must have shape (n, D), not {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} contains NaN or infinite values.")
    return np.asarray(x, dtype=np.float64)
