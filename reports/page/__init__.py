"""The report as one page that opens from disk: `index.html`."""

from reports.page.build import MAX_BYTES, page

__all__ = ["MAX_BYTES", "page"]
