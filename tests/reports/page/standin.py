"""What the page is handed: the real verdicts and tables of rows."""

from collections.abc import Sequence
from dataclasses import replace

from reports.analysis import verdicts
from reports.analysis.chosen import Selections
from reports.analysis.findings import comparisons
from reports.analysis.settings import Options, Setting
from reports.analysis.verdicts import Answer
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import environments
from tests.reports.tables.rows import table_of

__all__ = ["FORMS", "answer", "table"]


def answer(described: Sequence[tuple[Setting, Selections]]) -> Answer:
    found = [comparisons(setting, selections, Options()) for setting, selections in described]
    return verdicts.answer(described, found)


def table(setting: Setting, selections: Selections, name: str = "main") -> Table:
    made = table_of(environments.TABLE, [(setting, selections)])
    if made is None:  # one environment: a table of one line, which no report has, and a page stands all the same
        line = Line("Zero-shot", (Cell(note="one environment"),))
        made = Table(name, f"{setting.banner}{setting.dataset}", (Column("average"),), (Block("", (line,)),))
    return replace(made, name=name)


FORMS = {"main": {"tex": "\\begin{table}\n50 \\% & a_b\n\\end{table}\n", "csv": "a,b\n", "md": "| a |\n"}}
