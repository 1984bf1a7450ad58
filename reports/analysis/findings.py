"""Which methods are compared, which component explains a gain, and how comparisons are pooled over data sets.

Three questions attribute a gain to a component. Each is an intersection-union test (see `multiple_testing`): the
component is credited if the method is significantly ahead of every baseline that lacks it.

- environment means: ahead of interventions alone, both with settings selected separately and with the method's own
  settings except the nuisance N. (Settings selected separately differ by chance, which no interval covers.)
- interventions: ahead of environments alone, isotropic shrinkage with environments, and borrowed interventions.
- shrinking: ahead of truncation with the same candidates for N.

The selection rule has no preference for plain prediction, since else both methods would often equal plain prediction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.method.evaluation.multiple_testing import ALPHA, answered, holm
from reports.analysis.comparisons import Comparison, Overall, compare, over_data_sets
from reports.analysis.methods import ALONE, EQUAL_N, ICM, REPLACED, SHRINKAGE, Method, plain_for
from reports.analysis.selections import Selections
from reports.analysis.settings import DATA_FIELDS, Options, Setting, grouped

INTERVENTIONS, ENVIRONMENTS = ALONE  # components that can be credited, with SHRINKING
SHRINKING = "shrinking"
BORROWED = "borrowed"
FIXED = "fixed"  # shrinkage without selection: a control with a verdict, since it can hurt
Kind = tuple[str, str]  # projection and variant
OURS: Kind = (SHRINKAGE, "")
EQUAL_N_TRUNCATION: Kind = (ICM, EQUAL_N)
_OWN = ""  # placeholder for the method's own projection
# Question -> name -> baseline that the method must be ahead of. A new question also needs its words in `CAUSES` of
# reports/text/verdicts.py, and an entry in docs/report.md.
QUESTIONS: Mapping[str, Mapping[str, Kind]] = {
    ENVIRONMENTS: {
        "interventions alone": (_OWN, INTERVENTIONS),
        "interventions alone with all else as chosen": (_OWN, REPLACED),
    },
    INTERVENTIONS: {
        "environments alone": (_OWN, ENVIRONMENTS),
        "isotropic + environments": ("isotropic_environments", ""),
        "borrowed interventions": (_OWN, BORROWED),
    },
    SHRINKING: {"truncation with the same N": EQUAL_N_TRUNCATION},
}
_PARTS = (*ALONE, "both", EQUAL_N, REPLACED)  # variants that get no verdict if the full method has rows
_CONTROLS = ("pca", "random")  # projections without interventions


@dataclass(frozen=True)
class Question:
    """One of `QUESTIONS` about one method in one setting, with its answer.

    Attributes:
        name: key in `QUESTIONS`.
        parts: name of a baseline -> comparison of the method with it; None if the baseline has no rows.
        p: p-value of the intersection-union test, Holm-adjusted over the three questions.
    """

    name: str
    parts: Mapping[str, Comparison | None]
    p: float

    @property
    def yes(self) -> bool:
        """Whether the method is significantly ahead of all baselines."""
        return self.p <= ALPHA

    @property
    def answer(self) -> str:
        """Answer in words: "yes", "not shown", or the missing rows."""
        if self.yes:
            return "yes"
        return f"not asked, for want of {', '.join(self.missing)}" if self.missing else "not shown"

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the baselines without rows; the question is then not tested."""
        return tuple(name for name, one in self.parts.items() if one is None)


def judged(methods: Iterable[Method]) -> list[Method]:
    """Return the methods that get a verdict, in their order.

    These have the projection `fixed`, a projection with the role `method`, or are the user's own (imported, or a
    class). Placebos, methods fitted on a share of the pairs, parts of another method and methods with the released
    order of eigenvectors get no verdict.
    """
    every = [
        m
        for m in methods
        if (m.is_custom or m.projection == FIXED or m.of_projection.role == "method")
        and not (m.placebo or m.pairs_share is not None or m.order == "released")
    ]
    whole = {(m.projection, m.predictor) for m in every if m.projection_variant not in _PARTS}
    return [m for m in every if m.projection_variant not in _PARTS or (m.projection, m.predictor) not in whole]


