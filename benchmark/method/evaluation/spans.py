"""What a fit removes of the shift of class means, for result rows: see `subspace.shift`. No rule looks at it."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.method.subspace import Basis, Moments, SourceMoments
from benchmark.method.subspace.shift import Shift, class_shift, moved, removed


@dataclass(frozen=True)
class Spans:
    """Shares of one tested fit; lists run over the ranks. All None where it is no linear map.

    Attributes:
        energy_removed: share of C_z that is removed.
        shift_removed_sources: the same of the shift between sources; None where there is none.
        shift_removed_target: the same of the shift from the sources to what is tested, by its labels; None likewise,
            and where it is fitted on itself.
        shift_moved_sources: how much C_d, or what replaces it, moves what shifts between sources, 1 as the average
            direction; None without interventions.
        shift_moved_target: the same of the shift to what is tested.
    """

    energy_removed: list[float] | None = None
    shift_removed_sources: list[float] | None = None
    shift_removed_target: list[float] | None = None
    shift_moved_sources: float | None = None
    shift_moved_target: float | None = None


@dataclass(frozen=True, eq=False)  # itself, as the key of what is made of it once
class Shifts:
    """The shifts of one holdout, the same for all that is fitted on its sources; None where there is none.

    Attributes:
        between: between sources.
        to_target: from the sources to what is tested.
    """

    between: Shift | None
    to_target: Shift | None

    @classmethod
    def of(cls, sources: SourceMoments, targets: Sequence[Moments]) -> "Shifts":
        """Return the shifts of the sources that are fitted on and of what is tested."""
        return cls(class_shift([*sources.environments.values()], sources), class_shift(targets, sources))


def spans_of(basis: Basis, sources: SourceMoments, shifts: Shifts, ranks: Sequence[int]) -> Spans:
    """Return what a fit removes.

    Args:
        basis: the fit.
        sources: what it was fitted on, with the intervention set and what replaces its C_d.
        shifts: of the same sources.
        ranks: numbers of directions kept.
    """
    if not basis.is_linear:
        return Spans()
    c_z, both = sources.c_z(), (shifts.between, shifts.to_target)
    whole = tuple(ranks) == (sources.dim,)
    shares = iter(removed(basis, c_z, [shift for shift in both if shift is not None], whole))
    at = [0] if whole else [rank - 1 for rank in ranks]
    energy, *of_shifts = (None if of is None else next(shares)[at].tolist() for of in (c_z, *both))
    return Spans(energy, *of_shifts, *sources.once("moved", (sources.set_key, shifts), lambda: _moved(sources, shifts)))


def _moved(sources: SourceMoments, shifts: Shifts) -> list[float | None]:
    """Return what is the same for all that is fitted with an intervention set: nothing where there is none."""
    both = (shifts.between, shifts.to_target)
    if not sources.kinds():
        return [None, None]
    return [None if shift is None else moved(shift, sources.c_d(), sources.c_z()) for shift in both]
