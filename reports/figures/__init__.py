"""Figures of result rows as PDF, SVG and PNG, with captions beside them. Pure functions; Matplotlib is imported here.

Each figure is a module with `numbers`, which takes rows and returns what is drawn, and `draw`, which takes that. A
figure exists only where its data do.
"""

from reports.figures.every import all_figures
from reports.figures.wording import MAX_SETTINGS, captions, left_out
from reports.figures.writing import Figure

__all__ = ["MAX_SETTINGS", "Figure", "all_figures", "captions", "left_out"]
