"""Small images beside the names of images: which of them the page has use for, and the finished ones it is handed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.store.details import Details, Part

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


def wanted(details: Iterable[Sequence[tuple[Part, Details]]]) -> list[str]:
    """Return the ids of the images that the lists of the page show: those that a method or plain takes for another.

    First come those that stand first in any list, which is in the order of ids.

    Args:
        details: of each setting the parts that have details.
    """
    found = [one for of_setting in details for one in _listed(of_setting)]
    if not found:
        return []
    first = pd.concat(found).groupby("image_id", sort=True)["position"].min()
    return [str(name) for name in first.sort_values(kind="stable").index]


def _listed(details: Sequence[tuple[Part, Details]]) -> Iterable[pd.DataFrame]:
    """Yield for each method its images with a wrong answer, its own or that of plain, and their position in a list."""
    wrong = [(part, _wrong(one)) for part, one in details]
    plain = {part.predictor: of_part for part, of_part in wrong if not part.projects}
    for part, of_part in wrong:
        if part.predictor not in plain:
            continue  # the lists are of what differs from plain
        both = of_part.merge(plain[part.predictor], on=_QUESTION, suffixes=("", "_plain"))
        both = both[both["wrong"] | both["wrong_plain"]].sort_values(_QUESTION)
        lists = both.groupby(["rule", "held_out", "wrong", "wrong_plain"], sort=False)
        yield both[["image_id"]].assign(position=lists.cumcount())


def _wrong(details: Any) -> pd.DataFrame:
    """Return whether each answer is wrong, by what was asked."""
    frame = details.predictions.select([*_QUESTION, "class", "predicted"]).to_pandas()
    words = frame.astype(dict.fromkeys(("rule", "held_out", "image_id", "class"), str))
    number = words["class"].map({name: k for k, name in enumerate(details.classes)})
    return words[_QUESTION].assign(wrong=number != words["predicted"]).drop_duplicates(_QUESTION)
