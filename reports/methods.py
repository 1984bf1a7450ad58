"""What one line of a table is: a method, its label and its place."""

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pandas as pd

from benchmark.common.errors import IcmBenchError, PluginError
from benchmark.method.evaluation.selection import IMPORTED, KEY, picked_by_sources
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.store.rows import PLACEBO

PLAIN = "identity"
ICM = "icm"
SHRINKAGE = "shrinkage"
EQUAL_N = "equal N"  # truncation that chooses among the nuisances that shrinkage chooses among
SEES_TARGET = "‡"  # behind the name of a method that looks at the tested images
# Of rows of shrinkage that choose among nuisances: those of one nuisance are a method of their own beside it.
ALONE = ("interventions", "environments")
# What shrinkage chose, with interventions alone in the place of the chosen N: nothing is chosen for it.
REPLACED = "interventions alone, all else as chosen"
ENVIRONMENTS = "environments"  # the nuisance to which C_d is a scale: a placebo's rule chooses among its rows too
_PLACEBO = re.compile(r"(rotated|matched|shuffled|borrowed)(?: (\d+)|, mean of \d+ draws)?(?:, |$)")
_PAIRS = re.compile(r"[\d.e-]+ % of the pairs(?:, seed \d+)?(?:, |$)")  # see `InterventionSet.pairs_in_words`

_PROJECTIONS = {
    PLAIN: "Plain",
    "pca": "PCA",
    "random": "Random projection",
    ICM: "CLIP-ICM",
    SHRINKAGE: "Shrinkage",
    "fixed": "Shrinkage, nothing chosen",
    "isotropic": "Shrinkage, isotropic",
    "isotropic_environments": "Shrinkage, isotropic + environments",
    "within_classes": "Shrinkage, within classes",
    "within_prompts": "Shrinkage, within prompts of classes",
    "calibrated": "Calibrated projection",
    "denoiser": "Least-squares denoiser",
    "nap": "Nuisance attribute projection",
    "centring": "Centring",
    "channels": "Channels by classes over environments",
    "biased_prompts": "Debiasing by prompts",
    "roboshot": "RoboShot",
    "own_mean": "Centring by the environment's own mean",
    "coral": "CORAL",
    "generalized": "Generalised eigenproblem",
    "drop_top": "PCA without top directions",
    "environment_means": "Environment means removed",
    "leace": "LEACE",
    "discriminant": "Discriminant",
    IMPORTED: "Imported",
}
_PREDICTORS = {
    "zero_shot": "zero-shot", "linear_probe": "linear probe", "ridge": "ridge probe", "class_means": "class means",
    "few_shot": "few-shot probe", "interpolation": "zero-shot/probe interpolation", "tip_adapter": "Tip-Adapter",
    "clip_adapter": "CLIP-Adapter", "coop": "CoOp", "group_dro": "group-DRO probe",
    "probe_with_views": "probe on images and views", "soft_penalty": "soft-penalty probe",
    "mean_of_views": "zero-shot on the mean of views", "zero_temperature": "zero-temperature vote of views (ZERO)",
}  # fmt: skip
_VARIANTS = {"interventions": "interventions alone", "environments": "environments alone", "both": "both alone"}
_ORDERS = {"largest": "largest", "released": "released order"}
# What could explain a gain of shrinkage away, beside its own rows of one nuisance. None of them has ranks.
_CONTROLS = ("fixed", "isotropic", "isotropic_environments", "within_classes", "within_prompts")
# Rivals that get the information that shrinkage gets, and have no ranks: `channels` has, and stands with the others.
_RIVALS = ("calibrated", "denoiser", "nap", "centring", "biased_prompts", "roboshot", "own_mean", "coral")
_PROJECTION_PLACES = (
    {PLAIN: 0, "pca": 1, "random": 2, ICM: 4, SHRINKAGE: 5} | dict.fromkeys(_CONTROLS, 6) | dict.fromkeys(_RIVALS, 7)
)
# 3: every other one, alphabetically
_PREDICTOR_PLACES = {"zero_shot": 0, "linear_probe": 1}  # 2: every other one, alphabetically
_ORDER_PLACES = {"released": 1, "largest": 2}


