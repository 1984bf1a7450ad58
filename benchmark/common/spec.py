"""The base of everything that a recipe is made of."""

from collections import Counter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MAX_ENTRIES = 1000  # of a list; of ranks there may be as many as embeddings are wide
MAX_WHOLE, MAX_REAL, MAX_WIDTH = 2**31, 1e30, 2**16


class Spec(BaseModel):
    """Base of the parts of a recipe: frozen, bounded, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _bounded(self) -> Any:
        """Refuse numbers that no arithmetic bears, and lists that nobody wrote by hand."""
        for name in type(self).model_fields:
            value, most = getattr(self, name), MAX_WIDTH if name == "ranks" else MAX_ENTRIES
            values = value if isinstance(value, tuple) else (value,)
            if len(values) > most:
                raise ValueError(f"{name}: {len(values)} entries, of {most} at most.")
            for one in values:
                if isinstance(one, int | float) and abs(one) > (MAX_WHOLE if isinstance(one, int) else MAX_REAL):
                    raise ValueError(f"{name}: a number of {len(str(int(one)))} digits; give a smaller one.")
        return self


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError(f"{name[:40]!a} is no name that can be printed in a line; take out line breaks and the like.")
    return name


Name = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_printable)]


def distinct(items: Any, labels: list[Any], what: str) -> Any:
    """Return `items` as they are, if none is given twice.

    Args:
        items: list of a recipe.
        labels: label of each item, by which they are compared.
        what: what an item is, in the singular, for the message.

    Raises:
        ValueError: two labels are equal; names the label.
    """
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise ValueError(f"the {what} '{twice[0]}' is given twice.")
    return items
