"""Small images beside the names of images: which of them the page has use for, and the finished ones it is handed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reports.analysis.predictions import MethodPredictions

_QUESTION = ["rule", "held_out", "image_id", "seed"]


@dataclass(frozen=True)
class Thumbnails:
    """Images in sprites: WebP files in each of which several stand below each other.

    Attributes:
        size: height and width of an image in pixels; the style of the page knows it too.
        rows: number of images in a sprite, the last of which may have fewer.
        places: id of an image -> its number, counted through all sprites.
        sprites: the files.
    """

    size: int
    rows: int
    places: Mapping[str, int]
    sprites: tuple[bytes, ...]


ThumbnailsOf = Callable[[Sequence[str]], Thumbnails]


def wanted(predictions: Iterable[Sequence[MethodPredictions]]) -> list[str]:
    """Return the ids of the images that the lists of the page show: those that a method or plain takes for another.

    First come those that stand first in any list, which is in the order of ids.

    Args:
        predictions: of each setting those of its methods.
    """
    found = [one for of_setting in predictions for one in _listed(of_setting)]
    if not found:
        return []
    first = pd.concat(found).groupby("image_id", sort=True)["position"].min()
    return [str(name) for name in first.sort_values(kind="stable").index]


def _listed(predictions: Sequence[MethodPredictions]) -> Iterable[pd.DataFrame]:
    """Yield for each method its images with a wrong answer, its own or that of plain, and their position in a list."""
    wrong = [(one.method, _wrong(one.table)) for one in predictions]
    plain = {method.predictor: of_method for method, of_method in wrong if method.is_plain}
    for method, of_method in wrong:
        if method.predictor not in plain:
            continue  # the lists are of what differs from plain
        both = of_method.merge(plain[method.predictor], on=_QUESTION, suffixes=("", "_plain"))
        both = both[both["wrong"] | both["wrong_plain"]].sort_values(_QUESTION)
        lists = both.groupby(["rule", "held_out", "wrong", "wrong_plain"], sort=False)
        yield both[["image_id"]].assign(position=lists.cumcount())


def _wrong(table: pd.DataFrame) -> pd.DataFrame:
    """Return whether each answer is wrong, by what was asked."""
    return table[_QUESTION].assign(wrong=table["class"] != table["predicted"]).drop_duplicates(_QUESTION)
