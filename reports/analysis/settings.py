"""What all rows of one table share: data, backbone and protocol. Rows that differ in it never mix."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from benchmark.common.errors import IcmBenchError, PluginError
from benchmark.method.evaluation.protocols import PROTOCOLS, Protocol

BANNER = "RANDOM WEIGHTS, NOT A RESULT"
SPLIT_ORDER = ("out_20", "in_80", "full", "out_fold")  # the released code's first
IMPORTED_TEXTS = "imported texts"  # in the place of templates, with a digest: nobody knows them


@dataclass(frozen=True)
class Setting:
    """The columns of `benchmark.store.rows.schema` that are equal in all rows of one table."""

    dataset: str
    dataset_fingerprint: str
    grouped: bool
    backbone: str
    backbone_fingerprint: str
    random_weights: bool
    precision: str
    prompts: tuple[str, ...]
    protocol: str
    test_split: str
    class_half: str
    folds: int
    rounding: str | None

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates of the prompts, without what names a file of imported texts: class names are the data set's."""
        return tuple(IMPORTED_TEXTS if prompt.startswith(f"{IMPORTED_TEXTS} ") else prompt for prompt in self.prompts)

    @property
    def backbone_label(self) -> str:
        """The backbone, marked where its weights are random."""
        return f"{self.backbone} (random weights)" if self.random_weights else self.backbone

    @property
    def banner(self) -> str:
        """What every title and caption begins with: nothing, or the warning of random weights."""
        return f"{BANNER}: " if self.random_weights else ""

    @property
    def protocol_class(self) -> type[Protocol]:
        """The class of the protocol, which has its words; the base class's where it is no longer to be found."""
        try:
            return PROTOCOLS.component_class(self.protocol)
        except PluginError:
            raise
        except IcmBenchError:
            return Protocol

    @property
    def title(self) -> str:
        """A heading for everything about this setting."""
        return (
            f"{self.banner}{self.dataset}, {self.backbone_label} ({self.precision}), "
            f"protocol {self.protocol}, test split {self.test_split}{self.half_words}"
        )

    @property
    def half_words(self) -> str:
        """Which classes the tested images are of; nothing where it is all of them."""
        halves = {"base": "base classes", "new": "new classes", "harmonic": "harmonic mean of base and new classes"}
        return f", {halves[self.class_half]}" if self.class_half in halves else ""

    @property
    def without_data(self) -> tuple[object, ...]:
        """What settings that differ in the data set alone (and with it in prompts and groups) have in common."""
        own = ("dataset", "dataset_fingerprint", "grouped", "prompts")
        return tuple(getattr(self, key) for key in _KEYS if key not in own)

    @property
    def data_and_backbone(self) -> tuple[object, ...]:
        """What settings that differ in the protocol alone have in common."""
        own = ("protocol", "test_split", "rounding")
        return tuple(getattr(self, key) for key in _KEYS if key not in own)

    @property
    def without_backbone(self) -> tuple[object, ...]:
        """What settings that differ in the backbone alone have in common."""
        named = [key for key in _KEYS if key != "prompts" and not key.startswith("backbone")]
        return (self.templates, *(getattr(self, key) for key in named))


_KEYS = [one.name for one in fields(Setting)]
# How a column is read; as text where it is not named here.
_READ: Mapping[str, Callable[[Any], object]] = {
    "grouped": bool,
    "random_weights": bool,
    "prompts": lambda prompts: tuple(json.loads(str(prompts))),
    "folds": int,
    "rounding": lambda rounding: rounding if isinstance(rounding, str) else None,
}
_NAMING = ("dataset", "backbone", "protocol", "test_split", "class_half")


def split_place(split: str) -> int:
    """Return the place of a test split among all of them: the released code's first, one that is unknown last."""
    return SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER)


def named(setting: Setting) -> dict[str, object]:
    """Return the columns by which tidy files tell settings apart; "class_group" is the half of the classes there."""
    return {
        "dataset": setting.dataset,
        "backbone": setting.backbone_label,
        "random_weights": setting.random_weights,
        "protocol": setting.protocol,
        "test_split": setting.test_split,
        "class_group": setting.class_half,
    }


def by_setting(rows: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
    """Split rows of `benchmark.store.rows.schema` into those that may stand in one table, in a fixed order."""
    parts = []
    for _, part in rows.groupby(_KEYS, dropna=False, sort=False):
        first = part.iloc[0].to_dict()
        columns: dict[str, Any] = {name: _READ.get(name, str)(first[name]) for name in _KEYS}
        parts.append((Setting(**columns), part))
    return sorted(parts, key=lambda p: tuple(str(getattr(p[0], k)) for k in (*_NAMING, *_KEYS)))


def suffixes(settings: list[Setting]) -> list[str]:
    """Return what is added to each setting's file names: nothing if there is one, else distinct words."""
    if len(settings) == 1:
        return [""]
    names: list[str] = []
    always = ("dataset", "backbone", "test_split")
    named = [k for k in _NAMING if k in always or len({getattr(s, k) for s in settings}) > 1]
    for setting in settings:
        words = "-".join(getattr(setting, k) for k in named)
        base = "-" + re.sub(r"[^A-Za-z0-9_.]+", "-", words).strip("-.")
        numbered = [base, *(f"{base}-{number}" for number in range(2, len(settings) + 1))]
        names.append(next(name for name in numbered if name not in names))
    return names
