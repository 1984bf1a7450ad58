"""The base of everything that a recipe is made of."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """Base of the parts of a recipe: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def distinct(items: Any, labels: list[Any], what: str) -> Any:
    twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
    if twice is not None:
        raise ValueError(f"the {what} '{twice}' is given twice.")
    return items
