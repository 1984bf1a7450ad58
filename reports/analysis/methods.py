"""`Method` identifies a line of the tables. It has a label, traits, and a position in the order of the lines."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from benchmark.common.registry import Presentation, presented
from benchmark.method.evaluation.selection import IMPORTED, KEY, picked_by_sources
from benchmark.method.subspace import PROJECTIONS

PLAIN = "identity"
ICM = "icm"
SHRINKAGE = "shrinkage"
EQUAL_N = "equal N"  # variant of truncation with the same candidate nuisance matrices N as shrinkage
SEES_TARGET = "‡"  # suffix of methods that look at test images
# Nuisances of shrinkage; the rows of each also form a method of their own.
ALONE = ("interventions", "environments")
# Variant of shrinkage: the configuration that the rule selects, except that its nuisance N is interventions alone.
REPLACED = "interventions alone, all else as chosen"
ENVIRONMENTS = "environments"  # C_d only scales this nuisance, so rows with it are candidates of placebos too
_ORDERS = ("released", "largest")  # orders of eigenvectors, in table order
# Columns of rows that identify a method, in the order of the fields of `Method`; a new column needs a field there.
_KEY_COLUMNS = (
    "projection", "order", "predictor", "projection_variant", "predictor_variant", "placebo", "placebo_draw",
    "pairs_share", "pairs_seed",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A projection, the order of its eigenvectors and a predictor; a selection rule picks everything else.

    Attributes:
        projection: name in recipes.
        order: order of the eigenvectors; None without eigenvectors.
        predictor_name: name of the predictor in recipes: "few_shot".
        projection_variant: variant of the projection that has its own line, such as shrinkage of texts only or with
            other candidate nuisances. Default: none.
        predictor_variant: variant of the predictor: "4 shots". Default: none.
        placebo: replacement of C_d: "rotated", "matched", "shuffled", "borrowed"; None (default) for the real C_d.
        draw: number of the random draw of a placebo; None (default) without draws.
        pairs_share: share of the images whose views enter C_d; None (default) for all.
        pairs_seed: seed that selects these images; None (default) for all.
        draws: number of draws that an averaged placebo combines; 0 by default.
        of_projection: role, label and traits of the projection; empty by default, ignored by `==`.
        of_predictor: role, label and traits of the predictor; empty by default, ignored by `==`.
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
        """Return the method of a row of `benchmark.store.rows.schema`.

        A registered projection has the label of its class, also if the row was written when the class had another one.
        """
        key: list[Any] = [None if row[name] is None or row[name] != row[name] else row[name] for name in _KEY_COLUMNS]
        key += [0, *(Presentation.of_row(row, kind) for kind in ("projection", "predictor"))]
        method = cls(*key)
        if method.projection not in PROJECTIONS.names():
            return method
        label = cls.of_projection_named(method.projection).of_projection.label
        return replace(method, of_projection=method.of_projection.model_copy(update={"label": label}))

    @classmethod
    def of_projection_named(cls, projection: str) -> "Method":
        """Return a registered projection, with the label, role and traits of its class, and an unnamed predictor."""
        return cls(projection, None, "", of_projection=presented(projection, PROJECTIONS.component_class(projection)))

    @property
    def predictor(self) -> str:
        """The predictor with its variant: "zero_shot", "few_shot (4 shots)"."""
        return _with(self.predictor_name, self.predictor_variant)

    @property
    def variant(self) -> str:
        """Variant of the projection in words: placebo, share of pairs, `projection_variant`."""
        draw = f" {self.draw:g}" if self.draw is not None else f", mean of {self.draws} draws" if self.draws else ""
        placebo = f"{self.placebo}{draw}" if self.placebo else ""
        seed = f", seed {self.pairs_seed:g}" if self.pairs_seed else ""
        pairs = f"{100 * self.pairs_share:g} % of the pairs{seed}" if self.pairs_share is not None else ""
        return ", ".join(filter(None, [placebo, pairs, self.projection_variant]))

    @property
    def with_all_pairs(self) -> "Method":
        """The same method with C_d from all pairs of images and views, not only a share of them."""
        return replace(self, pairs_share=None, pairs_seed=None)

    @property
    def real(self) -> "Method":
        """The same method with the real C_d in the place of a placebo."""
        return replace(self, placebo=None, draw=None, draws=0)

    @property
    def plain(self) -> "Method":
        """Plain prediction, which has no projection, with the same predictor."""
        return replace(
            Method.of_projection_named(PLAIN), predictor_name=self.predictor_name,
            predictor_variant=self.predictor_variant, of_predictor=self.of_predictor,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Name of the method without its predictor, in tables, figures, pages and sentences: "CLIP-ICM"."""
        if self.imported:
            return self.label
        truncates = self.projection == ICM and self.projection_variant  # the paper's CLIP-ICM has no other nuisance
        name, _, of_class = (self.of_projection.label or self.projection).removesuffix(")").partition(" (")
        order = "released order" if self.order == "released" else ""  # the largest first is the default
        alone = f"{self.variant} alone" if self.variant in (*ALONE, "both") else self.variant
        brackets = ", ".join(filter(None, [of_class, alone, order]))
        return _with("Truncation" if truncates else name, brackets) + _mark(self.of_projection)

    @property
    def name_in_sentence(self) -> str:
        """The name for use within a sentence: "shrinkage (environments alone)", and "PCA" as it is."""
        first = self.name.partition(" ")[0]
        written = self.is_custom or not first[1:].islower()
        return self.name if written else self.name[:1].lower() + self.name[1:]

    @property
    def looks_at_target_images(self) -> bool:
        """Whether projection or predictor look at test images or their views, without labels."""
        return bool(_mark(self.of_projection) + _mark(self.of_predictor))

    @property
    def is_plain(self) -> bool:
        """Whether the method is plain prediction: no projection, and a predictor with the real C_d of all pairs."""
        return self.of_projection.role == "plain" and not self.variant

    @property
    def is_paper(self) -> bool:
        """Whether the method is the paper's CLIP-ICM: largest eigenvalues first, nuisance C_d."""
        return (self.projection, self.order, self.variant) == (ICM, "largest", "")

    @property
    def is_shrinkage(self) -> bool:
        """Whether the method is shrinkage with all its candidate nuisances."""
        return (self.projection, self.variant) == (SHRINKAGE, "")

    @property
    def is_control(self) -> bool:
        """Whether the method is a part of shrinkage, a full-rank control, or a full-rank rival."""
        is_part, about = self.projection in (SHRINKAGE, PLAIN) and bool(self.variant), self.of_projection
        return is_part or (about.role in ("control", "rival") and "full_rank_only" in about.traits)

    @property
    def is_rival(self) -> bool:
        """Whether the method is a published rival that uses neither labels nor test images."""
        of_others = self.of_projection.role == "rival" and not self.variant
        return of_others and not (self.looks_at_target_images or "uses_labels" in self.of_projection.traits)

    @property
    def imported(self) -> bool:
        """Whether predictions of the method were imported; `predictor_name` is then the name of the method."""
        return self.projection == IMPORTED

    @property
    def is_custom(self) -> bool:
        """Whether the method is the user's own: imported, or a class given as `module:Class`."""
        return self.imported or ":" in self.projection

    @property
    def learns_nothing(self) -> bool:
        """Whether the predictor has no training images, like zero-shot."""
        return "uses_training_images" not in self.of_predictor.traits

    @property
    def predictor_uses_c_d(self) -> bool:
        """Whether the predictor itself uses C_d. If so, a placebo changes all rows of the method."""
        return "uses_c_d" in self.of_predictor.traits

    @property
    def learns_classes(self) -> bool:
        """Whether the predictor can only predict classes that have training images."""
        return "learns_classes" in self.of_predictor.traits

    @property
    def predictor_label(self) -> str:
        """Label of the predictor: "zero-shot", "few-shot probe (4 shots)"."""
        label = self.of_predictor.label or self.predictor_name
        return _with(label, self.predictor_variant) + _mark(self.of_predictor)

    @property
    def label(self) -> str:
        """Label of the method: "Zero-shot", "CLIP-ICM + zero-shot"."""
        if self.imported:
            return f"{self.predictor} (imported)"
        if self.of_projection.role == "plain":
            words, has_label = self.predictor_label, self.of_predictor.label not in ("", self.predictor_name)
            words = words[:1].upper() + words[1:] if has_label else words
            return f"{words} ({self.variant})" if self.variant else words
        return f"{self.name} + {self.predictor_label}"

    @property
    def place(self) -> tuple[bool, int, str, int, str, str, int, str]:
        """Sort key: the predictor (imported last), then the projection's place, name, variant and order."""
        block = (self.imported, self.of_predictor.place, _natural(self.predictor))
        order = 1 + _ORDERS.index(self.order) if self.order in _ORDERS else 0
        return (*block, self.of_projection.place, self.projection, _natural(self.variant), order, self.order or "")

    def is_plain_at(self, rank: int, lambda_: float, dim: int) -> bool:
        """Return whether the method equals plain prediction at a rank and lambda.

        True for plain prediction itself, and for projections whose traits say that they are the identity at full
        rank or at lambda 0. False if a placebo or a share of the pairs changes the predictor's C_d.
        """
        traits = self.of_projection.traits
        at_rank, at_lambda = "plain_at_full_rank" in traits, "plain_at_lambda_0" in traits
        other_c_d = self.predictor_uses_c_d and (self.placebo or self.pairs_share is not None)
        return self.is_plain or (not other_c_d and ((at_rank and rank == dim) or (at_lambda and lambda_ == 0)))


