"""The report as one page that opens from disk: `index.html`."""

from reports.page.build import MAX_BYTES, page
from reports.page.thumbnails import Thumbnails, ThumbnailsOf, wanted

__all__ = ["MAX_BYTES", "Thumbnails", "ThumbnailsOf", "page", "wanted"]
