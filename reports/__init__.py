"""Tables, findings and figures as pure functions of result rows.

The functions are loaded when they are asked for, and Matplotlib when the first figure is drawn.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.build import ReportFiles, write_report
    from reports.diagnostics import write_diagnostics


__all__ = ["ReportFiles", "write_diagnostics", "write_report"]


def __getattr__(name: str) -> Any:
    if name == "write_diagnostics":
        from reports import diagnostics

        return diagnostics.write_diagnostics
    if name in __all__:
        from reports import build

        return getattr(build, name)
    raise AttributeError(f"module 'reports' has no attribute '{name}'")
