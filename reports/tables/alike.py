"""Which settings may stand in one table, and which rule chooses for all of it. Rows that are unlike never share one."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from benchmark.common.errors import IcmBenchError
from benchmark.method.evaluation.selection import RULES
from reports.analysis.chosen import Selections
from reports.analysis.settings import Setting

Described: TypeAlias = Sequence[tuple[Setting, Selections]]  # settings, each with its rows

_ALL_SHARE = ("protocol", "test_split", "folds", "rounding", "precision", "class_half")
# Templates, groups and images are a data set's own: they may differ between data sets, and never within one.
_OWNERS = {
    **dict.fromkeys(("templates", "grouped", "dataset_fingerprint"), "dataset"),
    "backbone_fingerprint": "backbone_label",
}
_CALLED = {"dataset": "data set", "backbone_label": "backbone"}
_HALVES = "class_half"
_SAME_TEMPLATES = "give backbones the same prompts.templates, or take those that have with --where backbone=NAME"


def groups(described: Described, halves: bool = False) -> list[list[tuple[Setting, Selections]]]:
    """Return the settings that may share a table, in the order of the settings; see `check_alike`.

    A data set that comes with several prompts, or in several states, stands in a group for each. Settings with the same
    prompts are taken together.

    Args:
        described: settings with their rows.
        halves: whether base classes, new classes and both together may share a table.
    """
    shared = [name for name in _ALL_SHARE if not (halves and name == _HALVES)]
    parts = _split(described, lambda setting: tuple(getattr(setting, name) for name in shared))
    for name, owner in _OWNERS.items():
        parts = [part for whole in parts for part in _apart(whole, name, owner)]
    return parts


def check_alike(described: Described, table: str, halves: bool = False) -> None:
    """Refuse settings whose rows cannot stand in one table.

    Args:
        described: settings with their rows, at least one.
        table: its name, for the message.
        halves: whether base classes, new classes and both together may share it.

    Raises:
        IcmBenchError: protocol, split, folds, precision or half of the classes differ; or prompts, groups or images of
            one data set; or the weights of one backbone. Names the field.
    """
    owners = {**dict.fromkeys(_ALL_SHARE, ""), **_OWNERS}
    for name, owner in owners.items():
        values: dict[str, set[object]] = {}
        for setting, _ in described if not (halves and name == _HALVES) else ():
            whose = f"of the {_CALLED[owner]} {getattr(setting, owner)} " if owner else ""
            values.setdefault(whose, set()).add(getattr(setting, name))
        for whose, unlike in values.items():
            if len(unlike) > 1:
                first, second, *more = sorted(map(str, unlike))
                said = f"{first[:60]}, {second[:60]}{', ...' if more else ''}"
                remedy = _SAME_TEMPLATES if name == "templates" else f"report on one of them with --where {name}=VALUE"
                raise IcmBenchError(
                    f"Rows of unlike {name} {whose}({said}) cannot stand in the one table '{table}': {remedy}."
                )


def common_rule(described: Described, rule: str | None = None) -> str:
    """Return what chooses for everything in a table: `lodo_1se` if all settings have it, else what they all have.

    Args:
        described: settings with their rows.
        rule: what was asked for; by default what is fair.

    Raises:
        IcmBenchError: there is no such rule.
    """
    if rule is not None and rule not in RULES:
        raise IcmBenchError(f"There is no selection rule '{rule}'; choose one of {', '.join(RULES)}.")
    fair = [RULES[selections.rule] for _, selections in described]
    score = "lodo" if all(one.score == "lodo" for one in fair) else "training_domain"
    return rule or (f"{score}_1se" if all(one.one_se for one in fair) else score)


def by_data_set(described: Described) -> dict[str, Described]:
    """Return data set -> its settings, in their order."""
    return _by(described, lambda setting: setting.dataset)


def by_backbone(described: Described) -> dict[str, Described]:
    """Return label of a backbone -> its settings, in their order."""
    return _by(described, lambda setting: setting.backbone_label)


def _by(described: Described, key: Callable[[Setting], str]) -> dict[str, Described]:
    names = dict.fromkeys(key(setting) for setting, _ in described)
    return {name: [(s, selections) for s, selections in described if key(s) == name] for name in names}


def _split(described: Described, key: Callable[[Setting], Hashable]) -> list[list[tuple[Setting, Selections]]]:
    found: dict[Hashable, list[tuple[Setting, Selections]]] = {}
    for setting, selections in described:
        found.setdefault(key(setting), []).append((setting, selections))
    return list(found.values())


def _apart(described: Described, name: str, owner: str) -> list[list[tuple[Setting, Selections]]]:
    """Split settings where one owner has several values of a field: templates by value, fingerprints by their place."""
    values: dict[str, list[object]] = {}
    for setting, _ in described:
        own = values.setdefault(getattr(setting, owner), [])
        own += [] if getattr(setting, name) in own else [getattr(setting, name)]
    if all(len(own) == 1 for own in values.values()):
        return [list(described)]
    if name == "templates":
        return _split(described, lambda setting: setting.templates)
    return _split(described, lambda setting: values[getattr(setting, owner)].index(getattr(setting, name)))
