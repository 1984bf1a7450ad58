"""Tables of a paper as `reports.table.Table` objects: one module for each, pure functions of result rows."""

from reports.paper.all import paper_tables

__all__ = ["paper_tables"]
