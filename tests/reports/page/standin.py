"""What the page is handed: the real verdicts and tables of rows, and invented details of single images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from reports import verdicts
from reports.chosen import Selections
from reports.findings import comparisons
from reports.options import Options
from reports.paper import environments
from reports.settings import Setting
from reports.table import Block, Cell, Column, Line, Table
from reports.verdicts import Answer

__all__ = ["FORMS", "Answer", "Decoded", "Details", "answer", "table"]


@dataclass(frozen=True)
class Decoded:
    rank: int = 2
    before: float = 0.9
    after: float = 0.6
    chance: float = 0.5


@dataclass(frozen=True)
class Details:
    predictions: pa.Table
    classes: tuple[str, ...]
    map: pa.Table | None = None
    decoded: tuple[Decoded, ...] = (Decoded(),)


def answer(described: Sequence[tuple[Setting, Selections]], headline: str = "No difference found in 2 of 2") -> Answer:
    found = [comparisons(setting, selections, Options()) for setting, selections in described]
    return replace(verdicts.answer(described, found, Options()), headline=headline)


def table(setting: Setting, selections: Selections, name: str = "main") -> Table:
    made = environments.build([(setting, selections)], Options())
    if made is None:  # one environment: a table of one line, which no report has, and a page stands all the same
        line = Line("Zero-shot", (Cell(note="one environment"),))
        made = Table(name, f"{setting.banner}{setting.dataset}", (Column("average"),), (Block("", (line,)),))
    return replace(made, name=name)


FORMS = {"main": {"tex": "\\begin{table}\n50 \\% & a_b\n\\end{table}\n", "csv": "a,b\n", "md": "| a |\n"}}
