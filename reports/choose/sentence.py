"""The one sentence on which backbone to take: it claims what intervals show, and speeds as they were measured."""

from dataclasses import replace

from benchmark.method.evaluation.inference import ImageInterval
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from reports.choose.candidates import Candidate
from reports.choose.choice import MIN_FASTER, Choice
from reports.render.cells import interval_text, value_text
from reports.tables import cells


def sentence(choice: Choice) -> str:
    """Return which backbone is best, who is not separated from it, who is faster, and which one that speaks for."""
    if not choice.ties.tied:
        return _undecided(choice)
    return _alone(choice) if not choice.tied else _among(choice)


def _undecided(choice: Choice) -> str:
    fewest = min(interval.fewest for interval in choice.differences.values())
    few = f"an environment has {fewest} images, and intervals need {MIN_UNITS}"
    why = few if fewest < MIN_UNITS else "no difference has an interval"
    return (
        f"{choice.best.name} has the highest average, {_accuracy(choice.best)}, but backbones cannot be separated, for "
        f"{why}: nothing is chosen."
    )


def _alone(choice: Choice) -> str:
    """Return what is said where the best is separated from all others."""
    best, others = choice.best, len(choice.candidates) - 1
    ahead = f"the {others} others" if others > 1 else choice.candidates[1].name
    faster = [(times, one) for one in choice.candidates if (times := choice.times_as_fast(one) or 0.0) >= MIN_FASTER]
    if not faster:
        return (
            f"{best.name} is best with {_accuracy(best)}, ahead of {ahead} in these environments: choose {best.name}."
        )
    times, one = max(faster, key=lambda found: found[0])
    return (
        f"{best.name} is best with {_accuracy(best)}; {one.name} encodes {times:.1f} times as many images a second and "
        f"is behind by {_points(choice.differences[one.name])}: choose {best.name} where accuracy counts most."
    )


def _among(choice: Choice) -> str:
    """Return what is said where others are tied with the best: the fastest of them all is chosen."""
    best, tied, chosen = choice.best, choice.tied, choice.chosen
    fastest, times = tied[0], choice.times_as_fast(tied[0])
    difference = f" ({_difference(choice, fastest)})"
    alone = len(tied) == 1
    if choice.ties.equal:
        head = f"All averages are equal, {_accuracy(best)}"
        who, than = f", and {fastest.name} encodes", f" as {best.name}"
    else:
        level = f"{_and(tied)} {'is' if alone else 'are'} not separated from it{difference if alone else ''}"
        head = f"{best.name} has the highest average, {_accuracy(best)}; {level}"
        who, than = " and encodes" if alone else f", and {fastest.name}{difference} encodes", ""
    if chosen is None or times is None:
        return f"{head}, and no speeds that may be compared say which to take: nothing is chosen."
    if chosen is best:
        return f"{head}, and none was measured to encode faster: choose {best.name}."
    return f"{head}{who} {times:.1f} times as many images a second{than}: choose {chosen.name}."


def _and(candidates: list[Candidate]) -> str:
    names = [one.name for one in candidates]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _accuracy(one: Candidate) -> str:
    return f"{one.average.value:.1f} %"


def _points(behind: ImageInterval) -> str:
    """Return how far behind something is: "2.1 points [1.0, 3.2]"."""
    cell = replace(cells.points(replace(behind, estimate=-behind.estimate)), signed=False)
    return f"{value_text(cell)} points {interval_text(cell)}"


def _difference(choice: Choice, one: Candidate) -> str:
    """Return how far something is from the best: "-0.3 [-1.0, +0.4] points"; where that is apart from 0, with its p."""
    interval = choice.differences[one.name]
    cell = cells.points(interval)
    p, pairs = choice.p(one), len(choice.ties.adjusted)
    apart = interval.standard_error > 0 and not interval.low <= 0 <= interval.high
    why = f"; p = {p:.2f} among {pairs} pairs, Holm" if apart else ""
    return f"{' '.join(filter(None, [value_text(cell), interval_text(cell)]))} points{why}"
