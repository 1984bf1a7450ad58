"""The first screen of the page: one forest and one table beside the headline, as plain data for the template."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison, compare
from reports.analysis.methods import Method
from reports.analysis.metrics import chance_and_majority
from reports.analysis.settings import Setting
from reports.analysis.verdicts import Answer, Standing, best_of
from reports.analysis.whole import whole_estimate
from reports.page.data import Plain
from reports.page.forest import Difference, forest, signed
from reports.render.table import GAP
from reports.text.captions import number, whole_size
from reports.text.headline import capital, in_question, short_name
from reports.text.verdicts import ahead, intervals, outcome, trust

MAX_MARKS = 5  # lines of the forest
MAX_METHODS = 3  # beside plain prediction in the table
MAX_ASKED = 2  # of these with a column each where lines are settings
MAX_ROWS = 8  # of a table with a line for each setting
MAX_NAMED = 6
_OF_BEST = ("Most accurate", "The same, mean over classes")
Placed = Sequence[tuple[Standing, str]]  # what tells each from the others
Known = Mapping[Setting, tuple[Selections, Plain]]  # each setting with its rows and `data.core` of them


def first_screen(answer: Answer, known: Known) -> dict[str, Any]:
    """Return forest and table of an answer, and in a line what was tested.

    Args:
        answer: of a report, by one rule.
        known: its settings, with their rows judged by that rule.
    """
    placed = [(one, p) for one, p in zip(answer.standings, answer.places, strict=True) if one.entries]
    standings = [one for one, _ in placed]
    alone = len({one.setting for one in standings}) == 1
    lead = next((one for one in standings if one.verdicts), standings[0] if standings else None)
    of, found = _gains_shown(answer, placed, lead if alone else None, known)
    return {
        "about": _about(standings, known, alone),
        "forest": forest(found),
        "table": _by_environment(lead, standings, known) if alone and lead else _by_setting(answer, placed, known),
        "alone": alone,
        "of": f" ({of})" if of else "",
    }


def leading(standing: Standing) -> list[Method]:
    """Return the methods of a predictor in the order in which they are shown.

    First the methods in question (the user's and the paper's), then the largest gain, the method with the
    highest accuracy, the parts that explain a gain, and all others by accuracy.
    """
    helping = best_of(standing.verdicts)
    parts = [made.baseline for q in (helping.questions if helping else ()) for made in q.parts.values() if made]
    best = [one.method for one in standing.entries if not one.method.is_plain]
    asked = [one.method for one in standing.shown(0)]
    order = dict.fromkeys([*asked, *best[:1], *parts, *best])
    return [method for method in order if method in best]


def how_sure(answer: Answer) -> str:
    """Return how sure the largest gain is that is shown, else that of the first method; empty without any."""
    one = best_of(answer.verdicts) or next(iter(answer.verdicts), None)
    if one is None:
        return ""
    places = zip(answer.standings, answer.places, strict=True)
    place = next(place for standing, place in places if any(one is v for v in standing.verdicts))
    name = f"{capital(short_name(one.method))}{f' ({place})' if place else ''}"
    first = f"{name} is ahead in {ahead(one)} environments." if one.gain else outcome(one)
    return " ".join([first, *trust(one), *intervals(answer)[:1]])


def named(methods: Iterable[Method]) -> dict[Method, str]:
    """Return methods with their short names; of two with the same one the second has its whole name."""
    names: dict[Method, str] = {}
    for method in methods:
        short = short_name(method) if method.imported else capital(short_name(method))
        names[method] = method.projection_label if short in names.values() else short
    return names


def _plain_of(standing: Standing) -> Method | None:
    return next((one.method for one in standing.entries if one.method.is_plain), None)


def _minus_plain(standing: Standing, method: Method, known: Known, metric: Metric) -> Comparison | None:
    plain, (selections, _) = _plain_of(standing), known[standing.setting]
    return None if plain in (None, method) else compare(selections, method, standing.rule, plain, metric=metric)


def _gains_shown(
    answer: Answer, placed: Placed, alone: Standing | None, known: Known
) -> tuple[str, Sequence[Difference]]:
    """Return what all of them are of, and at most `MAX_MARKS` gains over plain prediction.

    Of one setting they are its methods', else those of the headline. Of more than there are lines those at even steps
    from the highest gain to the lowest.
    """
    if alone:
        gains = _gains(alone, named(leading(alone)), known)
        return alone.predictor if len(placed) > 1 else "", gains[:MAX_MARKS]
    found = [
        (Difference("", capital(short_name(one.method)), one.gain, judged=True, metric=one.metric), where)
        for one in in_question(answer.verdicts)
        for standing, where in placed
        if one.gain and any(one is verdict for verdict in standing.verdicts)
    ]
    if len(found) > MAX_MARKS:
        found.sort(key=lambda one: -one[0].made.interval.estimate)
        found = [found[round(k * (len(found) - 1) / (MAX_MARKS - 1))] for k in range(MAX_MARKS)]
    of = {gain.name for gain, _ in found}
    if len(of) == 1:
        return of.pop(), [replace(gain, name=where) for gain, where in found]
    return "", [replace(gain, name=f"{gain.name} · {where}") for gain, where in found]


def _gains(standing: Standing, names: Mapping[Method, str], known: Known) -> list[Difference]:
    """Return what methods gain, by the adjusted p-value of those that are judged."""
    judged = {one.method: one.gain for one in standing.verdicts}
    made = {m: judged.get(m) or _minus_plain(standing, m, known, standing.metric) for m in names}
    return [Difference("", names[m], one, bool(judged.get(m)), standing.metric) for m, one in made.items() if one]


def _by_environment(standing: Standing, standings: Sequence[Standing], known: Known) -> Plain:
    """Return methods as columns and held-out environments as lines, then means, other predictors' too."""
    selections, core = known[standing.setting]
    plain, methods = _plain_of(standing), leading(standing)[:MAX_METHODS]
    names, columns = named(methods), [*([plain] if plain else []), *methods]
    results = [_cells(core, selections, method, standing.rule) for method in columns]
    worst_first = sorted(range(len(core["environments"])), key=lambda place: results[0][place].get("v", 100.0))
    rows: list[Plain] = [
        {"name": core["environments"][place], "cells": [_shown(cells[place]) for cells in results]}
        for place in worst_first
    ]
    rows.append({"name": "Mean over environments", "strong": True, "cells": [_shown(cells[-1]) for cells in results]})
    if standing.metric != ACCURACY:
        title = standing.metric.title[:1].upper() + standing.metric.title[1:]
        rows.append({"name": title, "cells": [_of_metric(standing, m, known, standing.metric) for m in columns]})
    rows.append({"name": "Mean over classes", "cells": [_of_metric(standing, m, known, BALANCED) for m in columns]})
    for other in standings:
        if other != standing:
            same = [_same(other, method) for method in columns]
            own = [_shown(_cells(core, selections, m, other.rule)[-1]) if m else _GAP for m in same]
            rows.append({"name": f"Mean with {other.predictor}", "cells": own})
    heads = [names.get(method, "Plain") for method in columns]
    return {"title": _title(standing, alone=len(standings) == 1), "corner": "Held out", "columns": heads, "rows": rows}


