"""docs/speed.md: tables of the figures of `make bench` in docs/speed.json, before what was measured by hand."""

import json
from typing import Any

import yaml

from tests.conftest import REPOSITORY
from tests.performance.__main__ import FLOORS

BY_HAND = "## Measured at length"


def speed_page() -> str:
    """Return the page: generated tables, then the section written by hand, unchanged."""
    bench = json.loads((REPOSITORY / "docs" / "speed.json").read_text(encoding="utf-8"))
    benchmarks = yaml.safe_load(FLOORS.read_text(encoding="utf-8"))
    machine, versions = bench["machine"], bench["versions"]
    head = (
        "# Speed\n\nTables are made by `make docs` from `docs/speed.json`, a copy of what `make bench` wrote; what stands under "
        "[Measured at length](#measured-at-length) is written by hand. Floors are those of "
        "`tests/performance/floors.yaml`; `make bench` ends with an error where one is missed.\n\n"
        f"Commit {bench['commit']}, {machine['cores']} cores ({machine['processor']}), {machine['memory_gib']:g} GiB, "
        f"{machine['system']}; {', '.join(f'{name} {number}' for name, number in versions.items())}. No GPU."
    )
    sections = [_section(name, result, **benchmarks[name]) for name, result in bench["benchmarks"].items()]
    _, mark, by_hand = (REPOSITORY / "docs" / "speed.md").read_text(encoding="utf-8").partition(BY_HAND)
    return "\n\n".join([head, *sections, mark + by_hand])


def _section(name: str, result: dict[str, Any], about: str, figures: dict[str, Any]) -> str:
    lines = ["| figure | measured | floor |", "|---|---|---|"]
    for figure, value in result["figures"].items():
        bounds = ", ".join(f"{k.replace('_', ' ')} {bound:g}" for k, bound in figures[figure].items() if k != "is")
        lines.append(f"| {figures[figure]['is']} | {value:.4g} | {bounds} |")
    command = f"`python -m tests.performance.bench_{name} {result['arguments']}`, {result['seconds']:.0f} s"
    if "commit" in result:  # measured again, later than the others
        command += f", at commit {result['commit']}"
    return f"## {name.replace('_', ' ')}\n\n{about} Run: {command}.\n\n" + "\n".join(lines)
