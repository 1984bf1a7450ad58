"""Which fits an evaluation makes, and on which images of the sources each is judged. Plain data, no arrays.

For held-out environment e and tested fold k, the leave-one-domain-out score of a candidate comes from fits on the
sources without s and on the folds without k and j, judged on fold j of s, for every source s and every other fold j;
that of `training_domain` from fits that leave no source out. Such a fit is known by what it is fitted on alone: that
without the environments {e, s} and the folds {k, j} serves (e, k), (e, j), (s, k) and (s, j).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.method.evaluation.cells import Half
from benchmark.method.evaluation.protocols import Holdout
from benchmark.method.evaluation.splits import Split, Turn, turn_of

MIN_SOURCES = 2  # that leaving one out leaves: on one alone nothing is fitted that tells environments apart

Sides = frozenset[int]
Halves = tuple[Half, ...]


@dataclass(frozen=True)
class Sources:
    """What a fit learns from.

    Attributes:
        environments: positions of the environments, ascending.
        sides: sides of the split.
        halves: halves of the classes.
    """

    environments: tuple[int, ...]
    sides: Sides
    halves: Halves


@dataclass(frozen=True)
class Block:
    """Images of one source that judge a fit.

    Attributes:
        environment: position of the source.
        sides: sides of the split.
        halves: halves of the classes.
    """

    environment: int
    sides: Sides
    halves: Halves


@dataclass(frozen=True)
class Case:
    """One holdout in one turn: a tested fit, and what rules choose by.

    Attributes:
        holdout: what is held out.
        fold: the tested fold; -1 for an 80/20 split.
        turn: what the sides are for.
        tested: what the tested fit learns from.
        training_domain: fits on all sources, each with a block that judges it.
        lodo: fits without a source, each with a block of this source; none where too few sources are left.
    """

    holdout: Holdout
    fold: int
    turn: Turn
    tested: Sources
    training_domain: tuple[tuple[Sources, Block], ...]
    lodo: tuple[tuple[Sources, Block], ...]


def cases_of(
    holdouts: Iterable[Holdout], split: Split, grouped: bool, fold: int | None = None, min_sources: int = 1
) -> list[Case]:
    """Return the holdouts of a protocol in all turns of a split, holdout by holdout.

    Args:
        holdouts: those of a protocol; with fewer sources than are needed they are left out.
        split: how images are cut into sides.
        grouped: whether images come in groups.
        fold: the only tested fold, judged by the next one alone as a search does; None for all, cross-fitted.
        min_sources: number of sources that a fit needs.
    """
    return [
        _case(holdout, number, turn, min_sources)
        for holdout in holdouts
        if len(holdout.sources) >= min_sources
        for number, turn in turns_of(split, grouped, fold).items()
    ]


def turns_of(split: Split, grouped: bool, fold: int | None = None) -> dict[int, Turn]:
    """Return tested fold (-1 for an 80/20 split) -> what the sides are for; arguments as of `cases_of`."""
    if split.folds and fold is None:
        return {k: turn_of(split, k, grouped, crossed=True) for k in range(split.folds)}
    return {-1 if fold is None else fold: turn_of(split, fold, grouped)}


def leaves_enough(holdout: Holdout, source: int, min_sources: int = 1) -> bool:
    """Say whether enough sources are left without one: two, or as many as a method needs."""
    return len(holdout.without(source)) >= max(MIN_SOURCES, min_sources)


def _case(holdout: Holdout, fold: int, turn: Turn, min_sources: int) -> Case:
    judges, halves = holdout.judges(turn), holdout.halves
    return Case(
        holdout,
        fold,
        turn,
        Sources(holdout.sources, turn.fitted, halves),
        tuple(
            (Sources(holdout.sources, one.learned, halves), Block(source, one.judging, halves))
            for source in judges
            for one in turn.validations
        ),
        tuple(
            (Sources(holdout.without(source), one.learned, halves), Block(source, one.judging_left_out, halves))
            for source in judges
            if leaves_enough(holdout, source, min_sources)
            for one in turn.validations
        ),
    )


def judged_by(pairs: Iterable[tuple[Sources, Block]]) -> dict[Sources, list[Block]]:
    """Return each fit once, with the blocks that judge it."""
    fits: dict[Sources, dict[Block, None]] = {}
    for fit, block in pairs:
        fits.setdefault(fit, {})[block] = None
    return {fit: list(blocks) for fit, blocks in fits.items()}


def parts_of(turns: Iterable[Turn]) -> list[Sides]:
    """Return the sides that fits of some turns learn from, in parts that none of them divides."""
    sets = [sides for turn in turns for sides in (turn.fitted, *(one.learned for one in turn.validations))]
    parts: dict[tuple[bool, ...], set[int]] = {}
    for side in sorted(frozenset().union(*sets)):
        parts.setdefault(tuple(side in sides for sides in sets), set()).add(side)
    return [frozenset(part) for part in parts.values()]
