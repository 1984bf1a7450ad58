"""Base class of all parts of a recipe, and the conversion of pydantic's validation errors into one sentence."""

import re
from collections import Counter
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.common.errors import nearest

# Limits of recipes: entries of a list, whole numbers, real numbers, and entries of `ranks`. The page docs/recipe.md
# states them, from `HEAD` in tests/docs/generate.py.
MAX_ENTRIES = 1000
MAX_WHOLE, MAX_REAL, MAX_WIDTH = 2**31, 1e30, 2**16
MAX_OTHERS = 3  # maximum number of further keys that a message about one key lists


class Spec(BaseModel):
    """Base class of the parts of a recipe: frozen, with limits on numbers and lists, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_no_booleans(cls, given: Any) -> Any:
        """Refuse `true` and `false` for numbers, which pydantic reads as 1 and 0."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            if field and _has_boolean(value) and not _takes_boolean(field.annotation):
                raise ValueError(f"{name} takes neither true nor false; give a number, or put the word in quotes.")
        return given

    @model_validator(mode="after")
    def _bounded(self) -> Any:
        """Refuse numbers and lists beyond the limits of this module."""
        for name in type(self).model_fields:
            value, max_entries = getattr(self, name), MAX_WIDTH if name == "ranks" else MAX_ENTRIES
            values = value if isinstance(value, tuple) else (value,)
            if len(values) > max_entries:
                raise ValueError(f"{name}: {len(values)} entries; the maximum is {max_entries}.")
            for one in values:
                if isinstance(one, int | float) and abs(one) > (MAX_WHOLE if isinstance(one, int) else MAX_REAL):
                    raise ValueError(f"{name}: a number of {len(str(int(one)))} digits; give a smaller one.")
        return self


def _has_boolean(value: Any) -> bool:
    """Return whether a value is a boolean, or a list or mapping with one at any depth."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(map(_has_boolean, inner))


def _takes_boolean(annotation: Any) -> bool:
    """Return whether values of a type may have booleans, or parts that check themselves, at any depth."""
    if isinstance(annotation, type):
        return annotation in (bool, object) or issubclass(annotation, BaseModel)
    return annotation is Any or isinstance(annotation, bool) or any(map(_takes_boolean, get_args(annotation)))


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError(f"{name[:40]!a} is not a printable name; remove line breaks and control characters.")
    return name


Name = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_printable)]


def _openable(place: str) -> str:
    if re.match("(?i)(https?|ftp)://", place):
        raise ValueError("an address of the web is no folder; download the images, and give their folder or s3://...")
    return place


Images = Annotated[str, AfterValidator(_openable)]  # folder of images, s3:// or gs://


def distinct(items: Any, labels: list[Any], what: str) -> Any:
    """Return `items` unchanged if all labels differ; else raise ValueError. `what`: noun for an item in the message."""
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise ValueError(f"the {what} '{twice[0]}' is given twice.")
    return items


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """Return one sentence: the key and valid values of the first validation error, and the keys of further errors."""
    findings = error.errors(include_url=False)
    # Report unknown keys first: an unknown key is usually a misspelling, so that the right key is missing, too.
    first = min(findings, key=lambda finding: finding["type"] != "extra_forbidden")
    text, keys = _explain(first, model), [_key(first)]
    for key in map(_key, findings):
        # For a union type, pydantic reports an error per branch, at the key or below it; list the key once.
        if not any(f"{key}.".startswith(f"{one}.") or f"{one}.".startswith(f"{key}.") for one in keys):
            keys.append(key)
    if len(keys) == 1:
        return text
    named = ", ".join(f"'{key}'" for key in keys[1 : MAX_OTHERS + 1])
    more = f" and {len(keys) - 1 - MAX_OTHERS} more" if len(keys) - 1 > MAX_OTHERS else ""
    return f"{text.rstrip('.')}; also check {named}{more}."


def _key(finding: Any) -> str:
    """Return the dotted key of a validation error, as the user wrote it."""
    # pydantic adds the branch of a union type ("tuple[...]") to the location.
    return ".".join(str(part) for part in finding["loc"] if "[" not in str(part)) or "the whole"


def _explain(finding: Any, model: type[BaseModel]) -> str:
    """Return one validation error as a sentence that names the key."""
    location, key = finding["loc"], _key(finding)
    if finding["type"] == "extra_forbidden":
        parent = _model_at(model, location[:-1])
        fields = parent.model_fields.items() if parent else []
        valid = [info.alias or name for name, info in fields if name not in getattr(parent, "swept", ())]
        return f"unknown key '{key}': {nearest(str(location[-1]), valid) if valid else 'no keys are allowed there.'}"
    if finding["type"] == "missing":
        return f"the key '{key}' is missing."
    if finding["type"] == "value_error":
        return f"{key}: {finding['ctx']['error']}" if location else f"{finding['ctx']['error']}"
    message = (finding["msg"][0].lower() + finding["msg"][1:]).replace("tuple", "list")
    if finding["type"].endswith(("too_short", "too_long")):
        return f"{key}: {message}."
    return f"{key}: {message}, not {finding['input']!r:.200}."


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the model that validates the mapping at `location` inside `model`."""
    for part in location:
        if isinstance(part, str) and "[" not in part:  # neither a list index nor a branch of a union
            info = model.model_fields.get(part)
            if not info or not (nested := _first_model(info.annotation)):
                return None
            model = nested
    return model


def _first_model(annotation: Any) -> type[BaseModel] | None:
    """Return the first model in a type annotation, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_first_model, get_args(annotation)) if m), None)
