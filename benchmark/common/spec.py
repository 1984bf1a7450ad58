"""The base of everything that a recipe is made of."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """Base of the parts of a recipe: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def distinct(items: Any, labels: list[Any], what: str) -> Any:
    """Return `items` as they are, if none is given twice.

    Args:
        items: list of a recipe.
        labels: label of each item, by which they are compared.
        what: what an item is, in the singular, for the message.

    Raises:
        ValueError: two labels are equal; names the label.
    """
    twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
    if twice is not None:
        raise ValueError(f"the {what} '{twice}' is given twice.")
    return items