@dataclass(frozen=True)
class Method:
    """A projection, the order of its eigenvectors and a predictor; a selection rule chooses all the rest.

    A predictor with variants stands with its own in brackets: "few_shot (4 shots)". `variant` is what tells lines of
    one projection apart, beside its order: on what shrinkage is put, which nuisances it chooses among.

    Names that this module has never heard of are shown as they are written in the rows.
    """

    projection: str
    order: str | None
    predictor: str
    variant: str = ""

    @property
    def placebo(self) -> str | None:
        """What replaces C_d: "rotated", "matched", "shuffled", "borrowed"; None where nothing does."""
        found = _PLACEBO.match(self.variant)
        return found[1] if found else None

    @property
    def with_all_pairs(self) -> "Method":
        """The method whose C_d is of all pairs: itself where it is."""
        return replace(self, variant=_PAIRS.sub("", self.variant, count=1))

    @property
    def is_draw(self) -> bool:
        """Whether it is one of several draws of a placebo."""
        found = _PLACEBO.match(self.variant)
        return bool(found and found[2])

    @property
    def real(self) -> "Method":
        """The method with the real C_d: itself where nothing replaces it."""
        return replace(self, variant=_PLACEBO.sub("", self.variant, count=1) if self.placebo else self.variant)

    def mean_of(self, draws: int) -> "Method":
        """Return what stands for several draws of a placebo, of which this is one."""
        words = f"{self.placebo}, mean of {draws} draws"
        return replace(self, variant=", ".join(filter(None, [words, self.real.variant])))

    @property
    def projection_label(self) -> str:
        """The projection alone, for a line under its predictor's heading: "CLIP-ICM (largest)"."""
        truncates = self.projection == ICM and self.real.with_all_pairs.variant  # the paper's knows C_d alone
        name = "Truncation" if truncates else _PROJECTIONS.get(self.projection, self.projection)
        said = "largest" if truncates or self.projection == "pca" else None  # the name says this order already
        order = "" if self.order in (None, said) else _ORDERS.get(str(self.order), str(self.order))
        brackets = ", ".join(filter(None, [_VARIANTS.get(self.variant, self.variant), order]))
        return (f"{name} ({brackets})" if brackets else name) + _mark(PROJECTIONS, self.projection)

    @property
    def looks_at_target_images(self) -> bool:
        """Whether projection or predictor look at tested images or views of them, without labels."""
        return bool(_mark(PROJECTIONS, self.projection) + _mark(PREDICTORS, self.predictor_name))

    @property
    def is_plain(self) -> bool:
        """Whether it predicts in the plain space, and nothing stands in the place of a predictor's C_d."""
        return self.projection == PLAIN and not self.variant

    @property
    def is_control(self) -> bool:
        """Whether it is a part of shrinkage, shrinks something else, or is a rival of it; none of these has ranks."""
        of_one = self.projection in (SHRINKAGE, PLAIN) and bool(self.variant)
        return self.projection in (*_CONTROLS, *_RIVALS) or of_one

    @property
    def is_rival(self) -> bool:
        """Whether it is a method of others that looks neither at a label nor at the tested images."""
        known = _class(PROJECTIONS, self.projection)
        of_us = self.projection in (PLAIN, "pca", "random", ICM, SHRINKAGE, *_CONTROLS)
        if known is None or of_us or self.variant or self.looks_at_target_images:
            return False
        return not known.uses_labels

    @property
    def imported(self) -> bool:
        """Whether it was trained elsewhere: its name stands in the predictor's place."""
        return self.projection == IMPORTED

    @property
    def predictor_name(self) -> str:
        """The predictor as recipes name it, without its variant: "few_shot"."""
        return self.predictor.partition(" (")[0]

    @property
    def learns_nothing(self) -> bool:
        """Whether the predictor has no training images, as zero-shot; False for an unknown one."""
        known = _class(PREDICTORS, self.predictor_name)
        return known is not None and not known.uses_training_images

    @property
    def predictor_uses_c_d(self) -> bool:
        """Whether a placebo of C_d reaches every row of the predictor, whatever N is; False for an unknown one."""
        known = _class(PREDICTORS, self.predictor_name)
        return known is not None and known.uses_c_d

    @property
    def learns_classes(self) -> bool:
        """Whether the predictor never predicts a class that it had no training image of; False for an unknown one."""
        known = None if self.imported else _class(PREDICTORS, self.predictor_name)
        return known is not None and known.learns_classes

    @property
    def predictor_label(self) -> str:
        """The predictor alone: "zero-shot", "few-shot probe (4 shots)"."""
        words = self.predictor.replace(self.predictor_name, predictor_name_words(self.predictor_name), 1)
        return words + _mark(PREDICTORS, self.predictor_name)

    @property
    def label(self) -> str:
        """The whole method: "Zero-shot", "CLIP-ICM (largest) + zero-shot"."""
        if self.imported:
            return f"{self.predictor} (imported)"
        if self.projection == PLAIN:
            known, words = self.predictor_name in _PREDICTORS, self.predictor_label
            words = words[:1].upper() + words[1:] if known else words
            return f"{words} ({self.variant})" if self.variant else words
        return f"{self.projection_label} + {self.predictor_label}"

    @property
    def place(self) -> tuple[int, str, int, str, str, int, str]:
        """Sort key: predictor block (imported last), then plain, PCA, random, others, CLIP-ICM, shrinkage."""
        return (
            3 if self.imported else _PREDICTOR_PLACES.get(self.predictor, 2),
            re.sub(r"\d+", lambda digits: digits.group().zfill(9), self.predictor),  # 2 shots before 16
            _PROJECTION_PLACES.get(self.projection, 3),
            self.projection,
            re.sub(r"\d+", lambda digits: digits.group().zfill(9), self.variant),
            _ORDER_PLACES.get(self.order or "", 0),
            self.order or "",
        )


