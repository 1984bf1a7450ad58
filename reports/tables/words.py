"""The words of tables: short names, captions of at most 40 words, and notes that say each thing once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reports.analysis.chosen import Selections, SettingResults
from reports.analysis.methods import Method
from reports.analysis.settings import BANNER, Options, Setting, distinct
from reports.render.table import Table
from reports.text import captions

LONGEST_CAPTION = 40  # words
INTERVAL = "In brackets: 95 % interval for these environments (cluster-robust, Student's t)."
BOLD = "Bold: not separated from the best of its block (all paired differences of the block, adjusted by Holm)."
PLAIN_PICKS = (
    "Plain picks: of all that the rule picked (each environment, seed and fold), how often it was the full space. A "
    "method of which all are is plain prediction, marked = and never bold."
)
_SHORT = {
    "Random projection": "Random",
    "CLIP-ICM (largest)": "CLIP-ICM",
    "CLIP-ICM (released order)": "CLIP-ICM, released",
}
_SHARED = (
    "protocol", "test_split", "class_half", "folds", "precision", "dataset", "backbone_label", "random_weights",
    "prompts", "dataset_fingerprint", "backbone_fingerprint",
)  # fmt: skip
_NAMING = ("protocol", "test_split", "class_half", "folds", "precision", "dataset", "backbone")


def short_name(method: Method, names: Mapping[str, str]) -> str:
    """Return a method as a printed table has it, without its predictor."""
    label = method.label if method.imported else method.projection_label
    return names.get(method.label) or names.get(label) or _SHORT.get(label, label)


def caption(described: Sequence[SettingResults], words: str) -> str:
    """Return a caption of at most 40 words: random weights first."""
    random = any(setting.random_weights for setting, _ in described)
    every = f"{f'{BANNER}: ' if random else ''}{words}".split()
    return " ".join(every if len(every) <= LONGEST_CAPTION else [*every[: LONGEST_CAPTION - 1], "…"])


def context(described: Sequence[SettingResults], rule: str | None, options: Options) -> dict[str, str]:
    """Return what all numbers of a table share, field -> value; of fields that may differ, all values."""
    shared = {name.removesuffix("_label"): [_said(getattr(s, name)) for s, _ in described] for name in _SHARED}
    values = {name: ", ".join(dict.fromkeys(words)) for name, words in shared.items()}
    return {**values, "rule": rule or "", "plus_minus": options.plus_minus}


def _said(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " | ".join(value) if isinstance(value, tuple) else str(value)


def notes(described: Sequence[SettingResults], rule: str | None, options: Options, own: Iterable[str]) -> list[str]:
    """Return what a reader must know, each sentence once; what differs is said of each data set or setting."""

    def said(setting: Setting, selections: Selections, options: Options) -> list[str]:
        *before, marked = captions.brief(setting, selections)
        of_rule = captions.rule_words(rule, setting) if rule else ""
        return [*before, of_rule, marked, _error_words(setting, selections, options)]

    return [*filter(None, own), *(line for lines in captions.each_once(described, said, options) for line in lines)]


def details(described: Sequence[SettingResults], options: Options) -> list[str]:
    """Return what else there is to know of how it was tested; arguments as of `notes`."""
    return [line for lines in captions.each_once(described, captions.details, options) for line in lines]


def _error_words(setting: Setting, selections: Selections, options: Options) -> str:
    """Return in a few words what ± is and which seeds there are."""
    seeds = selections.seeds
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    if options.plus_minus == "seeds":
        return f"±: standard error over seeds (ddof 1), {named}." if len(seeds) > 1 else f"{named.capitalize()} only."
    units = "groups of images" if setting.grouped else "images"
    return f"±: standard error over {units} (cluster-robust), {named}."


def named(tables: Sequence[Table]) -> list[Table]:
    """Return tables of one kind with names of their own: what they differ in, or a number, stands behind the kind's."""
    if len(tables) < 2:
        return list(tables)
    differ = [name for name in _NAMING if len({table.context.get(name, "") for table in tables}) > 1]
    names = distinct("-".join([one.name, *(one.context.get(name, "") for name in differ)]) for one in tables)
    return [replace(table, name=name) for table, name in zip(tables, names, strict=True)]
