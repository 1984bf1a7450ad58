"""Write the page: everything in one file, at most `MAX_BYTES`, that asks for nothing from anywhere."""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from benchmark.common.visible import visible, visible_in
from reports.analysis.chosen import Selections
from reports.analysis.findings import comparisons
from reports.analysis.options import Options
from reports.analysis.predictions import MethodPredictions
from reports.analysis.settings import BANNER, Setting
from reports.analysis.verdicts import Answer
from reports.analysis.verdicts import answer as answered
from reports.page import data
from reports.page.answer import first_screen, how_sure, leading, named
from reports.page.data import Plain
from reports.page.forest import every_comparison
from reports.page.thumbnails import Thumbnails
from reports.render.html import html
from reports.render.table import Table
from reports.text.captions import rule_meaning
from reports.text.headline import headline
from reports.text.sentences import decodability
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
    name: str,
    answer: Answer,
    described: Described,
    tables: Sequence[Table],
    options: Options,
    gaps: Sequence[str] = (),
    forms: Mapping[str, Mapping[str, str]] | None = None,
    predictions: Mapping[Setting, Sequence[MethodPredictions]] | None = None,
    ledger: Sequence[tuple[str, str]] = (),
    thumbnails: Thumbnails | None = None,
) -> bytes:
    """Return `index.html`. Equal input gives equal bytes.

    Args:
        name: what the report is called.
        answer: by the rule of each setting.
        described: each setting with its rows.
        tables: what is printed.
        options: what the reader asks for.
        gaps: sentences on what is missing.
        forms: name of a table -> `tex`, `csv` and `md` of it, which the page copies as they are.
        predictions: setting -> what its methods take single images for; None where nothing is known.
        ledger: (what, value) of devices, versions and the like, for the end of the page.
        thumbnails: small images, which stand beside the names of images; None for none.
    """
    places = None if thumbnails is None else thumbnails.places
    cores = {setting: data.core(setting, selections, options) for setting, selections in described}
    parts = [
        {
            "core": cores[setting],
            "classes": data.classes(selections),
            "grids": data.grids(selections) or None,
            "images": data.predictions_of(selections, (predictions or {}).get(setting, ()), places),
        }
        for setting, selections in described
    ]
    rule, screens = _by_rule(answer, described, cores, options)
    copies = {
        f"copies-{form}": {one: texts[form] for one, texts in (forms or {}).items() if form in texts}
        for form in ("csv", "tex", "md")
    }
    every: dict[str, Any] = {
        **{f"rule-{one}": screen for one, screen in screens.items()},
        "tables": [_as_data(table) for table in tables],
        **{key: texts for key, texts in copies.items() if texts},
        **({} if thumbnails is None else {"thumbs": _sprites(thumbnails)}),
        **{f"{key}-{k}": value for k, part in enumerate(parts) for key, value in part.items() if value is not None},
    }
    blobs, left_out = {key: pack(value) for key, value in every.items()}, list[str]()
    random = sorted({setting.backbone for setting, _ in described if setting.random_weights})
    head = {"settings": [data.described_setting(setting) for setting, _ in described], "rule": rule}
    shown = {
        "name": name,
        "headline": headline(answer),
        "banner": BANNER if random else "",
        "random": random,
        "shown": screens[rule],
        "rule": rule,
        "planned": PLANNED,
        "ablations": sum(one["ablation"] for one in every["tables"]),
        "tables": sum(not one["ablation"] for one in every["tables"]),
        "gaps": list(gaps),
        "ledger": list(ledger),
        "head": Markup(json.dumps(visible_in(head), separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")),
    }
    titles = [setting.title for setting, _ in described]
    waiting = _droppable({key: blob for key, blob in blobs.items() if key != f"rule-{rule}"}, titles)
    content = _rendered(shown, blobs, left_out)
    while len(content) > MAX_BYTES and waiting:
        excess = len(content) - MAX_BYTES
        while excess > 0 and waiting:  # a page of very many settings is not made anew for each part
            key, words = waiting.pop(0)
            excess -= len(blobs.pop(key))
            left_out.append(words)
        content = _rendered(shown, blobs, left_out)
    return content


def _droppable(blobs: Mapping[str, str], titles: Sequence[str]) -> list[tuple[str, str]]:
    """Return keys of data that can be left out, in the order in which they are, and what each is in words."""
    found: dict[str, str] = {}
    for start, words in _DROPPED.items():
        for key in sorted((key for key in blobs if key.startswith(start)), key=lambda key: -len(blobs[key])):
            number = key.rpartition("-")[2]
            found.setdefault(key, f"{titles[int(number)]}: {words}." if number.isdigit() else f"{words}.")
    return [*found.items()]


def _rendered(shown: Mapping[str, Any], blobs: Mapping[str, str], left_out: Sequence[str]) -> bytes:
    css, js = _squeezed("page.css"), _squeezed("page.js")
    code = {"css": Markup(css), "js": Markup(js), "css_hash": _hash(css), "js_hash": _hash(js)}
    rules = [key.removeprefix("rule-") for key in blobs if key.startswith("rule-")]
    explores = any(key.startswith("grids-") for key in blobs)
    text = _template("template.html").render(
        **shown, **code, blobs=blobs, left_out=left_out, rules=rules, explores=explores
    )
    return str(text).encode()


def _by_rule(
    answer: Answer, described: Described, cores: Mapping[Setting, Plain], options: Options
) -> tuple[str, dict[str, Plain]]:
    """Return the rule of the report, then rule -> what depends on it and stands on the page in words: HTML by part."""
    fair = [cores[setting] for setting, _ in described if not setting.protocol_class.looks_at_target]
    rules = list(dict.fromkeys(one["name"] for core in fair for one in core["rules"]))
    default = answer.standings[0].rule if answer.standings else next(iter(rules), PLANNED)
    made, screens = _template("answer.html").module, {}
    for rule in dict.fromkeys([default, *rules]):
        known, other = described, ""
        if rule != default:
            there = [any(one["name"] == rule for one in cores[setting]["rules"]) for setting, _ in described]
            known = [(s, x.judged_by(rule) if has else x) for (s, x), has in zip(described, there, strict=True)]
            answer = answered(known, [comparisons(setting, selections, options) for setting, selections in known])
            other = rule_meaning(rule, described[0][0])
        screen = first_screen(answer, {setting: (selections, cores[setting]) for setting, selections in known})
        asked = [one for standing in answer.standings for one in standing.direct]
        said = [*map(sentence, answer.verdicts), *map(compared, asked), *intervals(answer)]
        said += [*left_out(answer), *decodability(known)]
        screens[rule] = {
            "answer": made.answer(headline(answer), how_sure(answer), other, rule, default, PLANNED, **screen),
            "sentences": made.sentences(said, rule, PLANNED),
            "every": made.forest_table(every_comparison(answer.verdicts), "All differences"),
            "short": _short(answer),
        }
    return default, screens


def _short(answer: Answer) -> str:
    """Return in a few words the verdicts on the first methods: "CLIP-ICM: no difference found; ..."."""
    lead = next((one for one in answer.standings if one.verdicts), None)
    if lead is None:
        return ""
    names = named(leading(lead))
    said = {one.method: one.said for one in lead.verdicts}
    return "; ".join([f"{name}: {said[method]}" for method, name in names.items() if method in said][:3])


def _sprites(thumbnails: Thumbnails) -> dict[str, Any]:
    webp = [base64.b64encode(sprite).decode() for sprite in thumbnails.sprites]
    return {"size": thumbnails.size, "rows": thumbnails.rows, "webp": webp}


def pack(value: object) -> str:
    """Return plain data as gzip in base64, with equal bytes for equal data."""
    text = json.dumps(visible_in(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _as_data(table: Table) -> dict[str, Any]:
    """Return a table as HTML, with the keys by which its numbers are found in the settings."""
    return {
        "name": table.name,
        "ablation": table.name.startswith(_OF_ABLATIONS),
        "html": html(table),
        "key": {name: table.context.get(name, "") for name in data.IN_CONTEXT},
        "columns": [dict(column.key) for column in table.columns],
        "lines": [dict(line.key) for _, line in table.lines()],
    }


@lru_cache(maxsize=2)
def _template(name: str) -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    return environment.from_string(_asset(name))


def _shown(value: Any) -> Any:
    return visible(value) if type(value) is str else value


def _asset(name: str) -> str:
    return files("reports.page").joinpath(name).read_text(encoding="utf-8")


def _squeezed(name: str) -> str:
    """Return CSS or JavaScript without indentation, empty lines and lines of comment."""
    lines = (line.strip() for line in _asset(name).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
