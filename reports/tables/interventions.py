"""How many pairs, kinds and strengths are needed: methods by intervention set, each chosen for alone.

All kinds, each alone, each left out, shares of the pairs; of many sets those with equally many kinds together.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd

from reports.analysis.methods import ICM, SHRINKAGE, Method
from reports.tables.ablations import MAX_VALUES, Together, Value, ablation, of_rows, times_picked
from reports.tables.by_method import Entry
from reports.tables.spec import Request, TableSpec
from reports.text.intervention_sets import OTHERS, kinds_of, pairs_of, place_of, set_words

TEXT = json.dumps({"name": "text"})  # of the kinds of a set: pairs of texts
_OWN = (
    "A share of the pairs (of the images whose views enter C_d) is a method of its own, which the rule does not choose "
    "beside the others.",
    "Strengths are kinds with parameters: a set of each is a line. Intervals are not adjusted for the number of sets.",
)
_Sets = Mapping[str, pd.DataFrame]  # name of an intervention set -> its rows
_MANY = (
    f"Of more than {MAX_VALUES} sets those with equally many kinds are one line: their mean, in brackets the lowest "
    "and the highest set. Sets of all kinds, one kind and all but one also have a line each, where they are "
    f"{MAX_VALUES} or fewer."
)


def _of_images(sets: _Sets) -> _Sets:
    """Return the sets without pairs of texts."""
    return {name: rows for name, rows in sets.items() if TEXT not in kinds_of(rows)}


def _of_texts(sets: _Sets) -> _Sets:
    """Return the sets with pairs of texts, and the largest of the others; nothing where there are no texts."""
    images = {name: rows for name, rows in _of_images(sets).items() if pairs_of(rows) == 1}
    texts = {name: rows for name, rows in sets.items() if TEXT in kinds_of(rows)}
    largest = max(images, key=lambda name: len(kinds_of(images[name])), default=None)
    beside = {largest: images[largest]} if largest is not None else {}
    return beside | texts if texts else {}


def _takes_part(method: Method) -> bool:
    """Say whether a method has a block: CLIP-ICM, truncation and shrinkage, without placebos and parts of methods."""
    ours = method.projection in (ICM, SHRINKAGE) and method.order != "released"
    return ours and not (method.is_control or method.placebo) and method == method.with_all_pairs


def _values(entry: Entry, sets: _Sets) -> list[Value | Together]:
    """Return a value for each set; of many for those that say most, then for each number of kinds."""
    every = frozenset().union(*map(kinds_of, sets.values()))
    places = {name: place_of(kinds_of(part), every, pairs_of(part)) for name, part in sets.items()}
    picks = entry.selections.picks(entry.method, entry.request.rule)

    def value(name: str) -> Value:
        part, share = sets[name], pairs_of(sets[name])
        times = times_picked(picks, "intervention_set", name) if share == 1 else None
        return of_rows(entry, part, set_words(name, kinds_of(part), every, share), times)

    ordered = sorted(sets, key=lambda name: places[name])
    values = {name: value(name) for name in ordered}
    if len(ordered) <= MAX_VALUES:
        return [*values.values()]
    telling = [name for name in ordered if places[name][0] < OTHERS]
    shown = telling if len(telling) <= MAX_VALUES else []
    alike: dict[tuple[bool, float, int], list[str]] = {}
    for name in ordered:
        share = pairs_of(sets[name])
        alike.setdefault((share < 1, share, len(kinds_of(sets[name]))), []).append(name)
    groups = [(alike[key], key) for key in sorted(alike) if len(alike[key]) > 1 or alike[key][0] not in shown]
    together = [_together([values[name] for name in names], share, kinds) for names, (_, share, kinds) in groups]
    return [*(values[name] for name in shown), *together]


def _together(values: Sequence[Value], share: float, kinds: int) -> Value | Together:
    """Return what stands for the sets with a share of the pairs and a number of kinds: of one set itself."""
    if len(values) == 1:
        return values[0]
    pairs = f", {100 * share:g} % of the pairs" if share < 1 else ""
    return Together(f"{len(values)} sets of {kinds} kind{'' if kinds == 1 else 's'}{pairs}", tuple(values))


def _by_set(name: str, what: str, of: Callable[[_Sets], _Sets]) -> TableSpec[Value | Together]:
    """Return the spec of a table of CLIP-ICM and shrinkage by some of the intervention sets, each chosen for alone."""

    def values(entry: Entry) -> list[Value | Together]:
        return _values(entry, of(entry.selections.by_set(entry.method)))

    def own(request: Request) -> Iterator[str]:
        yield from _OWN
        every = (x.by_set(m) for _, x in request.described for m in x.parts if _takes_part(m))
        yield _MANY if any(len(of(sets)) > MAX_VALUES for sets in every) else ""

    return ablation(name, what, "Interventions", values, _takes_part, own)


IMAGES = _by_set("ablation_interventions", "intervention set", _of_images)
# Sets with pairs of texts stand beside the largest set of images alone.
TEXTS = _by_set("ablation_text", "interventions on images, on texts or on both", _of_texts)
