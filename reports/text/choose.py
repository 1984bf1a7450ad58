"""The one sentence on which backbone to take: it claims what intervals show, and speeds of one run."""

from benchmark.method.evaluation.inference import ImageInterval
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from reports.analysis.choice import MIN_FASTER, Candidate, Choice
from reports.render.cells import interval_text, value_text
from reports.render.table import Cell


def sentence(choice: Choice) -> str:
    """Return which backbone is best, who is tied with it, who is faster, and which one that speaks for."""
    best, tied = choice.best, choice.tied
    highest = f"{best.name} has the highest average, {_accuracy(best)}"
    if not choice.ties.tied:
        fewest = min(interval.fewest for interval in choice.differences.values())
        few = f"an environment has {fewest} images, and intervals need {MIN_UNITS}"
        why = few if fewest < MIN_UNITS else "no difference has an interval"
        return f"{highest}, but backbones cannot be separated, for {why}: nothing is chosen."
    if not tied:
        return _alone(choice)
    chosen, fastest, times = choice.chosen, tied[0], choice.times_as_fast(tied[0])
    difference = f" ({_difference(choice, fastest)})"
    if choice.ties.equal:
        head, who, than = f"All averages are equal, {_accuracy(best)}", f", and {fastest.name}", f" as {best.name}"
    elif len(tied) == 1:
        head, who, than = f"{highest}; {fastest.name} is tied with it{difference}", " and", ""
    else:
        names = f"{', '.join(one.name for one in tied[:-1])} and {tied[-1].name}"
        head, who, than = f"{highest}; {names} are tied with it", f", and {fastest.name}{difference}", ""
    if chosen is None or times is None:
        return f"{head}, and no run measured the speed of these: nothing is chosen."
    if chosen is best:
        return f"{head}, and none was measured to encode faster: choose {best.name}."
    return f"{head}{who} encodes {times:.1f} times as many images a second{than}: choose {chosen.name}."


def _alone(choice: Choice) -> str:
    """Return what is said where the best is separated from all others."""
    best, others = choice.best, choice.candidates[1:]
    times, fastest = max(((choice.times_as_fast(one) or 0.0, one) for one in others), key=lambda found: found[0])
    if times < MIN_FASTER:
        ahead = f"the {len(others)} others" if len(others) > 1 else others[0].name
        return (
            f"{best.name} is best with {_accuracy(best)}, ahead of {ahead} in these environments: choose {best.name}."
        )
    behind = _points(choice.differences[fastest.name], -100.0)
    return (
        f"{best.name} is best with {_accuracy(best)}; {fastest.name} encodes {times:.1f} times as many images a second "
        f"and is behind by {behind}: choose {best.name} where accuracy counts most."
    )


def _accuracy(one: Candidate) -> str:
    return f"{one.average.value:.1f} %"


def _points(interval: ImageInterval, scale: float = 100.0) -> str:
    """Return a difference to the best, "-0.3 [-1.0, +0.4] points"; without signs how far another is behind."""
    low, high = sorted((scale * interval.low, scale * interval.high))
    known = interval.standard_error > 0
    cell = Cell(scale * interval.estimate, low if known else None, high if known else None, signed=scale > 0)
    return " ".join(filter(None, [value_text(cell), interval_text(cell), "points"]))


def _difference(choice: Choice, one: Candidate) -> str:
    """Return how far a backbone is from the best; where its interval leaves out 0, with the p-value that ties it."""
    interval = choice.differences[one.name]
    apart = interval.standard_error > 0 and not interval.low <= 0 <= interval.high
    why = f"; p = {choice.p(one.name):.2f} among {len(choice.ties.adjusted)} pairs, Holm" if apart else ""
    return f"{_points(interval)}{why}"
