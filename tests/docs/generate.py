"""What is made from code and from figures: docs/recipe.md, icons.md, speed.md, does-it-help.md, and in the heads of recipes what `plan` says.

    python -m tests.docs.generate

writes them anew; a test fails where they are stale.
"""

import inspect
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel

from benchmark.commands.planning.estimate import EMBEDDING, REFERENCE, core_hours, of_reference
from benchmark.commands.planning.machines import Offer, span
from benchmark.commands.planning.plan import Plan, plan
from benchmark.common.registry import Component, Registry
from benchmark.common.storage.files import Storage
from benchmark.demo import icons
from benchmark.method.evaluation.metrics import METRICS, Metric
from benchmark.method.evaluation.protocols import PROTOCOLS, Protocol
from benchmark.method.interventions import INTERVENTIONS, Intervention
from benchmark.method.predictors import PREDICTORS, Predictor
from benchmark.method.subspace import PROJECTIONS, Projection
from benchmark.recipe.loading import load_recipe
from benchmark.recipe.recipe import Recipe
from tests.conftest import REPOSITORY
from tests.docs import does_it_help
from tests.performance.page import speed_page

REGISTRIES: dict[type[Component], Registry[Any]] = {
    Intervention: INTERVENTIONS,
    Projection: PROJECTIONS,
    Predictor: PREDICTORS,
    Protocol: PROTOCOLS,
    Metric: METRICS,
}
HEAD = """# The recipe

Every key, with type, default, bounds and meaning. This page is made from the code by `make docs`. A recipe is a YAML file; a
wrong key is refused with the nearest valid one. `--set sweep.seeds=[0,1]` on the command line is stronger than the file.

Plain words are read as they look: only `true` and `false` are truth values, and `010`, `on`, `1:30` and dates are texts.
Numbers are finite and at most 10^30, whole ones 2^31; a list has at most 1000 entries (`ranks`: 65536)."""


def recipe_page() -> str:
    """Return the reference of the recipe, from its specs and the registries."""
    specs = dict(_specs(Recipe, ""))
    sections = [HEAD, "## Everything\n\n" + _spec_table(Recipe, "")]
    sections += [f"## {path}\n\n{_words(spec)}\n\n{_spec_table(spec, f'{path}.')}" for path, spec in specs.items()]
    return "\n\n".join([*sections, *map(_registry_section, REGISTRIES.values())]) + "\n"


def _specs(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield (dotted key, spec) of everything nested in a spec, in order of declaration; components have tables of their own."""
    for name, info in model.model_fields.items():
        for inner in _models(info.annotation):
            if not issubclass(inner, Component):
                yield f"{path}{name}", inner
                yield from _specs(inner, f"{path}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def _words(model: type[BaseModel]) -> str:
    """Return what a docstring says before its sections."""
    return re.split(r"\n+(?:Fields|Attributes|Args|Example):\n", inspect.getdoc(model) or "")[0]


def _spec_table(spec: type[BaseModel], path: str) -> str:
    meanings = _meanings(inspect.getdoc(spec) or "")
    table = ["| key | type | default | meaning |", "|---|---|---|---|"]
    annotations = {info.alias or name: info.annotation for name, info in spec.model_fields.items()}
    for name, type_, default in _fields(spec):
        nested = [m for m in _models(annotations[name]) if not issubclass(m, Component)]
        meaning = meanings.get(name, "")
        if nested:
            meaning = meaning or _words(nested[0]).split("\n\n")[0]
            type_ = type_.replace("mapping", f"[mapping](#{(path + name).replace('.', '')})", 1)
        table.append(f"| `{name}` | {type_} | {default} | {_cell(meaning)} |")
    return "\n".join(table)


def _meanings(doc: str) -> dict[str, str]:
    """Return field -> meaning from the section `Fields:` of a docstring."""
    section = re.search(r"\n(?:Fields|Attributes|Args):\n(.*?)(?=\n\n\S|\Z)", doc, flags=re.DOTALL)
    entries = re.split(r"\n {4}(?=\S)", "\n" + section[1]) if section else []
    meanings: dict[str, str] = {}
    for entry in filter(None, entries):
        names, _, meaning = entry.partition(":")
        meanings |= {name.strip(): re.sub(r"\s+", " ", meaning).strip() for name in names.split(",")}
    return meanings


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Yield (name, type with bounds, default) of every field that a recipe may give."""
    properties = model.model_json_schema()["properties"]
    for name, info in model.model_fields.items():
        if name in getattr(model, "swept", ()):
            continue
        registries = [r for m in _models(info.annotation) for c, r in REGISTRIES.items() if issubclass(m, c)]
        kind = (
            f"list of [{registries[0].kind}s](#names-of-{registries[0].kind}s)"
            if registries
            else _cell(_type(properties[info.alias or name]))
        )
        default = "required" if info.is_required() else _cell(_default(info.get_default(call_default_factory=True)))
        yield info.alias or name, kind, default


def _type(schema: dict[str, Any]) -> str:
    """Return a JSON schema in words: `number above 0`, `list of texts`."""
    if "anyOf" in schema:
        return " or ".join(_type(s) for s in schema["anyOf"] if s.get("type") != "null")
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema or "allOf" in schema:
        return "mapping"
    if schema.get("type") == "array":
        return _array(schema)
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"mapping of {_type(values)}" if isinstance(values, dict) else "mapping"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words.get(schema.get("type", ""), "any") + _bounds(schema)


def _array(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(_type(item) for item in schema['prefixItems'])}]"
    least = "one or more of: " if schema.get("minItems") else "list of: "
    return least + _type(schema["items"])


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    words = [f">= {low:,g}" if low is not None else "", f"> {above:,g}" if above is not None else ""]
    words += [f"<= {high:,.12g}" if high is not None else "", f"< {below:,.12g}" if below is not None else ""]
    bounds = " and ".join(filter(None, words))
    pattern = f" of the form `{schema['pattern']}`" if "pattern" in schema else ""
    return (f" {bounds}" if bounds else "") + pattern


