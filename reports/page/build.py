"""Write the page: everything in one file, at most `MAX_BYTES`, that asks for nothing from anywhere."""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from benchmark.common.terminal.escaping import visible_in
from reports.analysis import findings, verdicts
from reports.analysis.chosen import Selections
from reports.analysis.options import Options
from reports.analysis.predictions import Predictions
from reports.analysis.settings import BANNER, Setting
from reports.page import data
from reports.page.answer import every_comparison, first_screen, how_sure, leading, named, with_minus
from reports.page.data import Plain, Thumbnails
from reports.render.html import template
from reports.render.table import Table
from reports.text import captions, sentences
from reports.text.headline import headline
from reports.text.origin import Origin
from reports.text.verdicts import compared, intervals, left_out, sentence

MAX_BYTES = 2_000_000
PLANNED = "lodo_1se"  # by which verdicts were planned to be, see docs/preregistration.md
# Data by the beginning of their names, in the order in which they are left out where the page would be too large.
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
_OF_ABLATIONS = ("ablation", "selection")  # how names of their tables begin
Described = Sequence[tuple[Setting, Selections]]


def page(
    origin: Origin,
    answer: verdicts.Answer,
    described: Described,
    tables: Sequence[Table],
    options: Options,
    forms: Mapping[str, Mapping[str, str]],
    predictions: Mapping[Setting, Predictions] | None = None,
    ledger: Sequence[tuple[str, str]] = (),
    thumbnails: Thumbnails | None = None,
) -> bytes:
    """Return `index.html`. Equal input gives equal bytes.

    Args:
        origin: where the rows come from, and what is missing.
        answer: by the rule of each setting.
        described: each setting with its rows.
        tables: what is printed.
        options: what the reader asks for.
        forms: name of a table -> its `html`, and `tex`, `csv` and `md` of it, which the page copies as they are.
        predictions: setting -> what its methods take single images for; None where nothing is known.
        ledger: (what, value) of devices, versions and the like, for the end of the page.
        thumbnails: small images, which stand beside the names of images; None for none.
    """
    cores = {setting: data.core(setting, selections, options) for setting, selections in described}
    rule, screens = _by_rule(answer, described, cores, options)
    every: dict[str, Any] = {f"rule-{one}": screen for one, screen in screens.items()}
    every["tables"] = [_as_data(table, forms[table.name]["html"]) for table in tables]
    for form in ("csv", "tex", "md"):
        every[f"copies-{form}"] = {one: texts[form] for one, texts in forms.items() if form in texts}
    if thumbnails is not None:
        webp = [base64.b64encode(sprite).decode() for sprite in thumbnails.sprites]
        every["thumbs"] = {"size": thumbnails.size, "rows": thumbnails.rows, "webp": webp}
    places = None if thumbnails is None else thumbnails.places
    for k, (setting, selections) in enumerate(described):
        every[f"core-{k}"], every[f"classes-{k}"] = cores[setting], data.classes(selections)
        every[f"grids-{k}"] = data.grids(selections)
        every[f"images-{k}"] = data.predictions_of(selections, (predictions or {}).get(setting, {}), places)
    blobs = {key: pack(value) for key, value in every.items() if value or key == "tables"}
    random = sorted({setting.backbone for setting, _ in described if setting.random_weights})
    head = {"settings": [data.described_setting(setting) for setting, _ in described], "rule": rule}
    ablations, left_out = sum(one["ablation"] for one in every["tables"]), list[str]()
    shown = {
        "name": origin.name,
        "headline": with_minus(headline(answer)),
        "banner": BANNER if random else "",
        "random": random,
        "shown": screens[rule],
        "rule": rule,
        "planned": PLANNED,
        "ablations": ablations,
        "tables": len(tables) - ablations,
        "gaps": origin.missing,
        "ledger": ledger,
        "head": Markup(json.dumps(visible_in(head), separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")),
        **_squeezed("css"),
        **_squeezed("js"),
        "left_out": left_out,
    }
    titles = [setting.title for setting, _ in described]
    waiting = _droppable({key: blob for key, blob in blobs.items() if key != f"rule-{rule}"}, titles)
    while len(content := _rendered(shown, blobs)) > MAX_BYTES and waiting:
        excess = len(content) - MAX_BYTES
        while excess > 0 and waiting:  # a page of very many settings is not made anew for each part
            key, words = waiting.pop(0)
            excess -= len(blobs.pop(key))
            left_out.append(words)
    return content


def _rendered(shown: Mapping[str, Any], blobs: Mapping[str, str]) -> bytes:
    rules = [key.removeprefix("rule-") for key in blobs if key.startswith("rule-")]
    explores = any(key.startswith("grids-") for key in blobs)
    made = template("reports.page", "template.html", visible_in)
    return str(made.render(shown, blobs=blobs, rules=rules, explores=explores)).encode()


def _droppable(blobs: Mapping[str, str], titles: Sequence[str]) -> list[tuple[str, str]]:
    """Return keys of data that can be left out, in the order in which they are, and what each is in words."""
    found: dict[str, str] = {}
    for start, words in _DROPPED.items():
        for key in sorted((key for key in blobs if key.startswith(start)), key=lambda key: -len(blobs[key])):
            number = key.rpartition("-")[2]
            found.setdefault(key, f"{titles[int(number)]}: {words}." if number.isdigit() else f"{words}.")
    return [*found.items()]


def _by_rule(
    answer: verdicts.Answer, described: Described, cores: Mapping[Setting, Plain], options: Options
) -> tuple[str, dict[str, Plain]]:
    """Return the rule of the report, then rule -> what depends on it and stands on the page in words: HTML by part."""
    fair = [cores[setting] for setting, _ in described if not setting.protocol_class.looks_at_target]
    rules = list(dict.fromkeys(one["name"] for core in fair for one in core["rules"]))
    default = answer.standings[0].rule if answer.standings else next(iter(rules), PLANNED)
    made, screens = template("reports.page", "answer.html", visible_in).module, {}
    for rule in dict.fromkeys([default, *rules]):
        known, other = described, ""
        if rule != default:
            having = {s for s, core in cores.items() if any(one["name"] == rule for one in core["rules"])}
            known = [(s, x.judged_by(rule) if s in having else x) for s, x in described]
            answer = verdicts.answer(known, [findings.comparisons(s, x, options) for s, x in known])
            other = captions.rule_meaning(rule, described[0][0])
        screen = first_screen(answer, {setting: (selections, cores[setting]) for setting, selections in known})
        asked = [one for standing in answer.standings for one in standing.direct]
        said = [*map(sentence, answer.verdicts), *map(compared, asked), *intervals(answer)]
        said = [with_minus(words) for words in (*said, *left_out(answer), *sentences.decodability(known))]
        first = with_minus(headline(answer)), with_minus(how_sure(answer))
        screens[rule] = {
            "answer": made.answer(*first, other, rule, default, PLANNED, **screen),
            "sentences": made.sentences(said, rule, PLANNED),
            "every": made.forest_table(every_comparison(answer.verdicts), "All differences"),
            "short": _short(answer),
        }
    return default, screens


def _short(answer: verdicts.Answer) -> str:
    """Return in a few words the verdicts on the first methods: "CLIP-ICM: no difference found; ..."."""
    lead = next((one for one in answer.standings if one.verdicts), None)
    said = {one.method: one.said for one in lead.verdicts} if lead else {}
    names = named(leading(lead)) if lead else {}
    return "; ".join([f"{name}: {said[method]}" for method, name in names.items() if method in said][:3])


def pack(value: object) -> str:
    """Return plain data as gzip in base64, with equal bytes for equal data."""
    text = json.dumps(visible_in(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _as_data(table: Table, html: str) -> dict[str, Any]:
    """Return a table as HTML, with the keys by which its numbers are found in the settings."""
    return {
        "name": table.name,
        "ablation": table.name.startswith(_OF_ABLATIONS),
        "html": html,
        "key": {name: table.context.get(name, "") for name in data.IN_CONTEXT},
        "columns": [dict(column.key) for column in table.columns],
        "lines": [dict(line.key) for _, line in table.lines()],
    }


def _squeezed(form: str) -> dict[str, str]:
    """Return CSS or JavaScript without indentation, empty lines and lines of comment, and its hash."""
    lines = files("reports.page").joinpath(f"page.{form}").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in map(str.strip, lines) if line and not line.startswith("//"))
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {form: Markup(text), f"{form}_hash": f"sha256-{digest}"}
