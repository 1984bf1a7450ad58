"""The forms of a table: Markdown, LaTeX, CSV, JSON, HTML and plain text. Every number is a `Cell`'s."""

from collections.abc import Callable, Mapping

from reports.forms.data import csv_text, json_text
from reports.forms.latex import all_tex, latex
from reports.forms.markdown import markdown
from reports.table import Table

# Suffix of a file -> what writes a table into it.
FORMS: Mapping[str, Callable[[Table], str]] = {"md": markdown, "tex": latex, "csv": csv_text, "json": json_text}

__all__ = ["FORMS", "all_tex", "latex", "markdown"]
