"""Intervention sets: the views that enter a projection's fit, and placebos of them."""

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, model_validator

from benchmark.common.spec import Name, Spec
from benchmark.method.subspace.moments import CROSS

TEXT = "text"  # kind of text pairs in intervention sets
DRAWS = 20  # maximum draws of a placebo in one trial: they share moments, but all cores should have trials

# A new placebo needs a formula in benchmark/method/subspace/placebos.py, and a branch of `placebos_of` in
# benchmark/sweep/evaluate.py.
PlaceboName = Literal["rotated", "matched", "shuffled", "borrowed"]


class InterventionSet(Spec):
    """The views that enter the consistency term of one setting, or a placebo of them.

    Fields:
        name: name of the set in tables.
        kinds: labels of embedded kinds, `text` (text pairs) or `cross_environment` (pairs of images of one class
            from two source environments). Default: empty, which means all embedded kinds.
        weights: weight of each kind in C_d, in the order of `kinds`. Default: equal weights.
        pairing: `each` (default) pairs every image with the view of each kind; `random_one` pairs it with the view of
            one kind, drawn by seed and image, as the released code does. C_d under `each` is the expectation of C_d
            under `random_one`.
        pairs: share of the images whose views enter C_d, to study how many pairs are needed. Images
            are drawn by `seed`, stratified by class and environment; smaller shares are subsets of larger ones. Other
            terms use all images. Each share below 1 is a separate method: no rule chooses between them. Default 1.
        placebo: what replaces C_d: `rotated` (the same spectrum in random directions), `matched` (the same generalised
            eigenvalues against C_z), `shuffled` (pairs of different images of an environment and fold) or `borrowed`
            (C_d of another data set of the recipe). The sweep also needs a set with the same kinds and no placebo.
            Placebos are only for truncation, shrinkage and the soft-penalty probe; no further image is embedded.
            Default: none.
        draws: number of draws of `rotated`, `matched` or `shuffled`, each a separate placebo: 199 give p-values down
            to 0.005, for zero-shot only. Tables show their mean in one line. Default 1.
        first: number of the first draw. Default 1.
        seed: seed of the draws of a placebo, or of the images drawn for `pairs`. Default 0.
        lender: data set whose C_d is `borrowed`; the placebo is left out for the lender itself. Default: the next data
            set of the recipe, and for the last one the first.
    """

    name: Name
    kinds: tuple[str, ...] = ()
    weights: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] | None = None
    pairing: Literal["each", "random_one"] = "each"
    pairs: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    placebo: PlaceboName | None = None
    draws: int = Field(default=1, ge=1, le=9999)
    first: int = Field(default=1, ge=1, le=9999)
    seed: int = Field(default=0, ge=0, lt=2**31)
    lender: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "InterventionSet":
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"the set '{self.name}' names a kind twice; give it a weight instead.")
        if self.weights is not None and (self.pairing == "random_one" or len(self.weights) != len(self.kinds)):
            raise ValueError(f"the set '{self.name}' needs one weight for each of its kinds, and pairing 'each'.")
        if self.pairing == "random_one" and {TEXT, CROSS} & set(self.kinds):
            raise ValueError(f"the set '{self.name}' cannot draw one view for each image from '{TEXT}' or '{CROSS}'.")
        drawn = self.placebo not in (None, "borrowed")
        if self.pairs < 1 and (self.placebo or {TEXT, CROSS} & set(self.kinds)):
            raise ValueError(f"the set '{self.name}': pairs below 1 need views; leave out placebo, text, {CROSS}.")
        if not drawn and (self.draws, self.first, 0 if self.pairs < 1 else self.seed) != (1, 1, 0):
            raise ValueError(f"the set '{self.name}' has nothing to draw; leave out draws, first and seed.")
        if self.lender is not None and self.placebo != "borrowed":
            raise ValueError(f"the set '{self.name}' has a lender but does not borrow; give placebo: borrowed.")
        if self.placebo in ("shuffled", "borrowed") and {TEXT, CROSS} & set(self.kinds):
            raise ValueError(f"the set '{self.name}': '{TEXT}' and '{CROSS}' cannot be {self.placebo}; leave them out.")
        if self.placebo == "shuffled" and self.pairing != "each":
            raise ValueError(f"the set '{self.name}': views are shuffled kind by kind; give pairing: each.")
        return self

    def is_among(self, kinds: Collection[str]) -> bool:
        """Return whether all kinds of the set are in `kinds`, the available ones."""
        return set(self.kinds) <= set(kinds) if self.kinds else bool(set(kinds) - {TEXT, CROSS})

    @property
    def pairs_in_words(self) -> str:
        """The share of pairs in words, as part of the method's name in tables; empty for all pairs."""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{100 * self.pairs:g} % of the pairs{seed}" if self.pairs < 1 else ""

    @property
    def numbered(self) -> bool:
        """Whether the set has several draws, each of which is a numbered method."""
        return self.draws > 1 or self.first > 1

    def drawn(self) -> "tuple[InterventionSet, ...]":
        """Return one set for each draw; a set with one draw is returned as it is."""
        numbers = range(self.first, self.first + self.draws)
        return tuple(self.model_copy(update={"first": number, "draws": 1}) for number in numbers)

    def in_trials(self) -> "tuple[InterventionSet, ...]":
        """Return one set for each trial. It has up to `DRAWS` draws, which share the moments of a fold."""
        end = self.first + self.draws
        return tuple(
            self.model_copy(update={"first": first, "draws": min(DRAWS, end - first)})
            for first in range(self.first, end, DRAWS)
        )

    def is_real_set_of(self, placebo: "InterventionSet") -> bool:
        """Return whether `placebo` is a placebo of this set: the same kinds, weights and pairing."""
        same = (self.kinds, self.weights, self.pairing) == (placebo.kinds, placebo.weights, placebo.pairing)
        return self.placebo is None and self.pairs == 1 and placebo.placebo is not None and same