def _same(other: Standing, method: Method) -> Method | None:
    """Return the method with another predictor."""
    key = (method.projection, method.order, method.variant)
    methods = (one.method for one in other.entries)
    return next((m for m in methods if (m.projection, m.order, m.variant) == key), None)


def _by_setting(answer: Answer, placed: Placed, known: Known) -> Plain:
    """Return a line for each setting and predictor: plain prediction, the headline's methods, the best, the worst."""
    heads = {one.name: capital(short_name(one.method)) for one in in_question(answer.verdicts)}
    asked = list(heads)[:MAX_ASKED]
    rows = []
    for one, where in placed[:MAX_ROWS]:
        (selections, core), plain = known[one.setting], _plain_of(one)
        of_plain = _cells(core, selections, plain, one.rule)
        own = {verdict.name: verdict.method for verdict in one.verdicts}
        cells = [_shown(_cells(core, selections, own[n], one.rule)[-1]) if n in own else _GAP for n in asked]
        best = next((entry.method for entry in one.entries if not entry.method.is_plain), None)
        if best is None:
            cells += [_GAP, _GAP]
        else:
            shown = _shown(_cells(core, selections, best, one.rule)[-1])
            cells += [shown | {"small": named([best])[best]}, _of_metric(one, best, known, BALANCED)]
        places = zip(of_plain, core["environments"], strict=False)  # without the average
        lowest = min(((cell["v"], name) for cell, name in places if "v" in cell), default=None)
        worst = {"value": f"{lowest[0]:.1f}", "small": lowest[1]} if lowest else _GAP
        rows.append({"name": where, "cells": [_shown(of_plain[-1]), *cells, worst]})
    left = len(placed) - len(rows)
    return {
        "title": _title(placed[0][0]) if placed else "",
        "corner": "",
        "columns": ["Plain", *(heads[name] for name in asked), *_OF_BEST, "Plain, worst environment"],
        "rows": rows,
        "more": f"{left} more stand in the tables below. " if left > 0 else "",
    }


