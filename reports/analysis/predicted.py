"""The predictions that rows keep: what tested images are taken for, at what rules of the sources pick."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.method.evaluation.selection import KEY

# What names the rows of base and of new classes to which one of both together refers.
OF_ROW = ("trial_id", *KEY, "test_split", "lambda_", "projection_params", "predictor_params", "class_half")
_KEPT = ("tested", "images", "predicted_ranks", "predicted", "margins", "n_test")
_HALVES = {"harmonic": ("base", "new")}


@dataclass(frozen=True)
class Kept:
    """The predictions of one row at one rank.

    Attributes:
        half: which classes the images are of.
        tested: hash of these images.
        images: hash of the list in which they have their positions.
        classes: number of the predicted class of each image, shape (m,).
        margins: best score minus the second, shape (m,); NaN where there is none.
    """

    half: str
    tested: str
    images: str | None
    classes: NDArray[np.uint16]
    margins: NDArray[np.float32]


class Predicted:
    """The predictions of rows.

    Args:
        rows: result rows; those of base and of new classes beside those of both together.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows

    @cached_property
    def _known(self) -> dict[tuple[object, ...], dict[str, Any]]:
        if "predicted" not in self._rows.columns:
            return {}
        kept = self._rows.loc[self._rows["predicted"].notna(), [*OF_ROW, *_KEPT]].to_dict("records")
        return {_name(row, row["class_half"]): {str(k): v for k, v in row.items()} for row in kept}

    def of(self, row: Mapping[str, Any], rank: int) -> Iterator[Kept]:
        """Yield what the images of a row are taken for at a rank, of base and of new classes one after the other.

        Args:
            row: columns of `OF_ROW`.
            rank: the rank; there is nothing where no rule of the sources picks it.
        """
        for half in _HALVES.get(row["class_half"], (row["class_half"],)):
            own = self._known.get(_name(row, half))
            if own is not None and rank in own["predicted_ranks"]:
                at, n = list(own["predicted_ranks"]).index(rank), int(own["n_test"])
                margins = np.full(n, np.nan, np.float32)
                if isinstance(own["margins"], bytes):
                    margins = np.frombuffer(own["margins"], "<f4", n, 4 * at * n)
                yield Kept(
                    half, own["tested"], own["images"], np.frombuffer(own["predicted"], "<u2", n, 2 * at * n), margins
                )


def _name(row: Mapping[Any, Any], half: str) -> tuple[object, ...]:
    """Return what tells a row from all others, None for an absent number, which is not equal to itself."""
    values = (row[name] for name in OF_ROW[:-1])
    return (*(None if value != value else value for value in values), half)
