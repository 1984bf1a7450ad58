"""The forms of a table: Markdown, LaTeX, CSV, JSON, HTML and plain text. Every number is a `Cell`'s."""

from collections.abc import Callable, Mapping

from reports.render.forms import csv_text, json_text, markdown
from reports.render.latex import all_tex, latex
from reports.render.table import Table

# Suffix of a file -> what writes a table into it.
FORMS: Mapping[str, Callable[[Table], str]] = {"md": markdown, "tex": latex, "csv": csv_text, "json": json_text}

__all__ = ["FORMS", "all_tex", "latex", "markdown"]
