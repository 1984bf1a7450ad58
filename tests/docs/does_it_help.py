"""docs/does-it-help.md, made from docs/figures.json by `make docs`: sentences here, no figure is typed by hand."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tests.docs.figures import BASE, FIGURES, GATED

SHRINKAGE, FIXED = "Shrinkage + zero-shot", "Fixed shrinkage + zero-shot"
LINES = {  # method -> its line in tables
    "CLIP-ICM + zero-shot": "CLIP-ICM `largest`, C_d alone",
    SHRINKAGE: "**shrinkage**",
    "Truncation (equal N) + zero-shot": "equal-N truncation",
    "Shrinkage (interventions alone) + zero-shot": "interventions alone",
    "Shrinkage (environments alone) + zero-shot": "environments alone",
    "Shrinkage (isotropic + environments) + zero-shot": "`isotropic_environments`: no intervention in it",
    FIXED: "`fixed`: nothing chosen, no label",
    "Shrinkage (within classes) + zero-shot": "`within_classes` (labels)",
    "Shrinkage (oas) + zero-shot": "shrinkage, covariances by OAS",
    "Fixed shrinkage (oas) + zero-shot": "`fixed`, covariances by OAS",
}
Plain = dict[str, Any]


def page() -> str:
    """Return the page."""
    return page_of(json.loads(FIGURES.read_text(encoding="utf-8")))


def page_of(figures: Plain) -> str:
    """Return the page of some figures, see `tests.docs.figures`."""
    real = figures["real"]
    sections = [_answer(real), _ESTIMATORS, _EXPLANATIONS, _by_set(real), _in_new_sets(real)]
    sections += [_curves(real)] if real["learning_curves"] else []
    sections += [_oas(real)] if any(one["oas"] for one in real["settings"]) else []
    sections += [_demo(figures["demo"])] if "demo" in figures else []
    return "\n\n".join([*sections, _CLAIMS]) + "\n"


def _answer(real: Plain) -> str:
    """Return title and first lines: what was found, what was not, on how many environments, where `fixed` hurts."""
    settings = real["settings"]
    environments = sum(one["environments"] for one in settings)
    named = _and([f"`{one['dataset']}`" for one in settings])
    lines = [
        "# Does it help?",
        f"Asked on {environments} held-out environments of {len(settings)} sets of real images ({named}), with the demo's small "
        "encoder (MiniLiT at 160 pixels, not CLIP), zero-shot. What was to be compared was "
        "[written down before](preregistration.md); the drawings of `emoji_styles` led to the method. Gains are points over plain "
        "prediction, with 95 % intervals.",
    ]
    found = [one for one in settings if _significant(one, SHRINKAGE) > 0]
    harmed = [one for one in settings if _significant(one, SHRINKAGE) < 0]
    rest = [one for one in settings if one not in found and one not in harmed]
    items = [
        f"**Found:** shrinkage is ahead of plain prediction on {_of_each(found, SHRINKAGE)}; the verdict "
        f"is {_and([_verdict(one) for one in found])}."
        if found
        else "**Found:** no gain of shrinkage on any set.",
        f"**Not found:** a gain on {_of_each(rest, SHRINKAGE)}." if rest else "",
        f"**Harm:** shrinkage is behind on {_of_each(harmed, SHRINKAGE)}." if harmed else "",
        *_new(real, SHRINKAGE),
        _fixed(settings),
    ]
    return "\n\n".join([*lines, "\n".join(f"- {item}" for item in items if item)])


def _verdict(setting: Plain) -> str:
    own = setting["methods"][SHRINKAGE]
    return f'"{own["verdict"]}", with classes counted equally {_interval(own["balanced"])}'


def _new(real: Plain, method: str) -> Iterator[str]:
    """Yield a sentence on new environments of new sets."""
    if one := real["new_sets"].get(method, {}).get(GATED):
        shown = "a gain is shown" if one["low"] > 0 else "a loss is shown" if one["high"] < 0 else "no gain is shown"
        yield (
            f"**New environments of new sets:** {shown}, {_interval(one)}; {one['ahead']} environments are ahead of plain "
            f"prediction, {one['equal']} equal, {one['behind']} behind."
        )


def _fixed(settings: Sequence[Plain]) -> str:
    harmed = [one for one in settings if _significant(one, FIXED) < 0]
    lower = [one for one in settings if _of(one, FIXED) and _of(one, FIXED)["points"] < 0 and one not in harmed]
    if harmed:
        return f"**`fixed`**, where nothing is chosen, **hurts** on {_of_each(harmed, FIXED)}."
    more = f"; below plain prediction, but not significantly, on {_of_each(lower, FIXED)}" if lower else ""
    return f"**`fixed`**, where nothing is chosen, hurts on none of these sets{more}."


_ESTIMATORS = """## The estimators

