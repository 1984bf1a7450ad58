"""The tables of a report, each as a `TableSpec`. docs/adding.md builds a user's own table from the exported names."""

from reports.render.table import Cell, Column
from reports.tables.all import paper_tables
from reports.tables.by_method import Entry, by_method, each
from reports.tables.spec import Request, TableSpec, Values

__all__ = ["Cell", "Column", "Entry", "Request", "TableSpec", "Values", "by_method", "each", "paper_tables"]
