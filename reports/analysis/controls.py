"""Controls: data sets of which it is known what must be found in them, and whether it was."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from benchmark.method.evaluation.judging import ALPHA, holm
from reports.analysis.comparisons import Comparison
from reports.analysis.findings import OURS, Findings, Question, asked
from reports.analysis.methods import ALONE
from reports.analysis.settings import Setting


@dataclass(frozen=True)
class Expected:
    """What must be found in a data set, and nothing beside it.

    Attributes:
        parts: of a gain of shrinkage: `interventions`, `environments`, both or none.
        predictor: by which, as recipes name it.
        held_out: with which environment held out; None for the average of all.
    """

    parts: tuple[str, ...] = ()
    predictor: str = "zero_shot"
    held_out: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What was found in a data set of which it is known what must be.

    Attributes:
        expected: what must be found.
        gain: of shrinkage over plain prediction.
        p: of the gain, adjusted by Holm over all gains in the data set.
        questions: what explains it; empty where no gain is shown.
        compared: the comparisons by which it was looked for.
    """

    expected: Expected
    gain: Comparison
    p: float
    questions: tuple[Question, ...]
    compared: tuple[Comparison, ...]

    @property
    def found(self) -> tuple[str, ...]:
        """The parts that are credited with a gain."""
        return tuple(name for name in ALONE if any(one.name == name and one.yes for one in self.questions))

    @property
    def right(self) -> bool:
        """Whether all that must be found was found, and nothing else."""
        return set(self.found) == set(self.expected.parts)

    def in_columns(self) -> dict[str, object]:
        """Return it as a line of a table."""
        return {
            "predictor": self.expected.predictor,
            "held_out": self.expected.held_out or "average",
            "expected": " ".join(self.expected.parts),
            "found": " ".join(self.found),
            "right": self.right,
        }


def verdict(compared: Iterable[Comparison], expected: Expected) -> Verdict | None:
    """Return what was found in a data set; None where it was not looked for.

    Gains are judged and explained as everywhere; with one environment held out, by the intervals of that one.

    Args:
        compared: all comparisons of a setting.
        expected: what must be found.
    """
    looked = [one for one in compared if one.method.predictor == expected.predictor]
    if expected.held_out is not None:
        name = expected.held_out
        there = [(one, one.held_outs.index(name)) for one in looked if name in one.held_outs]
        looked = [replace(one, held_outs=(name,), interval=one.single[place]) for one, place in there]
    with_plain = [one for one in looked if one.baseline.is_plain]
    gain = next((one for one in with_plain if (one.method.projection, one.method.variant) == OURS), None)
    if gain is None:
        return None
    gains = [one for one in with_plain if one.rule == gain.rule]
    p = float(holm([one.interval.p for one in gains])[gains.index(gain)])
    shown = p <= ALPHA and gain.interval.estimate > 0
    return Verdict(expected, gain, p, asked(looked, gain.method) if shown else (), tuple(looked))


def verdicts(
    parts: Iterable[tuple[Setting, Findings]], expected: Mapping[str, Expected]
) -> list[tuple[Setting, Verdict]]:
    """Return what was found in each setting of a data set of which it is known what must be.

    Args:
        parts: settings with their comparisons.
        expected: data set -> what must be found in it.
    """
    known = [(setting, f.compared, expected[setting.dataset]) for setting, f in parts if setting.dataset in expected]
    return [(setting, one) for setting, looked, of in known if (one := verdict(looked, of)) is not None]
