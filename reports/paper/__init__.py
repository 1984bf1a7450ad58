"""Tables of a paper as `reports.table.Table` objects: one module for each, pure functions of result rows."""
