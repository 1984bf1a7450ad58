"""pydantic's findings as one sentence that names the key and what would be valid."""

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from benchmark.common.errors import nearest

MAX_OTHERS = 3  # keys that are named beside the one that is explained


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first finding as a sentence; the keys of further ones are named behind it.

    Args:
        error: what pydantic found.
        model: the model that was to be validated.
    """
    findings = error.errors(include_url=False)
    # An unknown key is mostly a misspelt one: say so before saying that the right one is missing.
    first = min(findings, key=lambda finding: finding["type"] != "extra_forbidden")
    text = _explain(first, model)
    others: list[str] = []
    for key in map(_key, findings):
        # A value that fits no branch of a union is found once for each of them, here or below.
        if not any(
            f"{key}.".startswith(f"{one}.") or f"{one}.".startswith(f"{key}.") for one in (_key(first), *others)
        ):
            others.append(key)
    if not others:
        return text
    named = ", ".join(f"'{key}'" for key in others[:MAX_OTHERS])
    more = f" and {len(others) - MAX_OTHERS} more" if len(others) > MAX_OTHERS else ""
    return f"{text.rstrip('.')}; see to {named}{more} as well."


def _key(finding: Any) -> str:
    """Return the dotted key that a finding is about, as the user wrote it."""
    # pydantic names the branch of a union as well ("tuple[...]").
    return ".".join(str(part) for part in finding["loc"] if "[" not in str(part)) or "the whole"


def _explain(finding: Any, model: type[BaseModel]) -> str:
    """Return one finding of pydantic as a sentence that names the key."""
    location, key = finding["loc"], _key(finding)
    if finding["type"] == "extra_forbidden":
        parent = _model_at(model, location[:-1])
        fields = parent.model_fields.items() if parent else []
        valid = [info.alias or name for name, info in fields if name not in getattr(parent, "swept", ())]
        return f"unknown key '{key}': {nearest(str(location[-1]), valid) if valid else 'there is none in its place.'}"
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
        if isinstance(part, int) or "[" in part:  # a position, or a branch of a union
            continue
        info = model.model_fields.get(part)
        nested = _first_model(info.annotation) if info else None
        if nested is None:
            return None
        model = nested
    return model


def _first_model(annotation: Any) -> type[BaseModel] | None:
    """Return the first model that stands in a type annotation, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_first_model, get_args(annotation)) if m), None)
