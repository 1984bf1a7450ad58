"""Renderers of tables: Markdown, LaTeX, CSV, JSON, HTML and plain text. Every number comes from a `Cell`."""

from collections.abc import Callable, Mapping

from reports.render.formats import csv_text, json_text, markdown
from reports.render.latex import all_tex, latex
from reports.render.table import Table

# File suffix -> renderer. `_rendered` of reports/build.py writes each table in all of these formats. A new format also
# needs a line in docs/report.md, and an entry in `FORMATS` of tests/reports/render/test_formats.py with a golden file.
FORMATS: Mapping[str, Callable[[Table], str]] = {"md": markdown, "tex": latex, "csv": csv_text, "json": json_text}

__all__ = ["FORMATS", "all_tex", "latex", "markdown"]
