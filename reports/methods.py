"""What one line of a table is: a method, its label and its place."""

import re
from dataclasses import dataclass

import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.method.predictors import PREDICTORS

PLAIN = "identity"
ICM = "icm"

_PROJECTIONS = {
    PLAIN: "Plain",
    "pca": "PCA",
    "random": "Random projection",
    ICM: "CLIP-ICM",
    "generalized": "Generalised eigenproblem",
    "drop_top": "PCA without top directions",
    "environment_means": "Environment means removed",
    "leace": "LEACE",
    "discriminant": "Discriminant",
}
_PREDICTORS = {
    "zero_shot": "zero-shot", "linear_probe": "linear probe", "ridge": "ridge probe", "class_means": "class means",
    "few_shot": "few-shot probe", "interpolation": "zero-shot/probe interpolation", "tip_adapter": "Tip-Adapter",
    "clip_adapter": "CLIP-Adapter", "group_dro": "group-DRO probe",
}  # fmt: skip
_ORDERS = {"largest": "largest", "released": "released order"}
_PROJECTION_PLACES = {PLAIN: 0, "pca": 1, "random": 2, ICM: 4}  # 3: every other one, alphabetically
_PREDICTOR_PLACES = {"zero_shot": 0, "linear_probe": 1}  # 2: every other one, alphabetically
_ORDER_PLACES = {"released": 1, "largest": 2}


@dataclass(frozen=True)
class Method:
    """A projection, the order of its eigenvectors and a predictor; a selection rule chooses all the rest.

    A predictor with variants stands with its own in brackets: "few_shot (4 shots)".

    Names that this module has never heard of are shown as they are written in the rows.
    """

    projection: str
    order: str | None
    predictor: str

    @property
    def projection_label(self) -> str:
        """The projection alone, for a line under its predictor's heading: "CLIP-ICM (largest)"."""
        name = _PROJECTIONS.get(self.projection, self.projection)
        if self.order is None or (self.projection == "pca" and self.order == "largest"):
            return name  # "PCA" says its order already
        return f"{name} ({_ORDERS.get(self.order, self.order)})"

    @property
    def predictor_name(self) -> str:
        """The predictor as recipes name it, without its variant: "few_shot"."""
        return self.predictor.partition(" (")[0]

    @property
    def learns_classes(self) -> bool:
        """Whether the predictor never predicts a class that it had no training image of; False for an unknown one."""
        try:
            return PREDICTORS.component_class(self.predictor_name).learns_classes
        except IcmBenchError:
            return False

    @property
    def predictor_label(self) -> str:
        """The predictor alone: "zero-shot", "few-shot probe (4 shots)"."""
        return self.predictor.replace(self.predictor_name, predictor_name_words(self.predictor_name), 1)

    @property
    def label(self) -> str:
        """The whole method: "Zero-shot", "CLIP-ICM (largest) + zero-shot"."""
        if self.projection == PLAIN:
            known = self.predictor_name in _PREDICTORS
            return self.predictor_label[:1].upper() + self.predictor_label[1:] if known else self.predictor_label
        return f"{self.projection_label} + {self.predictor_label}"

    @property
    def place(self) -> tuple[int, str, int, str, int, str]:
        """Sort key: predictor block first, then plain, PCA, random, others, CLIP-ICM released, largest."""
        return (
            _PREDICTOR_PLACES.get(self.predictor, 2),
            re.sub(r"\d+", lambda digits: digits.group().zfill(9), self.predictor),  # 2 shots before 16
            _PROJECTION_PLACES.get(self.projection, 3),
            self.projection,
            _ORDER_PLACES.get(self.order or "", 0),
            self.order or "",
        )


def predictor_name_words(name: str) -> str:
    """Return a predictor's name in words, "ridge probe"; one that this module has never heard of as it is."""
    return _PREDICTORS.get(name, name)


def by_method(rows: pd.DataFrame) -> dict[Method, pd.DataFrame]:
    """Split the rows of `benchmark.store.rows.schema` by method, in the order of the tables."""
    columns = ["projection", "order", "predictor", "predictor_variant"]
    parts = {
        Method(str(projection), str(order) if isinstance(order, str) else None, _with(str(predictor), variant)): part
        for (projection, order, predictor, variant), part in rows.groupby(columns, dropna=False, sort=False)
    }
    return {method: parts[method] for method in sorted(parts, key=lambda m: m.place)}


def _with(predictor: str, variant: object) -> str:
    return f"{predictor} ({variant})" if isinstance(variant, str) else predictor
