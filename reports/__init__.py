"""Tables, findings and figures as pure functions of result rows.

The functions are loaded when they are asked for, and Matplotlib with those that draw.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.analysis.controls import Expected
    from reports.analysis.diagnostics import Angles, Diagnosis, Displacement, Estimated, Mapped, Readability, Shift
    from reports.analysis.options import Options
    from reports.build import ReportFiles, write_report
    from reports.choose import ChoiceFiles, write_choice
    from reports.page.data import Thumbnails
    from reports.text.diagnosis import write_diagnostics
    from reports.text.estimates import write_estimates
    from reports.text.origin import Origin

_HOMES = {
    "Angles": "reports.analysis.diagnostics",
    "ChoiceFiles": "reports.choose",
    "Diagnosis": "reports.analysis.diagnostics",
    "Displacement": "reports.analysis.diagnostics",
    "Estimated": "reports.analysis.diagnostics",
    "Expected": "reports.analysis.controls",
    "Mapped": "reports.analysis.diagnostics",
    "Options": "reports.analysis.options",
    "Origin": "reports.text.origin",
    "Readability": "reports.analysis.diagnostics",
    "ReportFiles": "reports.build",
    "Shift": "reports.analysis.diagnostics",
    "Thumbnails": "reports.page.data",
    "write_choice": "reports.choose",
    "write_diagnostics": "reports.text.diagnosis",
    "write_estimates": "reports.text.estimates",
    "write_report": "reports.build",
}
__all__ = [
    "Angles",
    "ChoiceFiles",
    "Diagnosis",
    "Displacement",
    "Estimated",
    "Expected",
    "Mapped",
    "Options",
    "Origin",
    "Readability",
    "ReportFiles",
    "Shift",
    "Thumbnails",
    "write_choice",
    "write_diagnostics",
    "write_estimates",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'reports' has no attribute '{name}'")
