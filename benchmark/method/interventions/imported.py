"""Views that were made elsewhere and imported: what a recipe calls them by."""

from typing import TYPE_CHECKING

from pydantic import Field

from benchmark.common.errors import IcmBenchError
from benchmark.method.interventions.base import Intervention

if TYPE_CHECKING:
    from torch import Tensor


class ImportedView(Intervention):
    """A kind of intervention of which imported embeddings have views, and nothing else is known.

    Fields:
        view: what the imported file calls it.
    """

    view: str = Field(min_length=1)

    @property
    def label(self) -> str:
        """What the imported file calls it."""
        return self.view

    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":  # noqa: ARG002
        """Raise IcmBenchError: how it was made is not known."""
        raise IcmBenchError(f"The view '{self.view}' was imported: it cannot be made of images.")