def baselines(methods: Iterable[Method], method: Method) -> list[Method]:
    """Return the baselines of `QUESTIONS` and `fixed`, if they have rows.

    There are none if no part of the method has rows, nor for covariances shrunk by OAS: parts have those of the sample.
    """
    same = {(m.projection, m.variant): m for m in methods if m.predictor == method.predictor and m.order != "released"}
    kinds = [kind for parts in QUESTIONS.values() for kind in parts.values()]
    own = [kind for kind in kinds if kind[0] == _OWN and same.get(_kind(method, kind)) not in (None, method)]
    own = [] if "oas" in method.variant.split(", ") else own
    return [same[of] for kind in (*kinds, (FIXED, "")) if (of := _kind(method, kind)) in same] if own else []


def questions_for(compared: Iterable[Comparison], method: Method) -> tuple[Question, ...]:
    """Return the three questions about a method's gain."""
    made = {(one.baseline.projection, one.baseline.variant): one for one in compared if one.method == method}
    parts = {
        question: {name: made.get(_kind(method, kind)) for name, kind in kinds.items()}
        for question, kinds in QUESTIONS.items()
    }
    p = answered({name: [one.interval if one else None for one in kinds.values()] for name, kinds in parts.items()})
    return tuple(Question(name, of_one, p[name]) for name, of_one in parts.items())


def _kind(method: Method, kind: Kind) -> Kind:
    return (kind[0] or method.projection, kind[1])


@dataclass(frozen=True)
class Findings:
    """The comparisons of one setting.

    Attributes:
        compared: gains over plain prediction, under the setting's rule and again under its base rule; comparisons in
            `direct`, under the setting's rule; all other comparisons, under the base rule.
        missing: (method, baseline, reason) of comparisons that could not be made.
        requested: methods named by `--compare`, in the order of the option.
        direct: comparisons in `compared` that `--compare` names, except gains over plain prediction.
    """

    compared: tuple[Comparison, ...] = ()
    missing: tuple[tuple[Method, Method, str], ...] = ()
    requested: tuple[Method, ...] = ()
    direct: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Family:
    """Comparisons pooled over data sets.

    Attributes:
        settings: settings that differ only in the data set.
        members: pooled comparisons, one for each pair of methods that is compared on two or more data sets.
    """

    settings: tuple[Setting, ...]
    members: tuple[Overall, ...]


def comparisons(setting: Setting, selections: Selections, options: Options) -> Findings:
    """Compare methods with a verdict with plain prediction and with the baselines that may explain their gain."""
    if setting.protocol_class.looks_at_target:
        return Findings()
    known = {method.label: method for method in selections.compared}
    asked = dict.fromkeys(known[label] for pair in options.compare for label in pair if label in known)
    named = [(known[one], known[other]) for one, other in options.compare if one in known and other in known]
    gains = [{method, plain_for(method, selections.parts)} for method in asked]
    direct = [pair for pair in named if set(pair) not in gains]
    rule, every = selections.base_rule, judged(selections.parts)
    pairs: list[tuple[Method, Method, str]] = []
    for method in dict.fromkeys([*every, *(m for m in asked if not m.is_plain)]):
        plain = plain_for(method, selections.parts) or method.plain
        others = [*baselines(selections.compared, method), *_explaining(selections, method)]
        others = others if method in every and not method.imported else []
        pairs += [(method, plain, selections.rule), (method, plain, rule), *((method, m, rule) for m in others)]
    imported = [m for m in every if m.imported]
    pairs += [(m, other, rule) for m in every if not m.imported and m.projection != FIXED for other in imported]
    pairs += [(method, baseline, selections.rule) for method, baseline in direct]
    compared, missing = [], []
    for method, baseline, by in dict.fromkeys(pairs):
        one = compare(selections, method, by, baseline) if baseline in selections.compared else None
        if one is not None:
            compared.append(one)
        else:
            missing.append((method, baseline, why_not(selections, method, baseline)))
    of_both = [one for one in compared if one.rule == selections.rule and (one.method, one.baseline) in direct]
    return Findings(tuple(compared), tuple(dict.fromkeys(missing)), tuple(asked), tuple(of_both))


def check_requested(every: Sequence[Selections], asked: Sequence[tuple[str, str]]) -> None:
    """Check that all methods requested for comparison have rows.

    Raises:
        IcmBenchError: a label has no rows. The message names the label and the nearest known one.
    """
    known = sorted({method.label for selections in every for method in selections.compared})
    for label in dict.fromkeys(label for pair in asked for label in pair):
        if label not in known:
            raise IcmBenchError(f"--compare '{label}': no result rows have this method; {nearest(label, known)}")


