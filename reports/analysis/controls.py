"""Controls: data sets of which it is known what must be found in them, and whether it was."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from benchmark.method.evaluation.judging import ALPHA
from benchmark.method.evaluation.multiplicity import holm
from reports.analysis.comparisons import Comparison
from reports.analysis.credit import OURS, Question, asked
from reports.analysis.findings import Findings
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
        looked = [alone for one in looked if (alone := _held_out(one, expected.held_out))]
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
    known = [(setting, findings) for setting, findings in parts if setting.dataset in expected]
    found = [(setting, verdict(f.compared, expected[setting.dataset])) for setting, f in known]
    return [(setting, one) for setting, one in found if one is not None]


def _held_out(one: Comparison, name: str) -> Comparison | None:
    """Return a comparison on one of the environments that were held out; None where that was not."""
    if name not in one.held_outs:
        return None
    return replace(one, held_outs=(name,), interval=one.single[one.held_outs.index(name)])