def _class(registry: Any, name: str) -> Any:
    """Return the class of a projection or predictor; None for an unknown one."""
    try:
        return registry.component_class(name)
    except PluginError:
        raise
    except IcmBenchError:
        return None


def _mark(registry: Any, name: str) -> str:
    """Return what stands behind the name of what looks at the tested images; nothing for any other."""
    known = _class(registry, name)
    return f" {SEES_TARGET}" if known is not None and known.looks_at_target_images else ""


def predictor_name_words(name: str) -> str:
    """Return a predictor's name in words, "ridge probe"; one that this module has never heard of as it is."""
    return _PREDICTORS.get(name, name)


def by_method(rows: pd.DataFrame) -> dict[Method, pd.DataFrame]:
    """Split the rows of `benchmark.store.rows.schema` by method, in the order of the tables."""
    columns = ["projection", "order", "predictor", "predictor_variant", "projection_variant"]
    parts: dict[Method, pd.DataFrame] = {}
    for (projection, order, predictor, predictors, projections), part in rows.groupby(
        columns, dropna=False, sort=False
    ):
        method = Method(
            str(projection),
            order if isinstance(order, str) else None,
            _with(str(predictor), predictors),
            projections if isinstance(projections, str) else "",
        )
        parts[method] = part
    candidates = _Candidates()
    parts |= {
        m: candidates.beside(m, part, parts[m.real])
        for m, part in parts.items()
        if m.placebo and m.real in parts and not m.predictor_uses_c_d
    }
    for method in [m for m in parts if m.projection == SHRINKAGE and not m.variant]:
        parts |= _of_one_nuisance(method, parts[method])
    return {method: parts[method] for method in sorted(parts, key=lambda m: m.place)}


class _Candidates:
    """Rows of real methods among which the rules of their placebos choose too, looked for once for all draws.

    Where N is environments alone, C_d is its scale and no more: a placebo's rule chooses among these rows as the real
    one's does, and they are not made again. They stand where they would if they had been made with it, since of equals
    a rule takes the first.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], pd.DataFrame] = {}

    def beside(self, method: Method, rows: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a placebo with these of the real one.

        Args:
            method: the placebo; of a single draw of several, rows are there that rules of the sources pick alone.
            rows: its own rows.
            real: rows of `method.real`.
        """
        names, sets = _nuisances(real), rows["interventions"].map(_without_placebo)
        key = (method.real, method.is_draw, *sorted(map(str, sets.unique())))
        if key not in self._found:
            found = real[(names == ENVIRONMENTS) & real["interventions"].isin(sets.unique())]
            if method.is_draw:
                records = [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]
                found = found.iloc[picked_by_sources(records)]
            self._found[key] = found
        tested = pd.MultiIndex.from_frame(rows[list(KEY)])
        candidates = self._found[key]
        candidates = candidates[pd.MultiIndex.from_frame(candidates[list(KEY)]).isin(tested)]  # or gaps would be filled
        if candidates.empty:
            return rows
        both = pd.concat([rows, candidates])
        of_set = pd.concat([sets, candidates["interventions"]])
        places = {
            "set": _in_order_of(of_set, real["interventions"]),
            "normalize": _in_order_of(both["normalize"], real["normalize"]),
            "lambda": both["lambda_"],
            "nuisance": _in_order_of(_nuisances(both), names),
        }
        order = pd.DataFrame({name: values.to_numpy() for name, values in places.items()})
        return both.iloc[order.sort_values(list(places), kind="stable").index.to_numpy()]


def _in_order_of(values: "pd.Series[str]", first: "pd.Series[str]") -> "pd.Series[float]":
    """Return for each value its place among those of `first`, by where they come first; NaN for any other."""
    return values.map({value: place for place, value in enumerate(first.unique())})


@lru_cache(maxsize=256)
def _without_placebo(interventions: str | None) -> str | None:
    """Return the `interventions` of a placebo's real set."""
    if not isinstance(interventions, str):
        return None
    return json.dumps({key: value for key, value in json.loads(interventions).items() if key != PLACEBO})


def of_placebos(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Say for each row whether something replaces its C_d."""
    return rows["projection_variant"].map(lambda variant: isinstance(variant, str) and bool(_PLACEBO.match(variant)))


def _nuisances(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return the nuisance of each row; None where a projection has none."""
    known = {params: json.loads(params).get("nuisance") for params in rows["projection_params"].unique()}
    return rows["projection_params"].map(known)


def _of_one_nuisance(method: Method, rows: pd.DataFrame) -> dict[Method, pd.DataFrame]:
    """Return the rows of shrinkage that know interventions, or environments, alone: no other fit is needed for them."""
    names = _nuisances(rows)
    return {replace(method, variant=name): rows[names == name] for name in ALONE if (names == name).any()}


def _with(predictor: str, variant: object) -> str:
    return f"{predictor} ({variant})" if isinstance(variant, str) else predictor
