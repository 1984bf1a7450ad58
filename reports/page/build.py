"""Build the page: one self-contained HTML file of at most `MAX_BYTES`, without external requests.

The first screen has the headline, a forest plot and a table, rendered by template.html and answer.html. Forest plots
have a line for each difference. Positions in them are in percent of the width, so text has the same size at any width.
The script page.js shows the rest from the data of data.py.
"""

import base64
import gzip
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from benchmark.common.terminal.escaping import escape_control_in
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from reports.analysis import findings, metrics
from reports.analysis.comparisons import Comparison, compare
from reports.analysis.methods import Method
from reports.analysis.selections import Predictions, Selections, SettingResults, complete_estimate
from reports.analysis.settings import BANNER, Options, Setting
from reports.analysis.verdicts import Answer, Standing, Verdict, best_of
from reports.analysis.verdicts import answer as answer_of
from reports.page import data
from reports.page.data import Plain, Thumbnails
from reports.render.cells import interval_text, number_text, value_text
from reports.render.formats import squeezed, template
from reports.render.table import GAP, Cell, Table
from reports.text import captions, sentences, verdicts
from reports.text.sentences import Origin
from reports.text.verdicts import capital, compared, headline, in_question, intervals, left_out, sentence

MAX_BYTES = 2_000_000  # `LEFT` in page.js states this number
PLANNED = "lodo_1se"  # preregistered selection rule of verdicts, see docs/preregistration.md
# Prefix of a key of the page's data -> description. If the page is too large, data are dropped in this order. New data
# of `page` need an entry here, and code in page.js that reads them.
_DROPPED = {
    "thumbs": "thumbnails of images",
    "copies-csv": "CSV of tables to be copied; the files in tables/ have it",
    "images-": "predictions of single images",
    "grids-": "the explorer",
    "classes-": "accuracy of classes",
    "copies-": "LaTeX and Markdown of tables to be copied; the files in tables/ have them",
    "rule-": "the answer by a rule that was not planned",
    "core-": "all but its line in the tables",
}


MAX_MARKS = 5  # lines of the forest plot
MAX_METHODS = 3  # methods in the table by environment, besides plain prediction
MAX_REQUESTED = 2  # methods with a column in the table by setting
MAX_ROWS = 8  # lines of the table by setting
MAX_NAMED = 6
_MINUS = "−"
_LAST = ("Most accurate", "The same, mean over classes", "Plain, worst environment")
_GAP: Plain = {"value": GAP}
Known = Mapping[Setting, tuple[Selections, Plain]]  # each setting with its rows and `data.core` of them


@dataclass(frozen=True)
class PageContent:
    """Content of a page.

    Attributes:
        origin: provenance of the rows.
        answer: answer of the report.
        results: settings, each with its rows.
        tables: tables of the report.
        options: options of the report.
        forms: name of a table -> format -> text: `html` for display, `tex`, `csv` and `md` for copying.
        predictions: setting -> predictions of single images, if stored.
        ledger: (name, value) pairs for the end of the page, such as the provenance of the rows.
        thumbnails: thumbnails of images; None (default) for none.
    """

    origin: Origin
    answer: Answer
    results: Sequence[SettingResults]
    tables: Sequence[Table]
    options: Options
    forms: Mapping[str, Mapping[str, str]]
    predictions: Mapping[Setting, Predictions] = field(default_factory=dict)
    ledger: Sequence[tuple[str, str]] = ()
    thumbnails: Thumbnails | None = None


