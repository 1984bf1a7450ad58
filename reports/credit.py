"""What a gain of shrinkage is made of: which comparisons are made, and what may be credited with it. No arithmetic.

The rules stand in docs/preregistration.md: the environments' means are credited where shrinkage is ahead of the plain
space and of shrinkage that knows interventions alone; interventions only where it is ahead of environments alone, of
isotropic shrinkage with environments, and of the interventions of another data set. All differences are adjusted
together (Holm), all methods choose by the same rule.
"""

from collections.abc import Iterable, Mapping, Sequence

from reports.comparisons import Comparison, points_with_ends
from reports.methods import ALONE, EQUAL_N, ICM, PLAIN, SHRINKAGE, Method

INTERVENTIONS, ENVIRONMENTS = ALONE  # parts that may be credited
Kind = tuple[str, str]  # projection and variant
BORROWED = "borrowed"
OURS: Kind = (SHRINKAGE, "")
_PLAIN: Kind = (PLAIN, "")
_FIXED: Kind = ("fixed", "")
EQUAL_N_TRUNCATION: Kind = (ICM, EQUAL_N)
_INTERVENTIONS: Kind = (SHRINKAGE, "interventions")
_BORROWED_NAME = "borrowed interventions"
# Ahead of all three, or interventions are not credited.
_WITHOUT_THESE: Mapping[Kind, str] = {
    (SHRINKAGE, "environments"): "environments alone",
    ("isotropic_environments", ""): "isotropic + environments",
    (SHRINKAGE, BORROWED): _BORROWED_NAME,
}
_PAIRS: tuple[tuple[Kind, Kind], ...] = (
    (OURS, _PLAIN),
    (OURS, EQUAL_N_TRUNCATION),
    (OURS, _INTERVENTIONS),
    *((OURS, kind) for kind in _WITHOUT_THESE),
    (OURS, _FIXED),
    (_FIXED, _PLAIN),
)


def pairs(methods: Iterable[Method], predictor: str) -> list[tuple[Method, Method]]:
    """Return which of some methods are compared for a predictor, method and baseline; those without rows are left out.

    Args:
        methods: all that have rows.
        predictor: as methods name it.
    """
    known = {_kind(m): m for m in methods if m.predictor == predictor and m.order != "released"}
    return [(known[ours], known[theirs]) for ours, theirs in _PAIRS if ours in known and theirs in known]


def credit(compared: Sequence[Comparison], predictor: str) -> list[str]:
    """Return what a gain of shrinkage is made of, in words; nothing where shrinkage was not compared.

    Args:
        compared: the comparisons of a predictor, adjusted together.
        predictor: in words.
    """
    made = _by_kinds(compared)
    if (OURS, _PLAIN) not in made:
        return []
    gain = made[OURS, _PLAIN]
    head = f"What shrinkage gains for {predictor}:"
    if not _ahead(gain):
        return [f"{head} no gain over the plain space is shown ({_points(gain)}), so there is nothing to credit."]
    parts = [
        f"{_points(gain)} over the plain space",
        _environments(made.get((OURS, _INTERVENTIONS))),
        _interventions({kind: made.get((OURS, kind)) for kind in _WITHOUT_THESE}),
        _shrinking(made.get((OURS, EQUAL_N_TRUNCATION))),
        _selection(made.get((OURS, _FIXED)), made.get((_FIXED, _PLAIN))),
    ]
    return [f"{head} {'; '.join(parts)}."]


def credited(compared: Sequence[Comparison]) -> tuple[str, ...]:
    """Return which of `interventions` and `environments` are credited with a gain of shrinkage.

    Args:
        compared: the comparisons of a predictor, adjusted together.
    """
    made = _by_kinds(compared)
    if not _shown(made.get((OURS, _PLAIN))):
        return ()
    without = [made.get((OURS, kind)) for kind in _WITHOUT_THESE]
    parts = {INTERVENTIONS: all(map(_shown, without)), ENVIRONMENTS: _shown(made.get((OURS, _INTERVENTIONS)))}
    return tuple(name for name, is_credited in parts.items() if is_credited)


def _by_kinds(compared: Sequence[Comparison]) -> dict[tuple[Kind, Kind], Comparison]:
    return {(_kind(one.method), _kind(one.baseline)): one for one in compared}


def _shown(one: Comparison | None) -> bool:
    return one is not None and _ahead(one)


def _environments(one: Comparison | None) -> str:
    if one is None:
        return "environment means: not compared"
    verdict = "credited" if _ahead(one) else "not credited"
    return f"environment means: {verdict} ({_points(one)} over interventions alone)"


def _interventions(against: Mapping[Kind, Comparison | None]) -> str:
    missing = [name for kind, name in _WITHOUT_THESE.items() if against[kind] is None]
    made = {name: one for kind, name in _WITHOUT_THESE.items() if (one := against[kind]) is not None}
    behind = [f"{name} ({_points(one)})" for name, one in made.items() if not _ahead(one)]
    if behind:
        words = f"interventions: not credited, for it is not shown to be ahead of {', '.join(behind)}"
        only_borrowed = not missing and [name for name, one in made.items() if not _ahead(one)] == [_BORROWED_NAME]
        return f"{words}: the encoder's sensitivity to such changes, not this data's" if only_borrowed else words
    if missing:
        return f"interventions: not credited, for want of rows of {', '.join(missing)}"
    name, least = min(made.items(), key=lambda item: item[1].interval.estimate)
    return f"interventions: credited ({_points(least)} over {name}, the least of three)"


def _shrinking(one: Comparison | None) -> str:
    if one is None:
        return "shrinking instead of truncating: not compared"
    words = "credited" if _ahead(one) else "not credited"
    return f"shrinking instead of truncating: {words} ({_points(one)} over truncation that chooses among the same N)"


def _selection(added: Comparison | None, alone: Comparison | None) -> str:
    if added is None or alone is None:
        return "nothing chosen: not compared"
    return f"with nothing chosen {_points(alone)} over the plain space, and choosing adds {_points(added)}"


def _ahead(one: Comparison) -> bool:
    return one.adjusted.differs and one.interval.estimate > 0


def _points(one: Comparison) -> str:
    points, _, ends = points_with_ends(one).partition(" ")
    return f"{points} points {ends}".rstrip()


def _kind(method: Method) -> Kind:
    return method.projection, method.variant
