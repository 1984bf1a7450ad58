"""Answers that name images by path or by id, brought to the images of a test."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.commands.interchange.prediction_files import Predictions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TestImages:
    """The images that the lines of one test may name.

    Attributes:
        tested: the m tested images, columns path and image_id.
        every: all images that the protocol sees, the same columns.
        unreadable: paths and ids of the images that cannot be read, which take no part.
    """

    tested: pa.Table
    every: pa.Table
    unreadable: frozenset[str]


def answers_of(
    predictions: Predictions, lines: "pd.DataFrame", classes: NDArray[np.int64], images: TestImages
) -> NDArray[np.int64]:
    """Return the predicted class of each image of a test, shape (m,).

    A path names one image. An id names all images with these bytes, in one environment and class: it stands once, or as
    often as there are such images.

    Args:
        predictions: the file, for refusals.
        lines: lines of one test, method and setting.
        classes: index of the class that each line predicts, shape (len(lines),).
        images: what the lines may name.

    Raises:
        IcmBenchError: a line names an image that is not tested, or none at all, or an image stands twice or is missing;
            names file and row.
    """
    named = _name_tested_images(predictions, lines, images)
    paths, ids = (images.tested[name].to_pylist() for name in ("path", "image_id"))
    answers = _brought_to_images(predictions, lines[named], classes[named], paths, ids)
    if (missing := np.flatnonzero(answers < 0)).size:
        raise predictions.refused(
            lines.index[0],
            f"{len(missing)} of the {len(answers)} tested images of {_test(lines)} have no prediction, "
            f"{paths[missing[0]]} the first; add them, `icm-bench splits` lists them as test.",
        )
    return answers


def _name_tested_images(predictions: Predictions, lines: "pd.DataFrame", images: TestImages) -> NDArray[np.bool_]:
    """Return which lines name a tested image; the others name one that cannot be read."""
    named = lines["image"].isin(_names(images.tested)).to_numpy()
    gone = lines["image"].isin(images.unreadable).to_numpy()
    if len(other := lines.index[~named & ~gone]):
        image = lines["image"][other[0]]
        if image in _names(images.every):
            problem = f"the image '{image}' is not tested in {_test(lines)}; leave it out, see `icm-bench splits`."
        else:
            problem = f"'{image:.200}' is no image of this data set; give the path below its folder, or the id."
        raise predictions.refused(other[0], problem)
    return np.asarray(named)


def _names(images: pa.Table) -> set[str]:
    return {*images["path"].to_pylist(), *images["image_id"].to_pylist()}


def _brought_to_images(
    predictions: Predictions, lines: "pd.DataFrame", classes: NDArray[np.int64], paths: list[str], ids: list[str]
) -> NDArray[np.int64]:
    """Return the predicted class of each image, -1 where there is none; every line names one of them."""
    import pandas as pd

    code, distinct = pd.factorize(np.array(ids, dtype=object))
    by_path, by_id = (pd.Index(names).get_indexer(pd.Index(lines["image"])) for names in (paths, distinct))
    named_by_id = by_path < 0
    of_line = np.where(named_by_id, by_id, code[by_path])
    before = pd.Series(of_line).groupby(of_line).cumcount().to_numpy()
    twice = (before >= np.bincount(code)[of_line]) | (~named_by_id & pd.Series(by_path).duplicated().to_numpy())
    if twice.any():
        row = lines.index[twice][0]
        raise predictions.refused(row, f"the image '{lines['image'][row]}' stands twice; keep one of the two.")
    of_code = np.full(len(distinct), -1)
    of_code[of_line[named_by_id]] = classes[named_by_id]
    if len(other := lines.index[named_by_id & (of_code[of_line] != classes)]):
        image = lines["image"][other[0]]
        raise predictions.refused(
            other[0], f"the image '{image}' stands with two predictions; keep one, or name the images by their paths."
        )
    answers = of_code[code]
    answers[by_path[~named_by_id]] = classes[~named_by_id]
    return np.asarray(answers)


def _test(lines: "pd.DataFrame") -> str:
    """Return which test, method and setting the lines are of, in words."""
    names = ("method", "setting", "protocol", "held_out", "test_split", "seed", "fold")
    said = ((name, lines[name].iloc[0]) for name in names)
    return ", ".join(f"{name} {value}" for name, value in said if value not in ("", -1))
