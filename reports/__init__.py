"""Tables, findings and figures as pure functions of result rows.

The functions are loaded when they are asked for, and Matplotlib with those that draw.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.build import ReportFiles, write_report
    from reports.choose.write import ChoiceFiles, write_choice
    from reports.controls import Expected
    from reports.diagnostics import (
        Angles,
        Diagnosis,
        DiagnosisFiles,
        Displacement,
        Mapped,
        Readability,
        Shift,
        write_diagnostics,
    )
    from reports.estimates import Estimated, EstimateFiles, write_estimates
    from reports.options import Options
    from reports.origin import Origin
    from reports.page.thumbnails import Thumbnails

_HOMES = {
    "Angles": "reports.diagnostics",
    "ChoiceFiles": "reports.choose.write",
    "Diagnosis": "reports.diagnostics",
    "DiagnosisFiles": "reports.diagnostics",
    "Displacement": "reports.diagnostics",
    "EstimateFiles": "reports.estimates",
    "Estimated": "reports.estimates",
    "Expected": "reports.controls",
    "Mapped": "reports.diagnostics",
    "Options": "reports.options",
    "Origin": "reports.origin",
    "Readability": "reports.diagnostics",
    "ReportFiles": "reports.build",
    "Shift": "reports.diagnostics",
    "Thumbnails": "reports.page.thumbnails",
    "write_choice": "reports.choose.write",
    "write_diagnostics": "reports.diagnostics",
    "write_estimates": "reports.estimates",
    "write_report": "reports.build",
}
__all__ = [
    "Angles",
    "ChoiceFiles",
    "Diagnosis",
    "DiagnosisFiles",
    "Displacement",
    "EstimateFiles",
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
