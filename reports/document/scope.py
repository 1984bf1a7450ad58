"""Which of all settings a paper shows where it cannot show all: one split, one backbone in figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from benchmark.method.evaluation.protocols import OpenClass
from reports.analysis.chosen import Selections
from reports.analysis.settings import Setting
from reports.figures import groups_of
from reports.tables import words

Family: TypeAlias = Literal["shift", "open", "both", "variants"]


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
    def drawn(self) -> Sequence[tuple[Setting, Selections]]:
        """The settings that figures show: of one backbone, protocol and split, one of each data set."""
        return next(iter(groups_of(self.described)), [])

    @property
    def drawn_family(self) -> Family | None:
        """The experiment of which figures are; None where there are none."""
        return self.family(self.drawn[0][0].protocol) if self.drawn else None

    @property
    def sentence(self) -> str:
        """What figures are of, and what stays in the report; nothing where figures are of all rows."""
        if not self.drawn or len(self.drawn) == len(self.described):
            return ""
        setting = self.drawn[0][0]
        return (
            f"Figures of data sets are of {setting.backbone_label}, protocol {setting.protocol}, split "
            f"{setting.test_split}; `icm-bench report --where backbone=NAME` draws those of another backbone."
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
