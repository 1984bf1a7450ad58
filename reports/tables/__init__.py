"""Tables of a paper as `reports.render.table.Table` objects: one module for each, pure functions of result rows."""

from reports.tables.all import paper_tables

__all__ = ["paper_tables"]