def plain_for(method: Method, methods: Iterable[Method]) -> Method | None:
    """Return plain prediction with the method's predictor (with the first one if imported); None without rows."""
    same = (m for m in methods if m.is_plain and (method.imported or m.predictor == method.predictor))
    return next(same, None)


def _mark(presentation: Presentation) -> str:
    """Return the suffix of components that look at test images; empty for others."""
    return f" {SEES_TARGET}" if "looks_at_target_images" in presentation.traits else ""


def _with(name: str, variant: str | None) -> str:
    return f"{name} ({variant})" if variant else name


def _natural(words: str) -> str:
    """Return a sort key that puts "2 shots" before "16 shots"."""
    return re.sub(r"\d+", lambda digits: digits.group().zfill(9), words)


def as_rows_of(method: Method, rows: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of the rows of a method's variant, relabelled as rows of the method itself."""
    return rows.assign(projection_variant=method.projection_variant, pairs_share=np.nan, pairs_seed=np.nan)


def by_method(rows: pd.DataFrame) -> dict[Method, pd.DataFrame]:
    """Split rows of `benchmark.store.rows.schema` by method, in table order."""
    apart = rows.groupby(list(_KEY_COLUMNS), dropna=False, sort=False)
    parts = {Method.of_row(part.iloc[0].to_dict()): part for _, part in apart}
    candidates: dict[tuple[object, ...], pd.DataFrame] = {}
    parts |= {
        m: _with_real_candidates(m, part, parts[m.real], candidates)
        for m, part in parts.items()
        if m.placebo and m.real in parts and not m.predictor_uses_c_d
    }
    for method in [m for m in parts if m.is_shrinkage]:  # rows of one nuisance are a method too
        of_each = {name: parts[method][parts[method]["nuisance"] == name] for name in ALONE}
        parts |= {replace(method, projection_variant=name): part for name, part in of_each.items() if len(part)}
    return {method: parts[method] for method in sorted(parts, key=lambda m: m.place)}


def _with_real_candidates(
    method: Method, rows: pd.DataFrame, real: pd.DataFrame, known: dict[tuple[object, ...], pd.DataFrame]
) -> pd.DataFrame:
    """Return the rows of a placebo, and the rows of the real method that are also candidates of the placebo.

    The latter have the nuisance environments. There C_d only sets the scale, so they are not fitted again for placebos.
    They are inserted in grid order, since a rule takes the first of equal scores. For single draws, only those that
    source rules pick are inserted. `known` caches these rows of the real methods over draws.
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
    candidates = candidates[pd.MultiIndex.from_frame(candidates[list(KEY)]).isin(tested)]  # keeps gaps
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
    """Return the position of each value among the distinct values of `first`, in order of appearance; NaN if absent."""
    return values.map({value: place for place, value in enumerate(first.unique())})
