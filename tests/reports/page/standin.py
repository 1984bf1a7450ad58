"""Inputs of the page: verdicts and tables of rows."""

from collections.abc import Sequence
from dataclasses import replace

from reports.analysis import verdicts
from reports.analysis.findings import comparisons
from reports.analysis.selections import Selections
from reports.analysis.settings import Options, Setting
from reports.analysis.verdicts import Answer
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import environments
from tests.reports.tables.rows import table_of

__all__ = ["FORMATS", "answer", "table"]


def answer(results: Sequence[tuple[Setting, Selections]]) -> Answer:
    found = [comparisons(setting, selections, Options()) for setting, selections in results]
    return verdicts.answer(results, found)


def table(setting: Setting, selections: Selections, name: str = "main") -> Table:
    made = table_of(environments.TABLE, [(setting, selections)])
    if made is None:  # one environment gives a table of one line, which reports omit; the page must work nevertheless
        line = Line("Zero-shot", (Cell(note="one environment"),))
        made = Table(name, f"{setting.banner}{setting.dataset}", (Column("average"),), (Block("", (line,)),))
    return replace(made, name=name)


FORMATS = {"main": {"tex": "\\begin{table}\n50 \\% & a_b\n\\end{table}\n", "csv": "a,b\n", "md": "| a |\n"}}
