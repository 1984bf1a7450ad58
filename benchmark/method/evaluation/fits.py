"""The fits of an evaluation, each with its blocks of validation images. Plain data, no arrays.

Let e be the held-out environment and k the tested fold. For every source s and every fold j other than k, one fit
leaves out s and the folds k and j, and is validated on fold j of s. These fits give the score of the rule `lodo` (leave
one domain out). The score of `training_domain` comes from fits on all sources. Fits are identified by their training
images. So the fit without the environments {e, s} and the folds {k, j} serves four pairs of held-out environment and
tested fold: (e, k), (e, j), (s, k) and (s, j).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmark.method.evaluation.cells import Half
from benchmark.method.evaluation.protocols import Holdout
from benchmark.method.evaluation.splits import Split, Turn, turn_of

MIN_SOURCES = 2  # minimum that remains after one source is left out: a fit needs two to compare environments

Sides = frozenset[int]
Halves = tuple[Half, ...]


@dataclass(frozen=True)
class Sources:
    """Images of some environments: training images of a fit, or a block of validation images of one source."""

    environments: tuple[int, ...]  # indices of the environments, ascending
    sides: Sides  # sides of the split
    halves: Halves  # halves of the classes
    for_choice: bool = False  # whether a fit to them serves model selection alone, so that it may be less precise


@dataclass(frozen=True)
class Case:
    """One holdout in one turn of the split: the tested fit, and the fits for model selection."""

    holdout: Holdout  # the holdout
    fold: int  # number of the tested fold; -1 for an 80/20 split
    turn: Turn  # roles of the sides of the split
    tested: Sources  # training images of the tested fit
    training_domain: tuple[tuple[Sources, Sources], ...]  # fits on all sources, each with a validation block
    lodo: tuple[tuple[Sources, Sources], ...]  # fits without one source, each with a validation block of this source


def cases_of(
    holdouts: Iterable[Holdout],
    split: Split,
    grouped: bool,
    fold: int | None = None,
    min_sources: int = 1,
    train_share: float = 1.0,
) -> list[Case]:
    """Return all cases: each holdout with at least `min_sources` sources, in each turn of the split.

    `grouped`: whether images come in groups. `fold`: the only tested fold, validated on the next one, as in a search.
    Default: all folds; without folds, the 80/20 split. `train_share`: see `turns_of`.
    """
    cases, turns = [], turns_of(split, grouped, fold, train_share)
    asked = [holdout for holdout in holdouts if len(holdout.sources) >= min_sources]
    tested = {Sources(one.sources, turn.fitted, one.halves) for one in asked for turn in turns.values()}

    def fit_of(environments: tuple[int, ...], sides: Sides, halves: Halves) -> Sources:
        fit = Sources(environments, sides, halves)
        return replace(fit, for_choice=fit not in tested)

    for holdout in asked:
        for number, turn in turns.items():
            halves, training_domain, lodo = holdout.halves, [], []
            for source in holdout.validation_sources(turn):
                left = enough_sources_left(holdout, source, min_sources)
                for one in turn.validations:
                    block = Sources((source,), one.sides, halves)
                    training_domain.append((fit_of(holdout.sources, one.learned, halves), block))
                    if left:
                        block = Sources((source,), one.left_out_sides, halves)
                        lodo.append((fit_of(holdout.without(source), one.learned, halves), block))
            fit = Sources(holdout.sources, turn.fitted, halves)
            cases.append(Case(holdout, number, turn, fit, tuple(training_domain), tuple(lodo)))
    return cases


def turns_of(split: Split, grouped: bool, fold: int | None = None, train_share: float = 1.0) -> dict[int, Turn]:
    """Return a dictionary: tested fold (-1 for an 80/20 split) -> roles of the sides in this turn.

    With a `train_share` below 1, fits learn from about this share of their folds, at least one: see `_with_share`.
    """
    if split.folds and fold is None:
        turns = {k: turn_of(split, k, grouped, crossed=True) for k in range(split.folds)}
    else:
        turns = {-1 if fold is None else fold: turn_of(split, fold, grouped)}
    return {k: _with_share(turn, train_share) for k, turn in turns.items()} if train_share < 1 else turns


def _with_share(turn: Turn, share: float) -> Turn:
    """Return the roles with a share of the folds in each fit: neighbours, others for other hidden folds.

    Fits without the folds k and j remain the same as fits without j and k.
    """

    def share_of(folds: Sides, hidden: Sides) -> Sides:
        order, count = sorted(folds), max(1, round(share * len(folds)))
        first = sum(hidden) % len(order)
        return frozenset((order * 2)[first : first + count])

    tested = turn.tested["out_fold"]
    validations = [replace(one, learned=share_of(one.learned, tested | one.sides)) for one in turn.validations]
    return replace(turn, validations=tuple(validations), fitted=share_of(turn.fitted, tested))


def enough_sources_left(holdout: Holdout, source: int, min_sources: int = 1) -> bool:
    """Return whether enough sources remain without `source`: two, or `min_sources` if larger."""
    return len(holdout.without(source)) >= max(MIN_SOURCES, min_sources)


def blocks_by_fit(pairs: Iterable[tuple[Sources, Sources]]) -> dict[Sources, list[Sources]]:
    """Return each distinct fit with its validation blocks."""
    fits: dict[Sources, dict[Sources, None]] = {}
    for fit, block in pairs:
        fits.setdefault(fit, {})[block] = None
    return {fit: list(blocks) for fit, blocks in fits.items()}


def parts_of(turns: Iterable[Turn]) -> list[Sides]:
    """Divide the training sides into the largest parts that each fit of these turns uses entirely or not at all."""
    sets = [sides for turn in turns for sides in (turn.fitted, *(one.learned for one in turn.validations))]
    parts: dict[tuple[bool, ...], set[int]] = {}
    for side in sorted(frozenset().union(*sets)):
        parts.setdefault(tuple(side in sides for sides in sets), set()).add(side)
    return [frozenset(part) for part in parts.values()]
