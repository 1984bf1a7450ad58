"""What one line of a table is: a method, its label and its place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from benchmark.common.registry import Presentation
from benchmark.method.evaluation.selection import IMPORTED, KEY, picked_by_sources

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
_RENAMED = {"Shrinkage, nothing chosen": "Fixed shrinkage"}  # label in rows of before -> today's
_ORDERS = ("released", "largest")  # of eigenvectors, as they follow one another in tables
# The columns that tell methods apart, as the fields of `Method` follow one another.
_TELLING = (
    "projection", "order", "predictor", "projection_variant", "predictor_variant", "placebo", "placebo_draw",
    "pairs_share", "pairs_seed",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A projection, the order of its eigenvectors and a predictor; a selection rule chooses all the rest.

    Attributes:
        projection: as recipes name it.
        order: of the eigenvectors; None where there is none.
        predictor_name: the predictor as recipes name it: "few_shot".
        projection_variant: what tells lines of one projection apart, beside its order: on what shrinkage is put, which
            nuisances it chooses among. Default: nothing.
        predictor_variant: the same of a predictor: "4 shots". Default: nothing.
        placebo: what replaces C_d: "rotated", "matched", "shuffled", "borrowed"; None (default) where nothing does.
        draw: its number among several draws of a placebo; None (default) elsewhere.
        pairs_share: share of the images whose views enter C_d; None (default) where all do.
        pairs_seed: of their choice; None (default) where all do.
        draws: of what stands for several draws their number, default 0.
        of_projection: what the projection says of itself. Nothing by default, and equal methods may differ in it.
        of_predictor: the same of the predictor.
    """

    projection: str
    order: str | None
    predictor_name: str
    projection_variant: str | None = None
    predictor_variant: str | None = None
    placebo: str | None = None
    draw: float | None = None
    pairs_share: float | None = None
    pairs_seed: float | None = None
    draws: int = 0
    of_projection: Presentation = field(default=Presentation(), compare=False, repr=False)
    of_predictor: Presentation = field(default=Presentation(), compare=False, repr=False)

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> "Method":
        """Return the method of a row of `benchmark.store.rows.schema`."""
        told: list[Any] = [None if row[name] is None or row[name] != row[name] else row[name] for name in _TELLING]
        told += [0, *(Presentation.of_row(row, kind) for kind in ("projection", "predictor"))]
        return cls(*told)

    @property
    def predictor(self) -> str:
        """The predictor with its variant: "zero_shot", "few_shot (4 shots)"."""
        return _with(self.predictor_name, self.predictor_variant)

    @property
    def variant(self) -> str:
        """In words what tells lines of one projection apart, beside its order: placebo, share of pairs, own variant."""
        draw = f" {self.draw:g}" if self.draw is not None else f", mean of {self.draws} draws" if self.draws else ""
        placebo = f"{self.placebo}{draw}" if self.placebo else ""
        seed = f", seed {self.pairs_seed:g}" if self.pairs_seed else ""
        pairs = f"{100 * self.pairs_share:g} % of the pairs{seed}" if self.pairs_share is not None else ""
        return ", ".join(filter(None, [placebo, pairs, self.projection_variant]))

    @property
    def with_all_pairs(self) -> "Method":
        """The method whose C_d is of all pairs: itself where it is."""
        return replace(self, pairs_share=None, pairs_seed=None)

    @property
    def real(self) -> "Method":
        """The method with the real C_d: itself where nothing replaces it."""
        return replace(self, placebo=None, draw=None, draws=0)

    @property
    def plain(self) -> "Method":
        """Prediction in the plain space with the same predictor."""
        bare = Method(PLAIN, None, self.predictor_name, None, self.predictor_variant)
        return replace(bare, of_projection=Presentation(role="plain"), of_predictor=self.of_predictor)

    @property
    def projection_label(self) -> str:
        """The projection alone, for a line under its predictor's heading: "CLIP-ICM (largest)"."""
        truncates = self.projection == ICM and self.projection_variant  # the paper's knows C_d alone
        label = _RENAMED.get(self.of_projection.label, self.of_projection.label)
        name = "Truncation" if truncates else label or self.projection
        order = "released order" if self.order == "released" else self.order
        order = None if truncates and order == "largest" else order  # the name says this order already
        alone = f"{self.variant} alone" if self.variant in (*ALONE, "both") else self.variant
        brackets = ", ".join(filter(None, [alone, order]))
        return (f"{name} ({brackets})" if brackets else name) + _mark(self.of_projection)

    @property
    def looks_at_target_images(self) -> bool:
        """Whether projection or predictor look at tested images or views of them, without labels."""
        return bool(_mark(self.of_projection) + _mark(self.of_predictor))

    @property
    def is_plain(self) -> bool:
        """Whether it predicts in the plain space, and nothing stands in the place of a predictor's C_d."""
        return self.of_projection.role == "plain" and not self.variant

    @property
    def is_paper(self) -> bool:
        """Whether it is CLIP-ICM as the paper has it: largest first, C_d alone."""
        return (self.projection, self.order, self.variant) == (ICM, "largest", "")

    @property
    def is_shrinkage(self) -> bool:
        """Whether it is shrinkage with all that it chooses among."""
        return (self.projection, self.variant) == (SHRINKAGE, "")

    @property
    def is_control(self) -> bool:
        """Whether it is a part of shrinkage, shrinks something else, or is a rival of it; none of these has ranks."""
        is_part, about = self.projection in (SHRINKAGE, PLAIN) and bool(self.variant), self.of_projection
        return is_part or (about.role in ("control", "rival") and "full_rank_only" in about.traits)

    @property
    def is_rival(self) -> bool:
        """Whether it is a method of others that looks neither at a label nor at the tested images."""
        of_others = self.of_projection.role == "rival" and not self.variant
        return of_others and not (self.looks_at_target_images or "uses_labels" in self.of_projection.traits)

    @property
    def imported(self) -> bool:
        """Whether it was trained elsewhere: its name stands in the predictor's place."""
        return self.projection == IMPORTED

    @property
    def brought(self) -> bool:
        """Whether the user brought it: imported, or a class of the user's own."""
        return self.imported or ":" in self.projection

    @property
    def learns_nothing(self) -> bool:
        """Whether the predictor has no training images, as zero-shot."""
        return "uses_training_images" not in self.of_predictor.traits

    @property
    def predictor_uses_c_d(self) -> bool:
        """Whether a placebo of C_d reaches every row of the predictor, whatever N is."""
        return "uses_c_d" in self.of_predictor.traits

    @property
    def learns_classes(self) -> bool:
        """Whether the predictor never predicts a class that it had no training image of."""
        return "learns_classes" in self.of_predictor.traits

    @property
    def predictor_label(self) -> str:
        """The predictor alone: "zero-shot", "few-shot probe (4 shots)"."""
        label = self.of_predictor.label or self.predictor_name
        return _with(label, self.predictor_variant) + _mark(self.of_predictor)

    @property
    def label(self) -> str:
        """The whole method: "Zero-shot", "CLIP-ICM (largest) + zero-shot"."""
        if self.imported:
            return f"{self.predictor} (imported)"
        if self.of_projection.role == "plain":
            words, has_label = self.predictor_label, self.of_predictor.label not in ("", self.predictor_name)
            words = words[:1].upper() + words[1:] if has_label else words
            return f"{words} ({self.variant})" if self.variant else words
        return f"{self.projection_label} + {self.predictor_label}"

    @property
    def place(self) -> tuple[bool, int, str, int, str, str, int, str]:
        """Sort key: block of the predictor (imported last), then the projection's place, name, variant and order."""
        block = (self.imported, self.of_predictor.place, _natural(self.predictor))
        order = 1 + _ORDERS.index(self.order) if self.order in _ORDERS else 0
        return (*block, self.of_projection.place, self.projection, _natural(self.variant), order, self.order or "")

    def is_plain_at(self, rank: int, lambda_: float, dim: int) -> bool:
        """Say whether it predicts as plain prediction does where a rule picks a rank and a lambda.

        That is where it is the plain space itself, and where its projection says that it leaves the space as it is: at
        the full rank, or at lambda 0. Where something else stands in the place of a predictor's C_d, it is not.
        """
        traits = self.of_projection.traits
        at_rank, at_lambda = "plain_at_full_rank" in traits, "plain_at_lambda_0" in traits
        other_c_d = self.predictor_uses_c_d and (self.placebo or self.pairs_share is not None)
        return self.is_plain or (not other_c_d and ((at_rank and rank == dim) or (at_lambda and lambda_ == 0)))


