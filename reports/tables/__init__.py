"""Tables of a paper, one spec in each module. What is exported here is what a table of the user's own takes."""

from reports.render.table import Cell, Column
from reports.tables.all import paper_tables
from reports.tables.by_method import Entry, by_method, each
from reports.tables.spec import Request, TableSpec, Values

__all__ = ["Cell", "Column", "Entry", "Request", "TableSpec", "Values", "by_method", "each", "paper_tables"]
