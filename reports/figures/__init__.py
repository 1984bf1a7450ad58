"""Figures of result rows as PDF, SVG and PNG, with captions. Figures without data are omitted.

Each figure is a module with functions for its numbers, `draw` and its caption; `_KINDS` of every.py lists most of them.
A new figure also needs its name in docs/report.md and in tests/reports/figures/test_drawing.py. If the paper shows it,
`_PLANS` and `_NEEDS` of reports/document/paper.py need the name too.
"""

from reports.figures.every import Drawing, Figure, all_drawings, captions, drawn, groups_of, left_out

__all__ = ["Drawing", "Figure", "all_drawings", "captions", "drawn", "groups_of", "left_out"]
