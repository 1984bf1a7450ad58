"""Which methods of a setting are compared with which, and what several data sets say together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark.common.errors import IcmBenchError, nearest
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison, Overall, compare, over_data_sets
from reports.analysis.credit import BORROWED, FIXED, baselines, judged, plain_of
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.settings import Setting

_CONTROLS = ("pca", "random")  # which use no intervention


@dataclass(frozen=True)
class Missing:
    """Two methods that were not compared, and why: the whole of the sentence's end."""

    method: Method
    baseline: Method
    why: str


@dataclass(frozen=True)
class Findings:
    """The comparisons of a setting: of each judged method its gain, then what else it is compared with.

    Attributes:
        compared: gains by the rule, the same by the rule that keeps nothing back, and all others by that.
        missing: those that could not be made.
        asked: methods that the reader names, in that order.
        direct: those of `compared` that the reader asks for, without those that are a gain.
    """

    compared: tuple[Comparison, ...] = ()
    missing: tuple[Missing, ...] = ()
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
    """Compare what is judged with plain prediction, and with what could explain its gain away.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        options: what the reader asks for.
    """
    if setting.protocol_class.looks_at_target:
        return Findings()
    known = {method.label: method for method in selections.compared}
    asked = dict.fromkeys(known[label] for pair in options.compare for label in pair if label in known)
    pairs = [(known[one], known[other]) for one, other in options.compare if one in known and other in known]
    gains = [{method, plain_of(method, selections.parts)} for method in asked]
    direct = [pair for pair in pairs if set(pair) not in gains]
    compared, missing = [], []
    for method, baseline, rule in _pairs(selections, asked, direct):
        one = compare(selections, method, rule, baseline) if baseline in selections.compared else None
        if one is not None:
            compared.append(one)
        else:
            missing.append(Missing(method, baseline, why_not(selections, method, baseline)))
    of_both = [one for one in compared if one.rule == selections.rule and (one.method, one.baseline) in direct]
    return Findings(tuple(compared), tuple(dict.fromkeys(missing)), tuple(asked), tuple(of_both))


def _pairs(
    selections: Selections, asked: Iterable[Method], direct: Sequence[tuple[Method, Method]]
) -> list[tuple[Method, Method, str]]:
    """Return method, baseline and rule of all comparisons, each once."""
    rule, pairs = selections.base_rule, list[tuple[Method, Method, str]]()
    every = judged(selections.parts)
    for method in dict.fromkeys([*every, *(m for m in asked if not m.is_plain)]):
        plain = plain_of(method, selections.parts)
        others = [*baselines(selections.compared, method), *_explaining(selections, method)]
        others = others if method in every and not method.imported else []
        pairs += [(method, plain, selections.rule), (method, plain, rule), *((method, m, rule) for m in others)]
    imported = [m for m in every if m.imported]
    pairs += [(m, other, rule) for m in every if not m.imported and m.projection != FIXED for other in imported]
    pairs += [(method, baseline, selections.rule) for method, baseline in direct]
    return list(dict.fromkeys(pairs))


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
    several draws the rank says more, see `reports.analysis.placebos`; `borrowed` is compared with already.
    """
    same = [m for m in selections.parts if m.predictor == method.predictor]
    found = [m for name in _CONTROLS for m in same if m.projection == name and not m.variant]
    scores = {m: selections.picks(m, selections.base_rule)["score"] for m in same if m.is_rival}
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
    kinds: dict[tuple[object, ...], list[tuple[Setting, Findings]]] = {}
    for setting, findings in parts:
        kinds.setdefault(setting.without_data, []).append((setting, findings))
    families = []
    for of_kind in kinds.values():
        for alike in _each_set_once(of_kind):
            pairs: dict[tuple[Method, Method, str], list[tuple[str, Comparison]]] = {}
            for setting, findings in alike:
                for one in findings.compared:
                    pairs.setdefault((one.method, one.baseline, one.rule), []).append((setting.dataset, one))
            settings = tuple(setting for setting, _ in alike)
            if members := [whole for named in pairs.values() if (whole := over_data_sets(named))]:
                families.append(Family(settings, tuple(members)))
    return families


def _each_set_once(parts: list[tuple[Setting, Findings]]) -> list[list[tuple[Setting, Findings]]]:
    if len({setting.dataset for setting, _ in parts}) == len(parts):
        return [parts]
    by_prompts: dict[tuple[str, ...], list[tuple[Setting, Findings]]] = {}
    for setting, findings in parts:
        by_prompts.setdefault(setting.prompts, []).append((setting, findings))
    return [alike for alike in by_prompts.values() if len({setting.dataset for setting, _ in alike}) == len(alike)]
