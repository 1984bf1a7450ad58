"""What explains a gain: three questions, and what a method must be ahead of for a yes (METHOD, section 11).

Each is an intersection-union test of `judging`. The environment means are credited where a method is ahead of itself
with interventions alone, as the rule chooses for that and with all but N as it was chosen for the method (two choices
end apart by chance, which no interval covers); interventions where it is ahead of environments alone, of isotropic
shrinkage with environments and of the interventions of another data set; shrinking where it is ahead of equal-N
truncation. The rule that keeps nothing back chooses on both sides: else they would tie at plain prediction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmark.method.evaluation.judging import ALPHA, answered
from reports.analysis.comparisons import Comparison
from reports.analysis.methods import ALONE, EQUAL_N, ICM, REPLACED, SHRINKAGE, Method

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


def plain_of(method: Method, methods: Iterable[Method]) -> Method:
    """Return the same, with or without rows."""
    return plain_for(method, methods) or method.plain


def baselines(methods: Iterable[Method], method: Method) -> list[Method]:
    """Return what a judged method is compared with to explain its gain; nothing of a method without parts of its own.

    Args:
        methods: all that have rows, see `Selections.compared`.
        method: one that is judged.
    """
    same = {(m.projection, m.variant): m for m in methods if m.predictor == method.predictor and m.order != "released"}
    kinds = [kind for parts in QUESTIONS.values() for kind in parts.values()]
    own = [kind for kind in kinds if kind[0] == _OWN and same.get(_kind(method, kind)) not in (None, method)]
    return [same[of] for kind in (*kinds, (FIXED, "")) if (of := _kind(method, kind)) in same] if own else []


def asked(compared: Iterable[Comparison], method: Method) -> tuple[Question, ...]:
    """Return the three questions, asked of a method.

    Args:
        compared: the comparisons of a setting.
        method: one that is judged, and whose gain is shown.
    """
    made = {(one.baseline.projection, one.baseline.variant): one for one in compared if one.method == method}
    parts = {
        question: {name: made.get(_kind(method, kind)) for name, kind in kinds.items()}
        for question, kinds in QUESTIONS.items()
    }
    p = answered({name: [one.interval if one else None for one in kinds.values()] for name, kinds in parts.items()})
    return tuple(Question(name, of_one, p[name]) for name, of_one in parts.items())


def _kind(method: Method, kind: Kind) -> Kind:
    return (kind[0] or method.projection, kind[1])
