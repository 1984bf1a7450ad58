"""Write the page: everything in one file, at most `MAX_BYTES`, that asks for nothing from anywhere."""

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import lru_cache, partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from benchmark.common.visible import visible, visible_in
from benchmark.method.evaluation.judging import BALANCED_ONLY, HELPS, HURTS, METRIC_ONLY, TRADES
from reports.analysis.chosen import Selections
from reports.analysis.options import Options
from reports.analysis.predictions import MethodPredictions
from reports.analysis.robustness import lines_of
from reports.analysis.settings import BANNER, Setting
from reports.analysis.verdicts import Answer, Verdict
from reports.page import data
from reports.page.forest import forests, signed
from reports.page.thumbnails import Thumbnails
from reports.render.table import GAP, Cell, Table
from reports.text.headline import headline
from reports.text.verdicts import sentence, unjudged

MAX_BYTES = 2_000_000
MAX_CARDS = 4  # verdicts that stand open, those of a difference first; the others are one click away
# What is dropped first of a setting where the page would be too large, and what it is in words.
_DROPPED = (("details", "predictions of single images"), ("grids", "the explorer"), ("classes", "accuracy of classes"))
MAIN = "main"  # the table that stands in the page without JavaScript too, and can be copied in any case
_TONES = {HELPS: "good", METRIC_ONLY: "warn", BALANCED_ONLY: "warn", TRADES: "warn", HURTS: "bad"}


