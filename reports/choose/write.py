"""Write which backbone rows speak for: a sentence, a table in its forms, a figure in its forms."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.evaluation.tested import Tested
from reports.analysis.chosen import Selections
from reports.analysis.options import Options
from reports.analysis.settings import by_setting
from reports.choose.choice import NAME, choose, record
from reports.choose.figure import drawing
from reports.choose.sentence import sentence
from reports.choose.speeds import Costs
from reports.choose.table import table
from reports.figures import captions, drawn
from reports.render import FORMS
from reports.render.markdown import markdown, markdown_escape
from reports.render.text import WIDTH, text
from reports.text.origin import Origin


@dataclass(frozen=True)
class ChoiceFiles:
    """What `write_choice` wrote.

    Attributes:
        files: paths or URIs of all files, choose.md first.
        text: sentence and table for a terminal, 80 characters wide.
        record: the same as plain data, see `choice.record`.
    """

    files: list[str]
    text: str
    record: dict[str, Any]


def write_choice(
    rows: pd.DataFrame,
    tested: Mapping[str, Tested],
    costs: Costs,
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
    said, made, shape = sentence(choice), table(choice, options, origin.names), drawing(choice, origin.names)
    figures = list(drawn([shape] if shape else []))
    contents = {f"tables/{NAME}.{suffix}": form(made).encode() for suffix, form in FORMS.items()}
    contents |= {f"figures/{NAME}.{suffix}": data for one in figures for suffix, data in one.contents.items()}
    if figures:
        in_markdown, in_latex = captions(figures)
        contents |= {f"figures/{NAME}.md": in_markdown.encode(), f"figures/{NAME}.tex": in_latex.encode()}
    parts = [f"# {markdown_escape(origin.name)}: which backbone?", f"**{markdown_escape(said)}**"]
    parts += [markdown_escape(words) for words in origin.missing]
    parts += [
        markdown(made).rstrip(),
        *(f"![{NAME}](figures/{NAME}.png)\n\n{markdown_escape(f.caption)}" for f in figures),
    ]
    contents = {f"{NAME}.md": ("\n\n".join(parts) + "\n").encode(), **contents}
    files = list(storage.write_files(folder, contents).values())
    wrapped = [line for words in (said, *origin.missing) for line in textwrap.wrap(words, WIDTH)]
    shown = "\n".join([*wrapped, "", *text(made), "", f"Table and figure: {files[0]}"])
    return ChoiceFiles(files, shown, record(choice, said))