def _mark(presentation: Presentation) -> str:
    """Return what stands behind the name of what looks at the tested images; nothing for any other."""
    return f" {SEES_TARGET}" if "looks_at_target_images" in presentation.traits else ""


def _with(name: str, variant: str | None) -> str:
    return f"{name} ({variant})" if variant else name


def _natural(words: str) -> str:
    """Return words so that "2 shots" comes before "16 shots"."""
    return re.sub(r"\d+", lambda digits: digits.group().zfill(9), words)


def as_rows_of(method: Method, rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of a part of a method, or with a share of its pairs, as its own."""
    return rows.assign(projection_variant=method.projection_variant, pairs_share=np.nan, pairs_seed=np.nan)


def by_method(rows: pd.DataFrame) -> dict[Method, pd.DataFrame]:
    """Split the rows of `benchmark.store.rows.schema` by method, in the order of the tables."""
    apart = rows.groupby(list(_TELLING), dropna=False, sort=False)
    parts = {Method.of_row(part.iloc[0].to_dict()): part for _, part in apart}
    candidates: dict[tuple[object, ...], pd.DataFrame] = {}
    parts |= {
        m: _beside_real(m, part, parts[m.real], candidates)
        for m, part in parts.items()
        if m.placebo and m.real in parts and not m.predictor_uses_c_d
    }
    for method in [m for m in parts if m.is_shrinkage]:  # rows of one nuisance: no other fit is needed for them
        of_each = {name: parts[method][parts[method]["nuisance"] == name] for name in ALONE}
        parts |= {replace(method, projection_variant=name): part for name, part in of_each.items() if len(part)}
    return {method: parts[method] for method in sorted(parts, key=lambda m: m.place)}


def _beside_real(
    method: Method, rows: pd.DataFrame, real: pd.DataFrame, known: dict[tuple[object, ...], pd.DataFrame]
) -> pd.DataFrame:
    """Return the rows of a placebo with those of the real method among which its rules choose too.

    Where N is environments alone, C_d is its scale and no more: a placebo's rule chooses among these rows as the real
    one's does, and they are not made again. They stand where they would if they had been made with it, since of equals
    a rule takes the first. Of a single draw of several, only rows that rules of the sources pick are there. `known`
    keeps the rows of real methods, which are looked for once for all draws.
    """
    names, sets = real["nuisance"], rows["interventions"]
    key = (method.real, method.draw is not None, *sorted(map(str, sets.unique())))
    if key not in known:
        found = real[(names == ENVIRONMENTS) & real["interventions"].isin(sets.unique())]
        if method.draw is not None:
            records = [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]
            found = found.iloc[picked_by_sources(records)]
        known[key] = found
    tested = pd.MultiIndex.from_frame(rows[list(KEY)])
    candidates = known[key]
    candidates = candidates[pd.MultiIndex.from_frame(candidates[list(KEY)]).isin(tested)]  # or gaps would be filled
    if candidates.empty:
        return rows
    both = pd.concat([rows, candidates])
    places = {
        "set": _in_order_of(pd.concat([sets, candidates["interventions"]]), real["interventions"]),
        "normalize": _in_order_of(both["normalize"], real["normalize"]),
        "lambda": both["lambda_"],
        "nuisance": _in_order_of(both["nuisance"], names),
    }
    order = pd.DataFrame({name: values.to_numpy() for name, values in places.items()})
    return both.iloc[order.sort_values(list(places), kind="stable").index.to_numpy()]


def _in_order_of(values: "pd.Series[str]", first: "pd.Series[str]") -> "pd.Series[float]":
    """Return for each value its place among those of `first`, by where they come first; NaN for any other."""
    return values.map({value: place for place, value in enumerate(first.unique())})
