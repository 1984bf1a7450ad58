"""Tables, findings and figures as pure functions of result rows.

The functions are loaded when they are asked for, and Matplotlib with those that draw.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.analysis.diagnostics import Angles, Diagnosis, Displacement, Estimated, Mapped, Readability, Shift
    from reports.analysis.findings import Expected
    from reports.analysis.settings import Options
    from reports.build import ReportFiles, write_report
    from reports.choose import ChoiceFiles, write_choice
    from reports.page.data import Images, Thumbnails
    from reports.text.diagnosis import write_diagnostics, write_estimates
    from reports.text.sentences import Origin

_HOMES = {
    "reports.analysis.findings": "Expected",
    "reports.analysis.diagnostics": "Angles Diagnosis Displacement Estimated Mapped Readability Shift",
    "reports.analysis.settings": "Options",
    "reports.build": "ReportFiles write_report",
    "reports.choose": "ChoiceFiles write_choice",
    "reports.page.data": "Images Thumbnails",
    "reports.text.diagnosis": "write_diagnostics write_estimates",
    "reports.text.sentences": "Origin",
}
__all__ = [
    "Angles", "ChoiceFiles", "Diagnosis", "Displacement", "Estimated", "Expected", "Images", "Mapped", "Options",
    "Origin", "Readability", "ReportFiles", "Shift", "Thumbnails", "write_choice", "write_diagnostics",
    "write_estimates", "write_report",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'reports' has no attribute '{name}'")
