"""Test images, identified in rows by a hash, so that answers can be compared image by image."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.method.arrays import Ints, Mask


@dataclass(frozen=True, eq=False)
class Tested:
    """Images of one test, in the order of answers in rows: by environment.

    Equal if their hashes are. For base and new classes together, images of base classes come first.
    """

    position: Ints  # position of each image in the manifest, shape (m,)
    environment: Ints  # index of its environment, shape (m,)
    label: Ints  # its class, shape (m,)
    names: tuple[str, ...]  # names of the environments, by index
    group: Ints | None = None  # number of its group, shape (m,); None if images come in no groups

    def __len__(self) -> int:
        return len(self.position)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tested) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    @property
    def unit(self) -> Ints:
        """Sampling unit of each image, shape (m,): its group, or the image itself."""
        return self.position if self.group is None else self.group

    @cached_property
    def hash(self) -> str:
        """SHA-256 (first 32 hex digits) of all fields."""
        digest = hashlib.sha256(repr(self.names).encode())
        for array in (self.position, self.environment, self.label, self.group):
            digest.update(b"none" if array is None else np.ascontiguousarray(array, dtype=np.int64).tobytes())
        return digest.hexdigest()[:32]

    def __add__(self, other: "Tested") -> "Tested":
        group = None if self.group is None or other.group is None else np.concatenate([self.group, other.group])
        return Tested(
            np.concatenate([self.position, other.position]),
            np.concatenate([self.environment, other.environment]),
            np.concatenate([self.label, other.label]),
            self.names,
            group,
        )

    def images(self) -> dict[str, int]:
        """Return environment -> number of its test images, by index."""
        return {self.names[e]: int((self.environment == e).sum()) for e in np.unique(self.environment)}

    def halves(self, seed: int) -> Mask:
        """Return a mask of the first of two random halves, with groups kept whole, shape (m,)."""
        units, position = np.unique(self.unit, return_inverse=True)
        first = np.zeros(len(units), dtype=bool)
        first[np.random.default_rng(seed).permutation(len(units))[: len(units) // 2]] = True
        return first[position]
