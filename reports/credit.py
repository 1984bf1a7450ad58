"""What a gain of shrinkage is made of: which comparisons are made, and what may be credited with it. No arithmetic.

The rules stand in docs/preregistration.md. Environment means are credited where shrinkage is ahead of the plain space
and of shrinkage that knows interventions alone: as the rule chooses for that, and with all but N as it was chosen for
shrinkage, since two choices end apart by chance, which no interval covers. Interventions are credited only where it is
ahead of environments alone, of isotropic shrinkage with environments, and of the interventions of another data set. All
differences are adjusted together (Holm), all methods choose by the same rule.
"""

from collections.abc import Iterable, Mapping, Sequence

from reports.comparisons import Comparison, points_with_ends
from reports.methods import ALONE, EQUAL_N, ICM, PLAIN, REPLACED, SHRINKAGE, Method

INTERVENTIONS, ENVIRONMENTS = ALONE  # parts that may be credited
Kind = tuple[str, str]  # projection and variant
BORROWED = "borrowed"
OURS: Kind = (SHRINKAGE, "")
_PLAIN: Kind = (PLAIN, "")
_FIXED: Kind = ("fixed", "")
EQUAL_N_TRUNCATION: Kind = (ICM, EQUAL_N)
_BORROWED_NAME = "borrowed interventions"
# Ahead of both, or environment means are not credited.
_WITHOUT_MEANS: Mapping[Kind, str] = {
    (SHRINKAGE, INTERVENTIONS): "interventions alone",
    (SHRINKAGE, REPLACED): "interventions alone with all else as chosen",
}
# Ahead of all three, or interventions are not credited.
_WITHOUT_INTERVENTIONS: Mapping[Kind, str] = {
    (SHRINKAGE, "environments"): "environments alone",
    ("isotropic_environments", ""): "isotropic + environments",
    (SHRINKAGE, BORROWED): _BORROWED_NAME,
}
_PAIRS: tuple[tuple[Kind, Kind], ...] = (
    (OURS, _PLAIN),
    (OURS, EQUAL_N_TRUNCATION),
    *((OURS, kind) for kind in _WITHOUT_MEANS),
    *((OURS, kind) for kind in _WITHOUT_INTERVENTIONS),
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
        _part("environment means", _WITHOUT_MEANS, made),
        _part("interventions", _WITHOUT_INTERVENTIONS, made),
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
    without = {INTERVENTIONS: _WITHOUT_INTERVENTIONS, ENVIRONMENTS: _WITHOUT_MEANS}
    return tuple(part for part, kinds in without.items() if all(_shown(made.get((OURS, kind))) for kind in kinds))


def _by_kinds(compared: Sequence[Comparison]) -> dict[tuple[Kind, Kind], Comparison]:
    return {(_kind(one.method), _kind(one.baseline)): one for one in compared}


def _shown(one: Comparison | None) -> bool:
    return one is not None and _ahead(one)


def _part(part: str, against: Mapping[Kind, str], made: Mapping[tuple[Kind, Kind], Comparison]) -> str:
    """Return in words whether a part is credited, and by which comparison, or for want of which it is not."""
    known = {name: made[OURS, kind] for kind, name in against.items() if (OURS, kind) in made}
    missing = [name for name in against.values() if name not in known]
    behind = [name for name, one in known.items() if not _ahead(one)]
    if behind:
        named = ", ".join(f"{name} ({_points(known[name])})" for name in behind)
        words = f"{part}: not credited, for it is not shown to be ahead of {named}"
        only_borrowed = not missing and behind == [_BORROWED_NAME]
        return f"{words}: the encoder's sensitivity to such changes, not this data's" if only_borrowed else words
    if missing:
        return f"{part}: not credited, for want of rows of {', '.join(missing)}"
    name, least = min(known.items(), key=lambda item: item[1].interval.estimate)
    return f"{part}: credited ({_points(least)} over {name}, the least of {len(known)})"


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
