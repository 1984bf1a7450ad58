"""Test images, which rows identify by a hash, so that methods can be compared image by image.

`benchmark/store/tested.py` stores the fields: a further field goes into `_COLUMNS` there.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.method.arrays import Ints, Mask


@dataclass(frozen=True, eq=False)
class Tested:
    """Images of one test in the order of predictions in rows: by environment.

    Two objects are equal if their hashes are equal. If base and new classes are together, images of base classes come
    first.
    """

    position: Ints  # position of each image in the manifest, shape (m,)
    environment: Ints  # environment index of each image, shape (m,)
    label: Ints  # class index of each image, shape (m,)
    names: tuple[str, ...]  # names of the environments, by index
    group: Ints | None = None  # group number of each image, shape (m,); None (default) if there are no groups

    def __len__(self) -> int:
        return len(self.position)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tested) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    @property
    def unit(self) -> Ints:
        """Sampling unit of each image, shape (m,): the number of its group, or of the image if there are no groups."""
        return self.position if self.group is None else self.group

    @cached_property
    def hash(self) -> str:
        """The first 32 hex digits of the SHA-256 of all fields."""
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
        """Return environment -> number of its test images, in the order of environment indices."""
        return {self.names[e]: int((self.environment == e).sum()) for e in np.unique(self.environment)}

    def halves(self, seed: int) -> Mask:
        """Return a mask of the first of two random halves, shape (m,). Groups stay whole."""
        units, position = np.unique(self.unit, return_inverse=True)
        first = np.zeros(len(units), dtype=bool)
        first[np.random.default_rng(seed).permutation(len(units))[: len(units) // 2]] = True
        return first[position]
