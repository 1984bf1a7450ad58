"""Tables of a paper as specs; this package exports everything that a user's own table needs."""

from reports.render.table import Cell, Column
from reports.tables.all import paper_tables
from reports.tables.by_method import Entry, by_method, each
from reports.tables.spec import Request, TableSpec, Values

__all__ = ["Cell", "Column", "Entry", "Request", "TableSpec", "Values", "by_method", "each", "paper_tables"]
