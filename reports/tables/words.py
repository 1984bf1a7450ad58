"""Texts of tables: short names, captions of at most 40 words, and notes without repetition."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reports.analysis.methods import Method
from reports.analysis.selections import Selections, SettingResults
from reports.analysis.settings import BANNER, Options, Setting, distinct
from reports.render.table import MAX_WORDS, Table
from reports.text import captions

INTERVAL = "In brackets: 95 % interval for these environments (cluster-robust, Student's t)."
BOLD = "Bold: not separated from the best of its block (all paired differences of the block, adjusted by Holm)."
PLAIN_PICKS = (
    "Plain picks: of all that the rule picked (each environment, seed and fold), how often it was the full space. A "
    "method of which all are is plain prediction, marked = and never bold."
)
# Fields of `Setting` in `Table.context`. The page finds settings by some of them: `IN_CONTEXT` in reports/page/data.py.
_SHARED = (
    "protocol", "test_split", "class_half", "folds", "precision", "dataset", "backbone_label", "random_weights",
    "prompts", "dataset_fingerprint", "backbone_fingerprint",
)  # fmt: skip
# Fields by which the names of tables of one kind differ.
_NAMING = ("protocol", "test_split", "class_half", "folds", "precision", "dataset", "backbone")


def short_name(method: Method, names: Mapping[str, str]) -> str:
    """Return a method's name without its predictor, or the one that the recipe's `names` give it in printed tables."""
    return names.get(method.label) or names.get(method.name) or method.name


def caption(results: Sequence[SettingResults], words: str) -> str:
    """Return a caption of at most 40 words, starting with the warning of random weights."""
    random = any(setting.random_weights for setting, _ in results)
    every = f"{f'{BANNER}: ' if random else ''}{words}".split()
    return " ".join(every if len(every) <= MAX_WORDS else [*every[: MAX_WORDS - 1], "…"])


def context(results: Sequence[SettingResults], rule: str | None, options: Options) -> dict[str, str]:
    """Return the value of each context field in the settings of a table. Several values are separated by commas."""
    shared = {name.removesuffix("_label"): [_as_text(getattr(s, name)) for s, _ in results] for name in _SHARED}
    values = {name: ", ".join(dict.fromkeys(words)) for name, words in shared.items()}
    return {**values, "rule": rule or "", "plus_minus": options.plus_minus}


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " | ".join(value) if isinstance(value, tuple) else str(value)


def notes(results: Sequence[SettingResults], rule: str | None, options: Options, own: Iterable[str]) -> list[str]:
    """Return the notes of a table, each sentence once. A note that differs begins with its data set or setting."""

    def sentences(setting: Setting, selections: Selections, options: Options) -> list[str]:
        *before, marked = captions.brief(setting, selections)
        of_rule = captions.rule_words(rule, setting) if rule else ""
        return [*before, of_rule, marked, _error_words(setting, selections, options)]

    return [*filter(None, own), *(line for lines in captions.each_once(results, sentences, options) for line in lines)]


def details(results: Sequence[SettingResults], options: Options) -> list[str]:
    """Return further sentences on how the numbers were measured, each once."""
    return [line for lines in captions.each_once(results, captions.details, options) for line in lines]


def _error_words(setting: Setting, selections: Selections, options: Options) -> str:
    """Return the meaning of ± and the seeds in a short sentence."""
    seeds = selections.seeds
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    if options.plus_minus == "seeds":
        return f"±: standard error over seeds (ddof 1), {named}." if len(seeds) > 1 else f"{named.capitalize()} only."
    units = "groups of images" if setting.grouped else "images"
    return f"±: standard error over {units} (cluster-robust), {named}."


def named(tables: Sequence[Table]) -> list[Table]:
    """Return tables of one kind with distinct names: the kind followed by the fields that differ, or by a number."""
    if len(tables) < 2:
        return list(tables)
    differ = [name for name in _NAMING if len({table.context.get(name, "") for table in tables}) > 1]
    names = distinct("-".join([one.name, *(one.context.get(name, "") for name in differ)]) for one in tables)
    return [replace(table, name=name) for table, name in zip(tables, names, strict=True)]
