"""Tables, findings and figures as pure functions of result rows.

`write_report` is loaded when it is asked for, and Matplotlib when the first figure is drawn.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.build import ReportFiles as ReportFiles
    from reports.build import write_report as write_report

__all__ = ["ReportFiles", "write_report"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from reports import build

        return getattr(build, name)
    raise AttributeError(f"module 'reports' has no attribute '{name}'")