def _explaining(selections: Selections, method: Method) -> list[Method]:
    """Return further baselines that may explain a gain: PCA, random, the best rival, and placebos.

    The best rival has the highest source score among rivals that use no labels. Placebos with several draws are left
    out, since `comparisons.p_value` ranks them. `borrowed` is left out, since `baselines` already has it.
    """
    same = [m for m in selections.parts if m.predictor == method.predictor]
    found = [m for name in _CONTROLS for m in same if m.projection == name and not m.variant]
    scores = {m: selections.picks(m, selections.base_rule).frame()["score"] for m in same if m.is_rival}
    found += [max(known, key=lambda m: scores[m].mean())] if (known := [m for m in scores if len(scores[m])]) else []
    return found + [
        m for m in same if m.placebo not in (None, BORROWED) and m.real == method and m not in selections.draws
    ]


def why_not(selections: Selections, method: Method, baseline: Method) -> str:
    """Return the reason why two methods could not be compared."""
    if baseline not in selections.compared:
        return "there are no such rows" + ("; add identity to sweep.projections" if baseline.is_plain else "")
    for one in (method, baseline):
        if there := selections.folds_present(one):
            return f"{one.label} has {there[0]} of {there[1]} folds"
    return "no seed has both on the same test images"


def overall(parts: Sequence[tuple[Setting, Findings]]) -> list[Family]:
    """Return a `Family` of pooled comparisons for each group of settings that differ only in the data set.

    If a data set has settings with several prompts, only settings with equal prompts are pooled.
    """
    families, groups = [], list[list[tuple[Setting, Findings]]]()
    for of_kind in grouped(parts, lambda part: part[0].without(*DATA_FIELDS)).values():
        if len({setting.dataset for setting, _ in of_kind}) == len(of_kind):
            groups.append(of_kind)
            continue
        by_prompts = grouped(of_kind, lambda part: part[0].prompts).values()
        groups += [group for group in by_prompts if len({setting.dataset for setting, _ in group}) == len(group)]
    for group in groups:
        every = [(setting.dataset, one) for setting, findings in group for one in findings.compared]
        pairs = grouped(every, lambda named: (named[1].method, named[1].baseline, named[1].rule))
        if members := [whole for named in pairs.values() if (whole := over_data_sets(named))]:
            families.append(Family(tuple(setting for setting, _ in group), tuple(members)))
    return families


@dataclass(frozen=True)
class Expected:
    """The known answer of a control data set: which components must be credited with the gain of shrinkage.

    Attributes:
        parts: exactly the components that must be credited: `interventions`, `environments`, both or none.
        predictor: name of the predictor in recipes.
        held_out: the held-out environment; None for the average of all.
    """

    parts: tuple[str, ...] = ()
    predictor: str = "zero_shot"
    held_out: str | None = None


@dataclass(frozen=True)
class ControlResult:
    """Result of a control data set with a known answer.

    Attributes:
        expected: the known answer.
        gain: shrinkage minus plain prediction.
        p: p-value of the gain, Holm-adjusted over all gains in the data set.
        questions: questions about the gain; empty if it is not significant.
        compared: comparisons behind the result.
    """

    expected: Expected
    gain: Comparison
    p: float
    questions: tuple[Question, ...]
    compared: tuple[Comparison, ...]

    @property
    def found(self) -> tuple[str, ...]:
        """Components credited with a gain."""
        return tuple(name for name in ALONE if any(one.name == name and one.yes for one in self.questions))

    @property
    def right(self) -> bool:
        """Whether exactly the expected components were credited."""
        return set(self.found) == set(self.expected.parts)

    def record(self) -> dict[str, object]:
        """Return the result as a record."""
        return {
            "predictor": self.expected.predictor,
            "held_out": self.expected.held_out or "average",
            "expected": " ".join(self.expected.parts),
            "found": " ".join(self.found),
            "right": self.right,
        }


def control_result(compared: Iterable[Comparison], expected: Expected) -> ControlResult | None:
    """Return the result of a control data set; None if shrinkage is not compared with plain prediction.

    Gains are tested and attributed as in reports. If `expected.held_out` is set, only this environment counts.
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
    return ControlResult(expected, gain, p, questions_for(looked, gain.method) if shown else (), tuple(looked))
