"""Build the page of the board: one self-contained HTML file without external requests.

It is a pure function of the lines of board.csv. template.html is its frame; board.js shows one view at a time: one data
set, or the mean over data sets.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from benchmark.common.terminal.escaping import escape_control_in
from reports.render.formats import squeezed, template

# Fields of a line that name its entry, and those that name its view besides its data sets. board.js reads the first
# by their place.
_ENTRY = ("encoder", "model_id", "method", "predictor", "rule", "variant", "is_plain", "bound", "made_up")
_VIEW = ("overall", "protocol", "test_split", "class_half", "folds", "seeds", "fingerprint")
Record = Mapping[str, Any]


def page(records: Sequence[Record]) -> bytes:
    """Return the page for the lines of `board.csv`, in their order. Equal input gives equal bytes.

    Args:
        records: `benchmark.results.board.Row.record` of each line.
    """
    entries: dict[tuple[Any, ...], int] = {}
    views: dict[tuple[Any, ...], list[Record]] = {}
    for one in records:
        entries.setdefault(tuple(one[name] for name in _ENTRY), len(entries))
        where = tuple(one[name] for name in _VIEW)
        views.setdefault(where if one["overall"] else (*where, one["sets"]), []).append(one)
    words: dict[Any, int] = {}
    data: dict[str, Any] = {
        "entries": [[words.setdefault(str(v), len(words)) for v in one[:6]] + [*map(int, one[6:])] for one in entries],
        "views": [_view(of_view, entries) for of_view in views.values()],
        "words": list(words),
    }
    titles = [one["title"] for one in data["views"]]
    labels = [
        f"{one['title']} ({one['about']})" if titles.count(one["title"]) > 1 else one["title"] for one in data["views"]
    ]
    text = json.dumps(escape_control_in(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    shown = {
        "encoders": len({(one["encoder"], one["model_id"]) for one in records}),
        "methods": len({tuple(one[name] for name in _ENTRY[2:6]) for one in records if not one["bound"]}),
        "sets": len({one["sets"] for one in records if not one["overall"]}),
        "views": labels,
        "made_up": len({tuple(one[name] for name in _ENTRY) for one in records if one["made_up"]}),
        "entries": len(entries),
        "data": Markup(text.replace("<", "\\u003c")),
        **squeezed("css", ("reports.page", "page.css"), ("reports.board", "board.css")),
        **squeezed("js", ("reports.board", "board.js")),
    }
    return str(template("reports.board", "template.html", escape_control_in).render(shown)).encode()


def _view(records: Sequence[Record], entries: Mapping[tuple[Any, ...], int]) -> dict[str, Any]:
    """Return the data of one view: its title, what it is about, and a short list for each line."""
    first, sets = records[0], max((one["sets"].split("; ") for one in records), key=len)
    title = f"Mean over {len(sets)} data sets" if first["overall"] else first["sets"]
    facts = [f"protocol {first['protocol']}", f"test split {first['test_split']}"]
    if first["class_half"] == "harmonic":
        facts.append("harmonic mean of base and new classes")
    if not first["overall"]:
        facts += [f"{first['folds']} folds"] if first["folds"] else []
        facts += [f"seeds {first['seeds']}" if " " in first["seeds"] else f"seed {first['seeds']}"]
    lines = []
    for one in records:
        numbers = [_percent(one[name]) for name in ("accuracy", "low", "high")]
        ranks = [one["best_rank"] or 0, one["worst_rank"] or 0, int(one["tied_with_best"])]
        of_sets = len(one["sets"].split("; ")) if first["overall"] else 1
        lines.append([entries[tuple(one[name] for name in _ENTRY)], *numbers, *ranks, one["images"], of_sets])
    about = "; ".join([", ".join(facts), *([", ".join(sets)] if first["overall"] else [])])
    return {"title": title, "about": about, "ranked": first["ranked"], "sets": len(sets), "lines": lines}


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 1)