CLIP-ICM keeps the leading eigenvectors of C_z - lambda C_d: directions that hold much of the embeddings and that
interventions move little. Shrinkage, F = C_z (C_z + lambda N)^-1, keeps every direction in part. Its N is C_d
(interventions), the variation between environment means, or both. *Equal-N truncation* drops directions by the same N, and
so separates the effect of N from that of shrinking: [formulas](comparisons.md#shrinkage)."""

_EXPLANATIONS = """## What could explain a gain away

| comparison | what it would show |
|---|---|
| shrinkage minus plain, by accuracy and by class-balanced accuracy | whether there is a gain, and which |
| minus equal-N truncation | that shrinking, not truncating, makes the gain |
| minus interventions alone, as chosen for them and with all else as chosen for shrinkage | that environment means make it |
| minus environments alone, minus isotropic + environments, minus borrowed interventions | that interventions make it |

A cause is credited only if shrinkage is ahead in all comparisons of its line. The rule is `lodo_1se`, which keeps plain
prediction unless the sources are clearly in favour; causes are compared by `lodo`:
[the plan of tests](preregistration.md#change-of-2026-11-29-how-settings-are-chosen-and-the-plan-of-tests)."""


def _by_set(real: Plain) -> str:
    """Return the table of gains by data set, and the verdicts."""
    settings = real["settings"]
    head = ["| |", *(f" {one['dataset']} |" for one in settings)]
    sizes = [
        f" {one['environments']} environments, {one['classes']} classes, {one['images']:,} images |" for one in settings
    ]
    lines = ["".join(head), "|---" * (len(settings) + 1) + "|", "| size |" + "".join(sizes)]
    lines.append("| plain, % |" + "".join(f" {one['plain']:.1f} |" for one in settings))
    for label, name in LINES.items():
        if any(_of(one, label) for one in settings):
            cells = [_cell(one, label) for one in settings]
            lines.append(f"| {name} |" + "".join(f" {cell} |" for cell in cells))
        if label in (SHRINKAGE, FIXED):
            equal = [_interval(one["methods"].get(label, {}).get("balanced")) for one in settings]
            lines.append("| - with classes counted equally |" + "".join(f" {cell} |" for cell in equal))
    verdicts = [
        f"- {one['dataset']}: {own['verdict']}; environment means {answers['environments']}, interventions "
        f"{answers['interventions']}, shrinking {answers['shrinking']}."
        for one in settings
        if (own := one["methods"].get(SHRINKAGE, {})) and (answers := own.get("questions"))
    ]
    said = (
        "\n\nVerdicts on shrinkage, and which causes of a gain are shown:\n\n" + "\n".join(verdicts) if verdicts else ""
    )
    return "## By data set\n\nPoints over plain prediction, rule `lodo_1se`:\n\n" + "\n".join(lines) + said


def _in_new_sets(real: Plain) -> str:
    """Return the table of random effects over environments nested in data sets."""
    lines = ["| | `lodo_1se` | ahead / equal / behind | `lodo` |", "|---|---|---|---|"]
    for label, name in LINES.items():
        if of_rules := real["new_sets"].get(label):
            gated, base = of_rules.get(GATED), of_rules.get(BASE)
            counts = f"{gated['ahead']} / {gated['equal']} / {gated['behind']}" if gated else "—"
            lines.append(f"| {name} | {_interval(gated)} | {counts} | {_interval(base)} |")
    return (
        "## In new environments of new sets\n\nRandom effects over held-out environments nested in sets (Paule and Mandel, "
        "Hartung and Knapp): the gain to expect in a new environment of a new set. Intervals are not adjusted for the "
        "number of methods.\n\n" + "\n".join(lines)
    )


def _curves(real: Plain) -> str:
    """Return the table of learning curves, and a sentence on their ends."""
    shares = list(dict.fromkeys(one["share"] for one in real["learning_curves"]))
    names = {"CLIP-ICM": "CLIP-ICM", "Shrinkage": "shrinkage", "Fixed shrinkage": "`fixed`"}
    lines = ["| |" + "".join(f" {share} of the source images |" for share in shares), "|---" * (len(shares) + 1) + "|"]
    ends: list[str] = []
    for dataset in dict.fromkeys(one["dataset"] for one in real["learning_curves"]):
        own = [one for one in real["learning_curves"] if one["dataset"] == dataset]
        images = {one["share"]: one["images_per_dimension"] for one in own}
        lines.append(f"| {dataset}: images per dimension |" + "".join(f" {images[share]:.1f} |" for share in shares))
        for method in (m for m in names if any(one["method"] == m for one in own)):
            of = {one["share"]: one for one in own if one["method"] == method}
            lines.append(f"| {dataset}: {names[method]} |" + "".join(f" {_interval(of.get(s))} |" for s in shares))
            if method == "Fixed shrinkage":
                first, last = of[shares[0]], of[shares[-1]]
                ends.append(f"{_signed(first['points'])} to {_signed(last['points'])} on {dataset}")
    return (
        "## How many images a fit needs\n\nTested fits on a share of the source images, drawn as folds (whole groups); fits for "
        "selection have the same share of their folds, one at least. Gains by `lodo`.\n\n"
        + "\n".join(lines)
        + f"\n\nFrom {shares[0]} to all source images, the gain of `fixed` goes from {_and(ends)}."
    )


def _oas(real: Plain) -> str:
    """Return a section on covariances shrunk by OAS: paired differences to sample covariances, by share of the images."""
    settings = [one for one in real["settings"] if one["oas"]]
    shares = list(dict.fromkeys(line["share"] for one in settings for line in one["oas"]))
    names = {"shrinkage": "shrinkage", "fixed": "`fixed`"}
    lines = ["| |" + "".join(f" {share} of the source images |" for share in shares), "|---" * (len(shares) + 1) + "|"]
    for one in settings:
        for method, name in names.items():
            of = {line["share"]: line for line in one["oas"] if line["method"] == method}
            lines.append(
                f"| {one['dataset']}: {name} |" + "".join(f" {_interval(of.get(share))} |" for share in shares)
            )
    whole = [line for one in settings for line in one["oas"] if line["share"] == shares[-1]]
    few = [line for one in settings for line in one["oas"] if line["share"] == shares[0]]
    ahead, behind = sum(line["low"] > 0 for line in whole), sum(line["high"] < 0 for line in whole)
    return (
        "## Covariances shrunk toward the identity\n\n`covariance: oas` shrinks C_z and C_d by OAS before they are used. "
        "Points over the same method with sample covariances, rule `lodo`. This was not written down before, and intervals are "
        "not adjusted for their number:\n\n"
        + "\n".join(lines)
        + f"\n\nWith all source images, {ahead} of these {len(whole)} intervals are above 0 and {behind} below; with "
        f"{shares[0]} of them, {sum(line['low'] > 0 for line in few)} are above 0. It is off by default, since a default "
        "must win on sets that did not choose it."
    )


def _demo(demo: Plain) -> str:
    """Return a section on the demo's own result."""
    (one,) = demo["settings"]
    lines = [f"| {name} | {_cell(one, label)} |" for label, name in LINES.items() if _of(one, label)]
    return (
        f"## The demo\n\n`icm-bench demo`: {one['images']:,} images of {one['dataset']}, {one['environments']} environments, "
        f"plain prediction {one['plain']:.1f} %. Points over it, rule `lodo_1se`:\n\n| | |\n|---|---|\n"
        + "\n".join(lines)
    )


_CLAIMS = """## How far this goes

- Nothing is known for CLIP's own weights: none was run here.
- The drawings of `emoji_styles` led to the method: [what was written down before](preregistration.md). A claim that goes
  beyond them rests on the other sets, and on yours.
- Sets without a planted effect, and with one, are [in the recipe `controls`](comparisons.md): `icm-bench run controls` says
  which verdicts are right.
- To make these figures anew: `icm-bench run real --data DIR --store STORE`, then `python -m tests.docs.figures --data DIR --store STORE
  real`; the demo likewise."""


def _of(setting: Plain, label: str, rule: str = GATED) -> Plain:
    found: Plain = setting["methods"].get(label, {}).get(rule, {})
    return found


def _significant(setting: Plain, label: str) -> int:
    """Return 1 for an interval above 0, -1 for one below 0, else 0."""
    one = _of(setting, label)
    return 0 if not one else 1 if one["low"] > 0 else -1 if one["high"] < 0 else 0


def _cell(setting: Plain, label: str) -> str:
    return _interval(_of(setting, label))


def _interval(one: Plain | None) -> str:
    """Return a difference with its interval: "+4.1 [+2.1, +6.1]"."""
    if not one or one.get("points") is None:
        return "—"
    ends = "" if one.get("low") is None else f" [{_signed(one['low'])}, {_signed(one['high'])}]"
    return f"{_signed(one['points'])}{ends}"


def _signed(points: float) -> str:
    """Return points with a sign and one decimal; never -0.0."""
    return f"{round(points, 1) + 0.0:+.1f}"


def _of_each(settings: Sequence[Plain], label: str) -> str:
    return _and([f"`{one['dataset']}` ({_cell(one, label)})" for one in settings])


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