_GAP: Plain = {"value": GAP}


def _cells(core: Plain, selections: Selections, method: Method | None, rule: str) -> list[Plain]:
    """Return the cells of a method as the page's data has them: each environment, then the average."""
    results = core["results"].get(rule)
    found = results[list(selections.parts).index(method)] if results and method in selections.parts else None
    nothing: list[Plain] = [{} for _ in (*core["environments"], "average")]
    return found["cells"] if found else nothing


def _shown(cell: Plain) -> Plain:
    """Return a cell of the page's data as it is printed; its colour says on which side of 0 its interval is."""
    if "v" not in cell:
        return _GAP
    difference, low, high = (cell.get(key) for key in ("d", "dl", "dh"))
    if difference is None:
        return {"value": f"{cell['v']:.1f}"}
    tone = "" if low is None or high is None else "up" if low > 0 else "down" if high < 0 else ""
    return {"value": f"{cell['v']:.1f}", "difference": signed(difference), "tone": tone}


def _of_metric(standing: Standing, method: Method, known: Known, metric: Metric) -> Plain:
    """Return a metric of a method, averaged over held-out environments, and its difference to plain prediction."""
    selections, _ = known[standing.setting]
    made = _minus_plain(standing, method, known, metric)
    if made is not None:
        value, difference = made.accuracies[0], Difference("", "", made, judged=False, metric=metric)
        estimate, low, high = difference.points
        ends = {"small": f"[{signed(low)}, {signed(high)}]"} if low is not None and high is not None else {}
        return _shown({"v": metric.shown(value), "d": estimate, "dl": low, "dh": high}) | ends
    if metric not in (ACCURACY, BALANCED):
        return {"value": f"{metric.shown(standing.plain):.1f}"} if standing.plain == standing.plain else _GAP
    alone = whole_estimate(selections, selections.pooled(method, standing.rule), metric=metric)
    return _GAP if alone is None else {"value": f"{metric.shown(alone.interval.estimate):.1f}"}


def _title(standing: Standing, alone: bool = True) -> str:
    predictor = "" if alone else f" ({standing.predictor})"
    return f"Accuracy on {standing.setting.protocol_class.holdouts_in_words}{predictor}, %"


def _about(standings: Sequence[Standing], known: Known, alone: bool) -> str:
    """Return in a line what was tested."""
    settings = list(dict.fromkeys(one.setting for one in standings)) or list(known)
    words = [_listed(s.dataset for s in settings), _listed(s.backbone_label for s in settings)]
    if not alone:
        return " · ".join([*words, f"protocol {_listed(s.protocol for s in settings)}"])
    selections, core = known[settings[0]]
    chance, majority = chance_and_majority(selections)
    return " · ".join([
        *words,
        _listed(one.predictor for one in standings),
        f"{len(core['environments'])} {settings[0].protocol_class.holdouts_in_words}, each in its turn",
        f"{number(whole_size(selections).images_per_seed)} images in {len(core['classes'])} classes",
        f"guessing is right in {chance:.1f} %, naming the largest class every time in {majority:.1f} %",
    ])  # fmt: skip


def _listed(names: Iterable[str]) -> str:
    known = list(dict.fromkeys(names))
    return ", ".join(known) if len(known) <= MAX_NAMED else f"{', '.join(known[:5])} and {len(known) - 5} more"