def page(of: PageContent) -> bytes:
    """Return `index.html`. Equal input gives equal bytes."""
    results = of.results
    cores = {setting: data.core(setting, selections, of.options) for setting, selections in results}
    rule, screens = _by_rule(of, cores)
    every: dict[str, Any] = {f"rule-{one}": screen for one, screen in screens.items()}
    every["tables"] = [
        {
            "name": table.name,
            "ablation": table.name.startswith(("ablation", "selection")),
            "html": of.forms[table.name]["html"],
            # Keys by which page.js finds the setting of the table's numbers.
            "key": {name: table.context.get(name, "") for name in data.IN_CONTEXT},
            "columns": [dict(column.key) for column in table.columns],
            "lines": [dict(line.key) for _, line in table.lines()],
        }
        for table in of.tables
    ]
    for form in ("csv", "tex", "md"):
        every[f"copies-{form}"] = {one: texts[form] for one, texts in of.forms.items() if form in texts}
    if (small := of.thumbnails) is not None:
        webp = [base64.b64encode(sprite).decode() for sprite in small.sprites]
        every["thumbs"] = {"size": small.size, "rows": small.rows, "webp": webp}
    for k, (setting, selections) in enumerate(results):
        every[f"core-{k}"], every[f"classes-{k}"] = cores[setting], data.classes(selections)
        every[f"grids-{k}"], own = data.grids(selections), of.predictions.get(setting, {})
        every[f"images-{k}"] = data.predictions_of(selections, own, small.places if small else None)
    blobs = {key: pack(value) for key, value in every.items() if value or key == "tables"}
    random = sorted({setting.backbone for setting, _ in results if setting.random_weights})
    # Fields that identify settings, with the names that `Table.context` uses.
    settings = [
        {
            **{name: str(getattr(s, name)) for name in data.IN_CONTEXT if name != "backbone"},
            "backbone": s.backbone_label,
            "title": s.title,
            "banner": s.banner,
            "half": s.half_words.removeprefix(", "),
        }
        for s, _ in results
    ]
    head = {"settings": settings, "rule": rule}
    ablations, left_out = sum(one["ablation"] for one in every["tables"]), list[str]()
    shown = {
        "name": of.origin.name,
        "headline": with_minus(headline(of.answer)),
        "banner": BANNER if random else "",
        "random": random,
        "shown": screens[rule],
        "rule": rule,
        "planned": PLANNED,
        "ablations": ablations,
        "tables": len(of.tables) - ablations,
        "gaps": of.origin.missing,
        "ledger": of.ledger,
        "head": Markup(
            json.dumps(escape_control_in(head), separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
        ),
        **squeezed("css", ("reports.page", "page.css")),
        **squeezed("js", ("reports.page", "page.js")),
        "left_out": left_out,
    }
    return _fitting(shown, blobs, f"rule-{rule}", [setting.title for setting, _ in results])


def _fitting(shown: Mapping[str, Any], blobs: dict[str, str], kept: str, titles: Sequence[str]) -> bytes:
    """Return the page, after dropping data in the order of `_DROPPED` until it fits into `MAX_BYTES`."""
    waiting = _droppable({key: blob for key, blob in blobs.items() if key != kept}, titles)
    while True:
        rules = [key.removeprefix("rule-") for key in blobs if key.startswith("rule-")]
        explores = any(key.startswith("grids-") for key in blobs)
        made = template("reports.page", "template.html", escape_control_in)
        content = str(made.render(shown, blobs=blobs, rules=rules, explores=explores)).encode()
        excess = len(content) - MAX_BYTES
        if excess <= 0 or not waiting:
            return content
        while excess > 0 and waiting:  # drop several parts before rendering again
            key, words = waiting.pop(0)
            excess -= len(blobs.pop(key))
            shown["left_out"].append(words)


def _droppable(blobs: Mapping[str, str], titles: Sequence[str]) -> list[tuple[str, str]]:
    """Return (key, description) of data that can be dropped, in the order of dropping."""
    found: dict[str, str] = {}
    for start, words in _DROPPED.items():
        for key in sorted((key for key in blobs if key.startswith(start)), key=lambda key: -len(blobs[key])):
            number = key.rpartition("-")[2]
            found.setdefault(key, f"{titles[int(number)]}: {words}." if number.isdigit() else f"{words}.")
    return [*found.items()]


def _by_rule(of: PageContent, cores: Mapping[Setting, Plain]) -> tuple[str, dict[str, Plain]]:
    """Return the rule of the report, and for each rule the parts of the page that depend on it (name -> text)."""
    results, answer = of.results, of.answer
    fair = [cores[setting] for setting, _ in results if not setting.protocol_class.looks_at_target]
    rules = list(dict.fromkeys(one["name"] for core in fair for one in core["rules"]))
    default = answer.standings[0].rule if answer.standings else next(iter(rules), PLANNED)
    made, screens = template("reports.page", "answer.html", escape_control_in).module, {}
    for rule in dict.fromkeys([default, *rules]):
        known, other = results, ""
        if rule != default:
            having = {s for s, core in cores.items() if any(one["name"] == rule for one in core["rules"])}
            known = [(s, x.judged_by(rule) if s in having else x) for s, x in results]
            answer = answer_of(known, [findings.comparisons(s, x, of.options) for s, x in known])
            other = captions.rule_meaning(rule, results[0][0])
        screen = first_screen(answer, {setting: (selections, cores[setting]) for setting, selections in known})
        direct = [one for standing in answer.standings for one in standing.direct]
        every = [*map(sentence, answer.verdicts), *map(compared, direct), *intervals(answer)]
        every = [with_minus(words) for words in (*every, *left_out(answer), *sentences.decodability(known))]
        first = with_minus(headline(answer)), with_minus(how_sure(answer))
        # Short verdicts on the first methods: "CLIP-ICM: no difference found; ...".
        lead = next((one for one in answer.standings if one.verdicts), None)
        verdict_of = {one.method: one.kind_label for one in lead.verdicts} if lead else {}
        first_methods = [m for m in leading(lead) if m in verdict_of][:3] if lead else []
        screens[rule] = {
            "answer": made.answer(*first, other, rule, default, PLANNED, **screen),
            "sentences": made.sentences(every, rule, PLANNED),
            "every": made.forest_table(every_comparison(answer.verdicts), "All differences"),
            "short": "; ".join(f"{method.name}: {verdict_of[method]}" for method in first_methods),
        }
    return default, screens


def pack(value: object) -> str:
    """Return plain data as base64 of gzipped JSON; equal data give equal bytes."""
    text = json.dumps(escape_control_in(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


@dataclass(frozen=True)
class _Place:
    """A standing (setting and predictor) with its name, the rows of its setting, and the `data.core` of these rows."""

    standing: Standing
    name: str
    selections: Selections
    core: Plain

    @property
    def plain(self) -> Method | None:
        """Plain prediction; None without rows."""
        return next((one.method for one in self.standing.entries if one.method.is_plain), None)

    def minus_plain(self, method: Method, metric: Metric) -> Comparison | None:
        """Return the comparison with plain prediction by a metric; None for plain prediction, or if it has no rows."""
        plain, rule = self.plain, self.standing.rule
        return None if plain in (None, method) else compare(self.selections, method, rule, plain, metric=metric)

    def cells(self, method: Method | None) -> list[Plain]:
        """Return the cells of a method in the page's data: each environment, then the average."""
        results, methods = self.core["results"].get(self.standing.rule), list(self.selections.parts)
        found = results[methods.index(method)] if results and method in methods else None
        return found["cells"] if found else [{} for _ in (*self.core["environments"], "average")]

    def measured(self, method: Method, metric: Metric) -> Plain:
        """Return the average of a metric over held-out environments, and its difference to plain prediction."""
        made = self.minus_plain(method, metric)
        if made is not None:
            cell = _difference(made, metric)
            shown = {"v": metric.shown(made.accuracies[0]), "d": cell.value, "dl": cell.low, "dh": cell.high}
            return _shown(shown) | {"small": interval_text(cell, _MINUS)}
        value = self.standing.plain
        if metric in (ACCURACY, BALANCED):
            pooled = self.selections.pooled(method, self.standing.rule)
            alone = complete_estimate(self.selections, pooled, metric=metric)
            value = alone.interval.estimate if alone else math.nan
        return _GAP if math.isnan(value) else _shown({"v": metric.shown(value)})


def first_screen(answer: Answer, known: Known) -> dict[str, Any]:
    """Return the data of the first screen: forest plot and table of an answer, and a line on the tested data.

    `known` has the rows of each setting; their `Selections.rule` is the rule of the answer.
    """
    every = zip(answer.standings, answer.places, strict=True)
    places = [_Place(one, name, *known[one.setting]) for one, name in every if one.entries]
    alone = len({one.standing.setting for one in places}) == 1
    lead = next((one for one in places if one.standing.verdicts), places[0] if places else None)
    of, found = _gains_shown(answer, places, lead if alone else None)
    return {
        "about": _about(places, known, alone),
        "forest": _forest(found),
        "table": _by_environment(lead, places) if alone and lead else _by_setting(answer, places),
        "alone": alone,
        "of": f" ({of})" if of else "",
    }


def every_comparison(judged: Iterable[Verdict]) -> dict[str, Any] | None:
    """Return a forest plot of all comparisons of methods with a verdict, grouped by method; None if there are none.

    Comparisons by another rule than the verdict's are labelled with it.
    """
    found = []
    for one in judged:
        for made, metric in ((one.gain, one.metric), *((made, ACCURACY) for made in one.others)):
            if made is not None:
                by = "" if made.rule == one.rule else f", by {made.rule}"
                group, words = f"{one.method.name} · {one.where}", f"{_MINUS}\u00a0{made.baseline.name_in_sentence}{by}"
                found.append(_mark(words, made, metric, made is one.gain, group))
    return _forest(found)


def leading(standing: Standing) -> list[Method]:
    """Return the methods of a predictor in display order.

    The order is: requested methods, the paper's method, the method with the largest gain, the most accurate method, all
    methods with a verdict, the baselines of the questions about the gain, and all others by accuracy.
    """
    helping = best_of(standing.verdicts)
    parts = [made.baseline for q in (helping.questions if helping else ()) for made in q.parts.values() if made]
    best = [one.method for one in standing.entries if not one.method.is_plain]
    first = [one.method for one in standing.shown(0)]
    order = dict.fromkeys([*first, *best[:1], *(one.method for one in standing.verdicts), *parts, *best])
    return [method for method in order if method in best]


def how_sure(answer: Answer) -> str:
    """Return sentences on the certainty of the largest significant gain or, if there is none, of the first verdict."""
    one = best_of(answer.verdicts) or next(iter(answer.verdicts), None)
    if one is None:
        return ""
    places = zip(answer.standings, answer.places, strict=True)
    place = next(place for standing, place in places if any(one is v for v in standing.verdicts))
    name = f"{one.method.name}{f' ({place})' if place else ''}"
    first = f"{name} is ahead in {verdicts.ahead(one)} environments." if one.gain else verdicts.outcome(one)
    return " ".join([first, *verdicts.trust(one), *verdicts.intervals(answer)[:1]])


def _gains_shown(answer: Answer, places: Sequence[_Place], alone: _Place | None) -> tuple[str, Sequence[Plain]]:
    """Return the predictor or method that all gains share (or ""), and at most `MAX_MARKS` gains over plain prediction.

    For one setting, these are the gains of its methods. Methods with a verdict have adjusted p-values. For several
    settings, these are the gains of the headline. If there are more than `MAX_MARKS`, evenly spaced ones are taken,
    from the highest to the lowest.
    """
    if alone:
        judged, metric = {one.method: one.gain for one in alone.standing.verdicts}, alone.standing.metric
        made = {m: judged.get(m) or alone.minus_plain(m, metric) for m in leading(alone.standing)}
        gains = [_mark(m.name, one, metric, bool(judged.get(m))) for m, one in made.items() if one]
        return alone.standing.predictor if len(places) > 1 else "", gains[:MAX_MARKS]
    where = {id(one): place.name for place in places for one in place.standing.verdicts}
    found = [
        (_mark(one.method.name, one.gain, one.metric, judged=True), where[id(one)])
        for one in in_question(answer.verdicts)
        if one.gain and id(one) in where
    ]
    if len(found) > MAX_MARKS:
        found.sort(key=lambda one: -one[0]["estimate"])
        found = [found[round(k * (len(found) - 1) / (MAX_MARKS - 1))] for k in range(MAX_MARKS)]
    of = {gain["name"] for gain, _ in found}
    if len(of) == 1:
        return of.pop(), [gain | {"name": name} for gain, name in found]
    return "", [gain | {"name": f"{gain['name']} · {name}"} for gain, name in found]


def _by_environment(lead: _Place, places: Sequence[_Place]) -> Plain:
    """Return a table with a column for each method, and lines for held-out environments, means and other predictors."""
    where = lead.standing.setting.protocol_class.holdouts_in_words
    plain, methods = lead.plain, leading(lead.standing)[:MAX_METHODS]
    columns = [*([plain] if plain else []), *methods]
    results, environments = [lead.cells(method) for method in columns], lead.core["environments"]
    worst_first = sorted(range(len(environments)), key=lambda place: results[0][place].get("v", 100.0))
    lines: list[tuple[str, list[Plain]]] = [
        *((environments[k], [_shown(cells[k]) for cells in results]) for k in worst_first),
        ("Mean over environments", [_shown(cells[-1]) for cells in results]),
    ]
    metric = lead.standing.metric
    more: dict[str, Metric] = {capital(metric.title): metric} if metric != ACCURACY else {}
    more["Mean over classes"] = BALANCED
    lines += [(name, [lead.measured(method, one) for method in columns]) for name, one in more.items()]
    for other in places:
        if other is not lead:
            same = {(m.projection, m.order, m.variant): m for m in (one.method for one in other.standing.entries)}
            own = [same.get((method.projection, method.order, method.variant)) for method in columns]
            cells = [_shown(other.cells(method)[-1]) if method else _GAP for method in own]
            lines.append((f"Mean with {other.standing.predictor}", cells))
    return {
        "title": f"Accuracy on {where}{f' ({lead.standing.predictor})' if len(places) > 1 else ''}, %",
        "corner": "Held out",
        "columns": [method.name for method in columns],
        "rows": [{"name": name, "strong": name == "Mean over environments", "cells": cells} for name, cells in lines],
    }


def _by_setting(answer: Answer, places: Sequence[_Place]) -> Plain:
    """Return a table with a line for each standing (setting and predictor) and a column for each leading method."""
    requested = list(dict.fromkeys(one.method.name for one in in_question(answer.verdicts)))[:MAX_REQUESTED]
    rows = []
    for one in places[:MAX_ROWS]:
        of_plain, own = one.cells(one.plain), {verdict.method.name: verdict.method for verdict in one.standing.verdicts}
        cells = [_shown(of_plain[-1])]
        cells += [_shown(one.cells(own[name])[-1]) if name in own else _GAP for name in requested]
        best = next((entry.method for entry in one.standing.entries if not entry.method.is_plain), None)
        cells += [_shown(one.cells(best)[-1]) | {"small": best.name} if best else _GAP]
        cells += [one.measured(best, BALANCED) if best else _GAP]
        of_environments = zip(of_plain, one.core["environments"], strict=False)  # without the average
        lowest = min(((cell["v"], name) for cell, name in of_environments if "v" in cell), default=None)
        cells += [{"value": f"{lowest[0]:.1f}", "small": lowest[1]} if lowest else _GAP]
        rows.append({"name": one.name, "cells": cells})
    left = len(places) - len(rows)
    return {
        "title": f"Accuracy on {places[0].standing.setting.protocol_class.holdouts_in_words}, %" if places else "",
        "corner": "",
        "columns": ["Plain", *requested, *_LAST],
        "rows": rows,
        "more": f"{left} more stand in the tables below. " if left > 0 else "",
    }


def with_minus(words: str) -> str:
    """Return text with hyphens before negative numbers replaced by minus signs."""
    return re.sub(r"(?<![\w-])-(?=\d)", _MINUS, words)


def _shown(cell: Plain) -> Plain:
    """Return a cell of the page's data, formatted; `tone` is the side of 0 on which the difference's interval lies."""
    if "v" not in cell:
        return _GAP
    value, difference, low, high = with_minus(f"{cell['v']:.1f}"), *(cell.get(key) for key in ("d", "dl", "dh"))
    if difference is None:
        return {"value": value}
    tone = "" if low is None or high is None else "up" if low > 0 else "down" if high < 0 else ""
    return {"value": value, "difference": number_text(difference, Cell(signed=True), _MINUS), "tone": tone}


def _about(places: Sequence[_Place], known: Known, alone: bool) -> str:
    """Return a line on the tested data: data sets, backbones, environments, images, chance."""
    settings = list(dict.fromkeys(one.standing.setting for one in places)) or list(known)
    named = [[s.dataset for s in settings], [s.backbone_label for s in settings]]
    named.append([one.standing.predictor for one in places] if alone else [s.protocol for s in settings])
    words = []
    for names in map(list, map(dict.fromkeys, named)):
        more = f" and {len(names) - 5} more" if len(names) > MAX_NAMED else ""
        words.append(", ".join(names[:5] if more else names) + more)
    if not alone:
        return " · ".join([*words[:2], f"protocol {words[2]}"])
    selections, core = known[settings[0]]
    chance, majority = metrics.chance_and_majority(selections)
    words += [
        f"{len(core['environments'])} {settings[0].protocol_class.holdouts_in_words}, each in its turn",
        f"{captions.number(captions.total_size(selections).images_per_seed)} images in {len(core['classes'])} classes",
        f"guessing is right in {chance:.1f} %, naming the largest class every time in {majority:.1f} %",
    ]
    return " · ".join(words)


def _difference(made: Comparison, metric: Metric) -> Cell:
    """Return a difference as a cell in the display unit of the metric; without ends if it has no interval."""
    one, shown = made.interval, metric.shown
    has_ends = one.standard_error > 0 and not math.isnan(one.low)
    low, high = (shown(one.low), shown(one.high)) if has_ends else (None, None)
    return Cell(shown(one.estimate), low, high, signed=True)


def _mark(name: str, made: Comparison, metric: Metric, judged: bool, group: str = "") -> Plain:
    """Return a line of a forest plot before scaling. If `judged`, the adjusted p-value determines its kind."""
    cell, adjusted, estimate = _difference(made, metric), made.adjusted, made.interval.estimate
    sign = "better" if estimate > 0 else "worse"
    return {
        "name": name,
        "group": group,
        "estimate": estimate,
        "kind": "other" if not judged else sign if adjusted.differs else "open",
        "points": [v for v in (cell.value, cell.low, cell.high) if v is not None],
        "text": f"{value_text(cell, _MINUS)} {interval_text(cell, _MINUS)}".strip(),
        "p": "" if math.isnan(adjusted.p) else verdicts.p_words(adjusted.p),
    }


def _forest(marks: Sequence[Plain]) -> Plain | None:
    """Return marks by group on a common scale with symmetric ticks; None without marks."""
    if not marks:
        return None
    farthest = 1.02 * max(abs(v) for one in marks for v in one["points"])
    step = next((step for step in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0) if farthest <= 3 * step), None)
    reach = max(2, math.ceil(farthest / step)) * step if step else 100.0
    step = step or 50.0

    def place(value: float) -> float:
        return round(50 + 47 * max(-1.0, min(1.0, value / reach)), 2)

    groups: dict[str, list[Plain]] = {}
    for one in marks:
        x, *ends = map(place, one["points"])
        groups.setdefault(one["group"], []).append(one | {"x": x, "ends": ends})
    ticks, of_tick = range(-round(reach / step), round(reach / step) + 1), Cell(signed=True, decimals=int(step < 1))
    return {"groups": groups, "ticks": [(place(k * step), number_text(k * step, of_tick, _MINUS)) for k in ticks]}
