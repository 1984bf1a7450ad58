"""Which of all settings a paper shows where it cannot show all: one split, one backbone in figures, one predictor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

from benchmark.method.evaluation.protocols import OpenClass
from reports.analysis.against import SPLIT_ORDER
from reports.analysis.chosen import Selections
from reports.analysis.settings import Setting
from reports.figures.wording import drawable
from reports.tables import words

Family: TypeAlias = Literal["shift", "open", "both", "variants"]
_FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True)
class Scope:
    """The settings of a report, and those of them that its paper shows.

    Attributes:
        described: every setting with its rows.
        names: long name -> short name, as tables have them.
    """

    described: Sequence[tuple[Setting, Selections]]
    names: Mapping[str, str]

    @cached_property
    def families(self) -> dict[str, Family]:
        """Protocol -> the experiment of the paper to which its rows belong."""
        return {setting.protocol: _family_of(setting) for setting, _ in self.described}

    @cached_property
    def predictors(self) -> list[str]:
        """The predictors as titles of tables call them, in the order of tables."""
        methods = sorted({m for _, x in self.described for m in x.parts}, key=lambda method: method.place)
        return list(dict.fromkeys(words.short(method.predictor_label, self.names) for method in methods))

    @cached_property
    def compared(self) -> list[tuple[Setting, Selections]]:
        """The settings of the forest: of the first experiment that has any, one protocol and split, all backbones."""
        settings = drawable(self.described)
        if not settings:
            return []
        family = min((self.families[s.protocol] for s, _ in settings), key=_FAMILIES.index)
        settings = [one for one in settings if self.families[one[0].protocol] == family]
        first = min((s for s, _ in settings), key=lambda s: (_split(s), s.protocol))
        return [one for one in settings if _alike(one[0]) == _alike(first)]

    @cached_property
    def drawn(self) -> list[tuple[Setting, Selections]]:
        """The settings of the other figures: of these those of the first backbone, one of each data set."""
        first = [one for one in self.compared if one[0].backbone_label == self.compared[0][0].backbone_label]
        return list({one[0].dataset: one for one in reversed(first)}.values())[::-1]

    @property
    def drawn_family(self) -> Family | None:
        """The experiment of which figures are; None where there are none."""
        return self.family(self.drawn[0][0].protocol) if self.drawn else None

    @property
    def sentence(self) -> str:
        """What figures are of, and what stays in the report; nothing where figures are of all rows."""
        if not self.drawn or (len(self.drawn) == len(self.described) and len(self.predictors) == 1):
            return ""
        setting = self.drawn[0][0]
        more = f", predictor {self.predictors[0]}" if len(self.predictors) > 1 else ""
        return (
            f"Figures of data sets are of {setting.backbone_label}, protocol {setting.protocol}, split "
            f"{setting.test_split}{more}; a report of fewer rows has those of others (`--where backbone=NAME`)."
        )

    def family(self, protocol: str) -> Family | None:
        """Return the experiment to which rows of a protocol belong; None without such rows."""
        return self.families.get(protocol)


def _family_of(setting: Setting) -> Family:
    protocol = setting.protocol_class
    if protocol.across_sets:
        return "variants"
    if protocol.open_class:
        return "open" if issubclass(protocol, OpenClass) else "both"
    return "shift"


def _split(setting: Setting) -> int:
    return SPLIT_ORDER.index(setting.test_split) if setting.test_split in SPLIT_ORDER else len(SPLIT_ORDER)


def _alike(setting: Setting) -> tuple[str, ...]:
    return setting.protocol, setting.test_split, setting.class_half
