"""What the page is handed: the real verdicts and tables of rows."""

from collections.abc import Sequence
from dataclasses import replace

from reports import verdicts
from reports.chosen import Selections
from reports.findings import comparisons
from reports.options import Options
from reports.paper import environments
from reports.settings import Setting
from reports.table import Block, Cell, Column, Line, Table
from reports.verdicts import Answer

__all__ = ["FORMS", "Answer", "answer", "table"]


def answer(described: Sequence[tuple[Setting, Selections]], headline: str = "No difference found in 2 of 2") -> Answer:
    found = [comparisons(setting, selections, Options()) for setting, selections in described]
    return replace(verdicts.answer(described, found), headline=headline)


def table(setting: Setting, selections: Selections, name: str = "main") -> Table:
    made = environments.build([(setting, selections)], Options())
    if made is None:  # one environment: a table of one line, which no report has, and a page stands all the same
        line = Line("Zero-shot", (Cell(note="one environment"),))
        made = Table(name, f"{setting.banner}{setting.dataset}", (Column("average"),), (Block("", (line,)),))
    return replace(made, name=name)


FORMS = {"main": {"tex": "\\begin{table}\n50 \\% & a_b\n\\end{table}\n", "csv": "a,b\n", "md": "| a |\n"}}
