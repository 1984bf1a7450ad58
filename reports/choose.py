"""Write which backbone rows speak for: a sentence, a table in its forms, a figure in its forms."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.evaluation.tested import Tested
from reports.analysis.choice import Candidate, Choice
from reports.analysis.chosen import Selections
from reports.analysis.options import Options
from reports.analysis.settings import by_setting
from reports.figures import captions, drawn
from reports.figures.speed import drawing
from reports.render import FORMS
from reports.render.markdown import markdown, markdown_escape
from reports.render.text import WIDTH, text
from reports.tables.choose import NAME, build, choose
from reports.text.choose import sentence
from reports.text.origin import Origin


@dataclass(frozen=True)
class ChoiceFiles:
    """What `write_choice` wrote.

    Attributes:
        files: paths or URIs of all files, choose.md first.
        text: sentence and table for a terminal, 80 characters wide.
        record: the same as plain data: accuracies in percent, differences in points, memory in bytes.
    """

    files: list[str]
    text: str
    record: dict[str, Any]


def write_choice(
    rows: pd.DataFrame,
    tested: Mapping[str, Tested],
    costs: Mapping[str, Sequence[Mapping[str, Any]]],
    storage: Storage,
    folder: str,
    origin: Origin,
    options: Options | None = None,
) -> ChoiceFiles:
    """Write which of several backbones result rows speak for. Equal rows and costs give equal bytes.

    Args:
        rows: as `benchmark.store.rows.read_rows` returns them, of two backbones or more under one protocol.
        tested: hash -> the tested images that rows name by it.
        costs: backbone, as rows name it -> what its embeddings cost.
        storage: where to write.
        folder: folder inside the storage, "" for the storage itself; files of the same names are replaced.
        origin: where the rows come from, and what is missing.
        options: what the reader asks for.

    Raises:
        IcmBenchError: there are no rows, fewer than two backbones can be compared, rows are of unlike protocols, or a
            file cannot be written.
    """
    if rows.empty:
        raise IcmBenchError(f"There are no result rows of '{origin.name}'; run `icm-bench sweep RECIPE` first.")
    options = options or Options()
    described = [(setting, Selections(part, tested)) for setting, part in by_setting(rows)]
    choice = choose(described, costs, options)
    said, table, shape = sentence(choice), build(choice, options, origin.names), drawing(choice, origin.names)
    shown = [f"# {markdown_escape(origin.name)}: which backbone?", f"**{markdown_escape(said)}**"]
    shown += [*map(markdown_escape, origin.missing), markdown(table).rstrip()]
    contents = {f"tables/{NAME}.{suffix}": form(table).encode() for suffix, form in FORMS.items()}
    for one in drawn([shape] if shape else []):
        shown += [f"![{NAME}](figures/{NAME}.png)", markdown_escape(one.caption)]
        contents |= {f"figures/{NAME}.{suffix}": data for suffix, data in one.contents.items()}
        captioned = zip(("md", "tex"), captions([one]), strict=True)
        contents |= {f"figures/{NAME}.{suffix}": words.encode() for suffix, words in captioned}
    contents = {f"{NAME}.md": ("\n\n".join(shown) + "\n").encode(), **contents}
    files = list(storage.write_files(folder, contents).values())
    wrapped = [line for words in (said, *origin.missing) for line in textwrap.wrap(words, WIDTH)]
    lines = [*wrapped, "", *text(table), "", f"Table and figure: {files[0]}"]
    return ChoiceFiles(files, "\n".join(lines), _record(choice, said))


def _record(choice: Choice, said: str) -> dict[str, Any]:
    return {
        "sentence": said,
        "chosen": choice.chosen.name if choice.chosen else None,
        "best": choice.best.name,
        "tied": list(choice.ties.tied),
        "rule": choice.rule,
        "measured_on": choice.measured_on or None,
        "backbones": [_line(choice, one) for one in choice.candidates],
        "left_out": list(choice.left_out),
    }


def _line(choice: Choice, one: Candidate) -> dict[str, Any]:
    difference = choice.differences.get(one.name)
    numbers = {
        "zero_shot": one.plain.value,
        "picked": one.average.value,
        "picked_low": one.average.low,
        "picked_high": one.average.high,
        "minus_best": None if difference is None else 100 * difference.estimate,
        "minus_best_low": None if difference is None else 100 * difference.low,
        "minus_best_high": None if difference is None else 100 * difference.high,
        "p_holm": choice.p(one.name),
        "worst_environment_accuracy": one.worst.value,
        "ece": one.ece.value,
        "images_per_second": one.speed,
    }
    return {
        "backbone": one.name,
        **{name: None if value is None or value != value else round(value, 6) for name, value in numbers.items()},
        "worst_environment": one.worst_name or None,
        "memory": one.memory,
        "on_front": one in choice.front,
        "methods": dict(one.methods),
    }
