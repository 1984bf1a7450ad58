"""The fits of an evaluation, each with its validation blocks of the sources. Plain data, no arrays.

Let e be the held-out environment and k the tested fold. For every source s and every fold j other than k, one fit
leaves out s and the folds k and j, and is validated on fold j of s. These fits give a candidate its
leave-one-domain-out score. Its score for `training_domain` comes from fits on all sources. A fit is identified by its
training images: the one without the
environments {e, s} and the folds {k, j} serves (e, k), (e, j), (s, k) and (s, j).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.method.evaluation.cells import Half
from benchmark.method.evaluation.protocols import Holdout
from benchmark.method.evaluation.splits import Split, Turn, turn_of

MIN_SOURCES = 2  # that remain after leaving one out: a fit needs two to tell environments apart

Sides = frozenset[int]
Halves = tuple[Half, ...]


@dataclass(frozen=True)
class Sources:
    """Images of some sources: the training images of a fit, or a block of validation images of one source."""

    environments: tuple[int, ...]  # positions of the environments, ascending
    sides: Sides  # sides of the split
    halves: Halves  # halves of the classes


@dataclass(frozen=True)
class Case:
    """One holdout in one turn: a tested fit, and the fits for model selection."""

    holdout: Holdout  # the holdout
    fold: int  # the tested fold; -1 for an 80/20 split
    turn: Turn  # roles of the sides
    tested: Sources  # training images of the tested fit
    training_domain: tuple[tuple[Sources, Sources], ...]  # fits on all sources, each with a validation block
    lodo: tuple[tuple[Sources, Sources], ...]  # fits without a source, each with a block of this source


def cases_of(
    holdouts: Iterable[Holdout], split: Split, grouped: bool, fold: int | None = None, min_sources: int = 1
) -> list[Case]:
    """Return the holdouts of a protocol with at least `min_sources` sources, in all turns of a split.

    `grouped`: whether images come in groups. With a `fold`, only it is tested, validated on the next one, as in a
    search.
    """
    cases = []
    for holdout in holdouts:
        for number, turn in turns_of(split, grouped, fold).items() if len(holdout.sources) >= min_sources else ():
            halves, training_domain, lodo = holdout.halves, [], []
            for source in holdout.validation_sources(turn):
                left = enough_sources_left(holdout, source, min_sources)
                for one in turn.validations:
                    block = Sources((source,), one.sides, halves)
                    training_domain.append((Sources(holdout.sources, one.learned, halves), block))
                    if left:
                        block = Sources((source,), one.left_out_sides, halves)
                        lodo.append((Sources(holdout.without(source), one.learned, halves), block))
            tested = Sources(holdout.sources, turn.fitted, halves)
            cases.append(Case(holdout, number, turn, tested, tuple(training_domain), tuple(lodo)))
    return cases


def turns_of(split: Split, grouped: bool, fold: int | None = None) -> dict[int, Turn]:
    """Return tested fold (-1 for an 80/20 split) -> roles of the sides."""
    if split.folds and fold is None:
        return {k: turn_of(split, k, grouped, crossed=True) for k in range(split.folds)}
    return {-1 if fold is None else fold: turn_of(split, fold, grouped)}


def enough_sources_left(holdout: Holdout, source: int, min_sources: int = 1) -> bool:
    """Return whether enough sources remain without one: two, or as many as a method needs."""
    return len(holdout.without(source)) >= max(MIN_SOURCES, min_sources)


def blocks_by_fit(pairs: Iterable[tuple[Sources, Sources]]) -> dict[Sources, list[Sources]]:
    """Return each fit once, with its validation blocks."""
    fits: dict[Sources, dict[Sources, None]] = {}
    for fit, block in pairs:
        fits.setdefault(fit, {})[block] = None
    return {fit: list(blocks) for fit, blocks in fits.items()}


def parts_of(turns: Iterable[Turn]) -> list[Sides]:
    """Return the finest common partition of the training sides of all fits of some turns."""
    sets = [sides for turn in turns for sides in (turn.fitted, *(one.learned for one in turn.validations))]
    parts: dict[tuple[bool, ...], set[int]] = {}
    for side in sorted(frozenset().union(*sets)):
        parts.setdefault(tuple(side in sides for sides in sets), set()).add(side)
    return [frozenset(part) for part in parts.values()]