def _default(value: Any) -> str:
    if isinstance(value, Component):
        return f"`{value.label}`"
    if isinstance(value, BaseModel):
        return f"`{value.name}`" if hasattr(value, "name") else "its defaults"
    if isinstance(value, tuple):
        return ", ".join(map(_default, value)) or "none"
    if value is None or value == {}:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _registry_section(registry: Registry[Any]) -> str:
    lines = [
        f"## Names of {registry.kind}s",
        "",
        "One of these names, or `module:Class` of your own: see [adding a part](adding.md).",
        "",
        "| name | what it is | parameters |",
        "|---|---|---|",
    ]
    for name in registry.names():
        cls = registry.component_class(name)
        meanings = _meanings(inspect.getdoc(cls) or "")
        parameters = [
            f"`{field}`: {type_}, default {default}" + (f"; {_cell(meanings[field])}" if field in meanings else "")
            for field, type_, default in _fields(cls)
        ]
        about = re.sub(r"\s+", " ", _words(cls).split("\n\n")[0])
        lines.append(f"| `{name}` | {_cell(about)} | {'<br>'.join(parameters)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


RECIPES = REPOSITORY / "jobs" / "recipes"
CARD = "RTX 4090"  # of which there are public figures


def head_of(file: Path) -> str:
    """Return a recipe with a head that says what `plan` does where nothing was measured but by the reference machine."""
    recipe, text = load_recipe(str(file)), file.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as empty:
        planned = plan(recipe, Storage(empty), known={REFERENCE: of_reference()}, offer=Offer(gpu=CARD))
    across = any(protocol.across_sets for protocol in recipe.sweep.protocols)
    only_tested = sum(planned.sets[i].images for i in recipe.shifts()) if across else 0
    text = re.sub(r"#   images    .*\n", lambda _: _images(planned, only_tested), text)
    return re.sub(r"(#   images    .*\n)(?:#   hours     .*\n)?", lambda found: found[1] + _hours(planned), text)


def _images(planned: Plan, only_tested: int) -> str:
    backbones = f" x {len(planned.backbones)} backbones" if len(planned.backbones) > 1 else ""
    views = f"{planned.views} views" + (f", {only_tested:,} of them in 1," if only_tested else "")
    return (
        f"#   images    {sum(s.images for s in planned.sets):,} images x {views}{backbones} = {planned.passes:,} forward "
        f"passes; {planned.trials:,} trials, {planned.rows:,} rows\n"
    )


def _hours(planned: Plan) -> str:
    """Return the line on hours: of a GPU by public figures, and of the cores that run the trials."""
    bill, gpu = planned.bill, ""
    if bill and bill.speeds:  # else all is embedded in minutes on a CPU
        gpu = f"{span(*bill.hours[EMBEDDING])} GPU hours on an {CARD} by public figures (not measured here); "
    return f"#   hours     {gpu}trials {core_hours(planned.estimate.core_hours)}\n"


def icons_page() -> str:
    """Return the page of the data set `icons`: its rule, its packs and how many icons of each class they have."""
    packs, names = icons.STYLES, icons.classes()
    counts = {name: [icons.table()[name].counts[environment] for environment in packs] for name in names}
    head = "| environment | pack | icons | of a class: minimum | median |\n|---|---|---|---|---|\n"
    columns = list(zip(packs.items(), zip(*counts.values(), strict=True), strict=True))
    rows = (
        f"| `{e}` | {style.pack.name} {style.pack.version} | {sum(n)} | {min(n)} | {median(n):g} |\n"
        for (e, style), n in columns
    )
    rule = inspect.getdoc(icons) or ""
    table = [f"| class | {' | '.join(packs)} |", "|---" * (len(packs) + 1) + "|"]
    table += [f"| {name} | {' | '.join(map(str, counts[name]))} |" for name in names]
    thin = ", ".join(name for name in names if min(counts[name]) < 4)
    return (
        f"# Icons\n\nThe rule, the packs and the counts of `icons`. `make docs` makes this page from the code and its table, "
        f"`icon_classes.csv`. Licences are in the NOTICE.\n\n{rule[rule.index('One rule') :]}\n\n## Packs\n\n{head}"
        f"{''.join(rows)}\n## Counts\n\nThin, with fewer than four icons in a pack: {thin}.\n\n"
        + "\n".join(table)
        + "\n"
    )


PAGES = {"recipe.md": recipe_page, "icons.md": icons_page, "speed.md": speed_page, "does-it-help.md": does_it_help.page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (REPOSITORY / "docs" / name).write_text(page(), encoding="utf-8")
    for file in sorted(RECIPES.glob("*.yaml")):
        file.write_text(head_of(file), encoding="utf-8")


if __name__ == "__main__":
    main()
