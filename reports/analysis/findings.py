"""Which methods of a setting are compared with which, what explains a gain, and what several data sets say together.

What explains a gain are three questions, with what a method must be ahead of for a yes (METHOD, section 11).

Each is an intersection-union test (see `multiple_testing`). The environment means are credited if a method is ahead of
itself with interventions alone, as the rule chooses for that and with all but N as it was chosen for the method (two
choices end apart by chance, which no interval covers); interventions where it is ahead of environments alone, of
isotropic shrinkage with environments and of the interventions of another data set; shrinking where it is ahead of
equal-N truncation. The rule that keeps nothing back chooses on both sides: else they would tie at plain prediction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.method.evaluation.multiple_testing import ALPHA, answered, holm
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison, Overall, compare, over_data_sets
from reports.analysis.methods import ALONE, EQUAL_N, ICM, REPLACED, SHRINKAGE, Method
from reports.analysis.settings import OF_DATA, Options, Setting, grouped

INTERVENTIONS, ENVIRONMENTS = ALONE  # which may be credited; so may SHRINKING
SHRINKING = "shrinking"
BORROWED = "borrowed"
FIXED = "fixed"  # shrinkage with nothing chosen: a control that is judged, since it can hurt
Kind = tuple[str, str]  # projection and variant
OURS: Kind = (SHRINKAGE, "")
EQUAL_N_TRUNCATION: Kind = (ICM, EQUAL_N)
_OWN = ""  # in the place of a projection: the method's own
# Question -> what a method must be ahead of, by name.
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
_PARTS = (*ALONE, "both", EQUAL_N, REPLACED)  # variants that are no method of their own beside the whole
_CONTROLS = ("pca", "random")  # which use no intervention


@dataclass(frozen=True)
class Question:
    """One of `QUESTIONS`, asked of one method in one setting.

    Attributes:
        name: of the question.
        parts: name -> what the method is ahead of, or is not; None for want of rows.
        p: of the whole question, adjusted by Holm over the three.
    """

    name: str
    parts: Mapping[str, Comparison | None]
    p: float

    @property
    def yes(self) -> bool:
        """Whether the method is shown to be ahead of all parts."""
        return self.p <= ALPHA

    @property
    def answer(self) -> str:
        """Yes, not shown, or for want of which rows it was not asked."""
        if self.yes:
            return "yes"
        return f"not asked, for want of {', '.join(self.missing)}" if self.missing else "not shown"

    @property
    def missing(self) -> tuple[str, ...]:
        """The parts for want of which it was not asked."""
        return tuple(name for name, one in self.parts.items() if one is None)


def judged(methods: Iterable[Method]) -> list[Method]:
    """Return the methods that are judged, in their order.

    They are those of the role `method`, what the user brings (imported, or a class of the user's own), and `fixed`;
    never placebos, parts of the pairs, parts of another method, or the order of eigenvectors of the released code.
    """
    every = [
        m
        for m in methods
        if (m.brought or m.projection == FIXED or m.of_projection.role == "method")
        and not (m.placebo or m.pairs_share is not None or m.order == "released")
    ]
    whole = {(m.projection, m.predictor) for m in every if m.projection_variant not in _PARTS}
    return [m for m in every if m.projection_variant not in _PARTS or (m.projection, m.predictor) not in whole]


def plain_for(method: Method, methods: Iterable[Method]) -> Method | None:
    """Return plain prediction with a method's predictor, of an imported one with the first; None without rows."""
    same = (m for m in methods if m.is_plain and (method.imported or m.predictor == method.predictor))
    return next(same, None)


def baselines(methods: Iterable[Method], method: Method) -> list[Method]:
    """Return what explains a judged method's gain by comparison; nothing of a method without parts of its own."""
    same = {(m.projection, m.variant): m for m in methods if m.predictor == method.predictor and m.order != "released"}
    kinds = [kind for parts in QUESTIONS.values() for kind in parts.values()]
    own = [kind for kind in kinds if kind[0] == _OWN and same.get(_kind(method, kind)) not in (None, method)]
    return [same[of] for kind in (*kinds, (FIXED, "")) if (of := _kind(method, kind)) in same] if own else []


def asked(compared: Iterable[Comparison], method: Method) -> tuple[Question, ...]:
    """Return the three questions, asked of a method."""
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
    """The comparisons of a setting: of each judged method its gain, then what else it is compared with.

    Attributes:
        compared: gains by the rule, the same by the rule that keeps nothing back, and all others by that.
        missing: method, baseline and why they could not be compared: the whole of the sentence's end.
        asked: methods that the reader names, in that order.
        direct: those of `compared` that the reader asks for, without those that are a gain.
    """

    compared: tuple[Comparison, ...] = ()
    missing: tuple[tuple[Method, Method, str], ...] = ()
    asked: tuple[Method, ...] = ()
    direct: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Family:
    """What several data sets say together.

    Attributes:
        settings: which differ in the data set alone.
        members: a comparison over data sets for each pair of methods that two of them or more compare.
    """

    settings: tuple[Setting, ...]
    members: tuple[Overall, ...]


def comparisons(setting: Setting, selections: Selections, options: Options) -> Findings:
    """Compare what is judged with plain prediction, and with what could explain its gain away."""
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


def check_asked(every: Sequence[Selections], asked: Sequence[tuple[str, str]]) -> None:
    """Refuse methods that are to be compared and that no setting has.

    Raises:
        IcmBenchError: a label is unknown; names it and the nearest one.
    """
    known = sorted({method.label for selections in every for method in selections.compared})
    for label in dict.fromkeys(label for pair in asked for label in pair):
        if label not in known:
            raise IcmBenchError(f"--compare '{label}': there are no rows of it; {nearest(label, known)}")


def _explaining(selections: Selections, method: Method) -> list[Method]:
    """Return what else could explain a gain away: PCA, random, the best rival, and placebos.

    The rival is the one that looks at no label and whose source score under the rule is highest. Of placebos with
    several draws the rank says more, see `comparisons.p_value`; `borrowed` is compared with already.
    """
    same = [m for m in selections.parts if m.predictor == method.predictor]
    found = [m for name in _CONTROLS for m in same if m.projection == name and not m.variant]
    scores = {m: selections.picks(m, selections.base_rule).frame()["score"] for m in same if m.is_rival}
    found += [max(known, key=lambda m: scores[m].mean())] if (known := [m for m in scores if len(scores[m])]) else []
    return found + [
        m for m in same if m.placebo not in (None, BORROWED) and m.real == method and m not in selections.draws
    ]


def why_not(selections: Selections, method: Method, baseline: Method) -> str:
    """Return why two methods are not compared."""
    if baseline not in selections.compared:
        return "there are no such rows" + ("; add identity to sweep.projections" if baseline.is_plain else "")
    for one in (method, baseline):
        if there := selections.folds_there(one):
            return f"{one.label} has {there[0]} of {there[1]} folds"
    return "no seed has both on the same test images"


def overall(parts: Sequence[tuple[Setting, Findings]]) -> list[Family]:
    """Return what settings that differ in the data set alone say together: a family for each of their kinds.

    Of a data set that comes with several prompts, only settings with the same prompts are taken together.
    """
    families, groups = [], list[list[tuple[Setting, Findings]]]()
    for of_kind in grouped(parts, lambda part: part[0].without(*OF_DATA)).values():
        if len({setting.dataset for setting, _ in of_kind}) == len(of_kind):
            groups.append(of_kind)
            continue
        by_prompts = grouped(of_kind, lambda part: part[0].prompts).values()
        groups += [alike for alike in by_prompts if len({setting.dataset for setting, _ in alike}) == len(alike)]
    for alike in groups:
        every = [(setting.dataset, one) for setting, findings in alike for one in findings.compared]
        pairs = grouped(every, lambda named: (named[1].method, named[1].baseline, named[1].rule))
        if members := [whole for named in pairs.values() if (whole := over_data_sets(named))]:
            families.append(Family(tuple(setting for setting, _ in alike), tuple(members)))
    return families


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
class ControlResult:
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


def control_result(compared: Iterable[Comparison], expected: Expected) -> ControlResult | None:
    """Return what was found in a data set; None where it was not looked for.

    Gains are judged and explained as everywhere; with one environment held out, by the intervals of that one.
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
    return ControlResult(expected, gain, p, asked(looked, gain.method) if shown else (), tuple(looked))