def page(
    name: str,
    answer: Answer,
    described: Sequence[tuple[Setting, Selections]],
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
        answer: verdicts, and what has none.
        described: each setting with its rows.
        tables: what is printed; that named `main`, or the first, stands in the page without JavaScript too.
        options: what the reader asks for.
        gaps: sentences on what is missing.
        forms: name of a table -> `tex`, `csv` and `md` of it, which the page copies as they are.
        predictions: setting -> what its methods take single images for; None where nothing is known.
        ledger: (what, value) of devices, versions and the like, for the end of the page.
        thumbnails: small images, which stand beside the names of images; None for none.
    """
    places = None if thumbnails is None else thumbnails.places
    parts = [
        {
            "core": data.core(setting, selections, lines, options),
            "classes": data.classes(selections),
            "grids": data.grids(selections) or None,
            "details": data.details_of(selections, (predictions or {}).get(setting, ()), places),
        }
        for (setting, selections), lines in zip(described, lines_of(described), strict=True)
    ]
    packed = [{key: pack(value) for key, value in part.items() if value is not None} for part in parts]
    titles = [setting.title for setting, _ in described]
    images = {} if thumbnails is None else {"thumbs": pack(_sprites(thumbnails))}
    copied = {key: dict(of_one) for key, of_one in (forms or {}).items()}
    shared = _Shared([as_data(table) for table in tables], copied, forests(answer.verdicts)[1] is not None)
    left_out = list[str]()

    def made() -> bytes:
        head = {
            "name": name,
            "settings": [
                {**data.described_setting(s), "has": sorted(p)} for (s, _), p in zip(described, packed, strict=True)
            ],
            "rule": answer.verdicts[0].rule if answer.verdicts else None,
        }
        parts = {f"{key}-{k}": b for k, part in enumerate(packed) for key, b in part.items()}
        blobs = {"shared": shared.packed, **images, **parts}
        return _render(name, answer, described, tables, gaps, ledger, head, blobs, left_out, shared.every)

    return _fitting(made, [*_of_images(images), *_droppable(packed, titles, shared)], left_out)


class _Shared:
    """What belongs to no setting: tables, and their texts to be copied; and whether all comparisons are listed.

    Args:
        tables: as `as_data` returns them.
        forms: name of a table -> form -> text.
        every: whether there is a list of all comparisons.
    """

    def __init__(self, tables: list[dict[str, Any]], forms: dict[str, dict[str, str]], every: bool) -> None:
        self._content, self._forms, self.every = {"tables": tables, "forms": forms}, forms, every
        self.packed = pack(self._content)

    def have(self, *forms: str) -> bool:
        """Return whether tables but the main one have texts of some forms."""
        return any(form in of_one for name, of_one in self._forms.items() if name != MAIN for form in forms)

    def drop(self, *forms: str) -> int:
        """Leave out forms of all tables but the main one; return how many bytes that spares."""
        before = len(self.packed)
        for name in self._forms.keys() - {MAIN}:
            self._forms[name] = {form: text for form, text in self._forms[name].items() if form not in forms}
        self.packed = pack(self._content)
        return before - len(self.packed)

    def drop_comparisons(self) -> int:
        """Leave out the list of all comparisons; return more than that can spare, so that the page is made anew."""
        self.every = False
        return MAX_BYTES


_Part = tuple[Callable[[], int], str]  # drops what it is of and returns how many bytes that spares; what that is


def _fitting(made: Callable[[], bytes], waiting: list[_Part], left_out: list[str]) -> bytes:
    """Return the page without what waits to be left out, one after the other, until it is small enough."""
    content = made()
    while len(content) > MAX_BYTES and waiting:
        excess = len(content) - MAX_BYTES
        while excess > 0 and waiting:  # a page of very many settings is not made anew for each part
            drop, words = waiting.pop(0)
            excess -= drop()
            left_out.append(words)
        content = made()
    return content


def _of_images(images: dict[str, str]) -> list[_Part]:
    return [(partial(_popped, images, key), "thumbnails of images.") for key in images]


def _droppable(packed: list[dict[str, str]], titles: Sequence[str], shared: _Shared) -> list[_Part]:
    """Return what can be left out in the order in which it is: first what lies in files beside the page anyway."""
    copies = "to be copied of all tables but the main one; the files in tables/ have it."
    found: list[_Part] = [(partial(shared.drop, "csv"), f"CSV {copies}")] if shared.have("csv") else []
    for key, words in _DROPPED:
        found += _of_settings(packed, titles, key, words)
    if shared.have("tex", "md"):
        found.append((partial(shared.drop, "tex", "md"), f"LaTeX and Markdown {copies}"))
    if shared.every:
        found.append((shared.drop_comparisons, "the list of all comparisons; their tables have it."))
    return found + _of_settings(packed, titles, "core", "all but its line in the tables")


def _of_settings(packed: list[dict[str, str]], titles: Sequence[str], key: str, words: str) -> list[_Part]:
    """Return the same part of all settings, the biggest first."""
    numbers = sorted((k for k, part in enumerate(packed) if key in part), key=lambda k: -len(packed[k][key]))
    return [(partial(_popped, packed[number], key), f"{titles[number]}: {words}.") for number in numbers]


def _popped(part: dict[str, str], key: str) -> int:
    return len(part.pop(key))


def _sprites(thumbnails: Thumbnails) -> dict[str, Any]:
    webp = [base64.b64encode(sprite).decode() for sprite in thumbnails.sprites]
    return {"size": thumbnails.size, "rows": thumbnails.rows, "webp": webp}


def pack(value: object) -> str:
    """Return plain data as gzip in base64, with equal bytes for equal data."""
    text = json.dumps(visible_in(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


_DEFAULTS = {f.name: f.default for f in fields(Cell) if f.default is not MISSING}


def as_data(table: Table) -> dict[str, Any]:
    """Return a table as plain data; of a cell what differs from an empty one, without trial ids."""

    def cell(one: Cell) -> dict[str, Any]:
        values = {name: getattr(one, name) for name in _DEFAULTS if name != "trials"}
        kept = {key: value for key, value in values.items() if value != _DEFAULTS[key]}
        return {
            k: round(v, 4) if isinstance(v, float) else list(v) if isinstance(v, tuple) else v for k, v in kept.items()
        }

    return {
        "name": table.name,
        "caption": table.caption,
        "corner": table.corner,
        "columns": [{"name": c.name, "short": c.heading, "group": c.group, "unit": c.unit} for c in table.columns],
        "blocks": [
            {
                "title": block.title,
                "part": block.part,
                "lines": [
                    {
                        "name": line.name,
                        "short": line.heading,
                        "plain": line.equals_plain,
                        "cells": [cell(one) for one in line.cells],
                    }
                    for line in block.lines
                ],
            }
            for block in table.blocks
        ],
        "notes": list(table.notes),
        "context": dict(sorted(table.context.items())),
    }


def cell_text(cell: Cell) -> str:
    """Return a cell as the page without JavaScript has it."""
    if cell.text is not None:
        return cell.text
    if cell.value is None:
        return GAP
    shown = signed(cell.value, cell.decimals) if cell.signed else f"{cell.value:,.{cell.decimals}f}"
    return f"{shown}{' †' if cell.bound else ''}"


def _render(
    name: str,
    answer: Answer,
    described: Sequence[tuple[Setting, Selections]],
    tables: Sequence[Table],
    gaps: Sequence[str],
    ledger: Sequence[tuple[str, str]],
    head: Mapping[str, Any],
    blobs: Mapping[str, str],
    left_out: Sequence[str],
    lists_all: bool,
) -> bytes:
    css, js = _squeezed("page.css"), _squeezed("page.js")
    first = next((table for table in tables if table.name == MAIN), next(iter(tables), None))
    forest, every = forests(answer.verdicts)
    random = sorted({setting.backbone for setting, _ in described if setting.random_weights})
    text = _template().render(
        name=name,
        headline=headline(answer),
        banner=BANNER if random else "",
        random=random,
        about=_about(described),
        cards=sorted((_card(one) for one in answer.verdicts), key=lambda card: not card["tone"]),
        open_cards=MAX_CARDS,
        unjudged=unjudged(answer, described),
        forest=forest,
        every=every,
        lists_all=lists_all,
        rules=list(dict.fromkeys(r for _, selections in described for r in data.rules_of(selections))),
        table=first,
        gaps=list(gaps),
        left_out=list(left_out),
        ledger=list(ledger),
        head=Markup(
            json.dumps(visible_in(head), separators=(",", ":"), allow_nan=False, sort_keys=True).replace("<", "\\u003c")
        ),
        blobs=dict(blobs),
        css=Markup(css),
        js=Markup(js),
        css_hash=_hash(css),
        js_hash=_hash(js),
    )
    return text.encode()


def _card(one: Verdict) -> dict[str, Any]:
    """Return what the card of a verdict says."""
    gain, shown = one.gain, one.metric.shown
    k, n = one.plain_picks
    return {
        "method": one.method.projection_label,
        "predictor": one.method.predictor_label,
        "where": f"{one.setting.dataset}, {one.setting.backbone_label}{one.setting.half_words}",
        "kind": one.said,
        "tone": _TONES.get(one.kind, ""),
        "big": None if gain is None else signed(shown(gain.interval.estimate), 1),
        "ends": _ends(gain.interval, shown) if gain and gain.interval.standard_error > 0 else None,
        "balanced": one.balanced and signed(100 * one.balanced.interval.estimate, 1),
        "metric": one.metric.title.capitalize() if gain else "Accuracy",
        "both": None if gain is None else [f"{shown(value):.1f}" for value in gain.accuracies],
        "own": f"{100 * one.accuracy:.1f}",
        "ahead": None if gain is None else (gain.others.ahead, len(gain.held_outs)),
        "plain": f"plain in {k} of {n} picks" if k else "",
        "sentence": sentence(one),
        "banner": one.setting.banner,
    }


def _ends(interval: Any, shown: Callable[[float], float]) -> str:
    return f"{signed(shown(interval.low), 1)} to {signed(shown(interval.high), 1)}"


def _about(described: Sequence[tuple[Setting, Selections]]) -> str:
    """Return in a line what was tested."""
    sets = _listed(setting.dataset for setting, _ in described)
    backbones = _listed(setting.backbone_label for setting, _ in described)
    protocols = _listed(setting.protocol for setting, _ in described)
    seeds = sorted({int(seed) for _, selections in described for seed in selections.rows["seed"].unique()})
    words = f"{len(seeds)} seed{'s' if len(seeds) != 1 else ''}"
    return " · ".join((sets, backbones, f"protocol {protocols}", words))


def _listed(names: Iterable[str]) -> str:
    known = list(dict.fromkeys(names))
    return ", ".join(known) if len(known) <= 6 else f"{', '.join(known[:5])} and {len(known) - 5} more"


@lru_cache(maxsize=1)
def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.globals["cell_text"] = cell_text
    return environment.from_string(_asset("template.html"))


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
