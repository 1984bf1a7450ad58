"""What all rows of one table share: data, backbone and protocol. Rows that differ in it never mix."""

import json
import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.common.errors import IcmBenchError, PluginError
from benchmark.method.evaluation.protocols import PROTOCOLS, Protocol

BANNER = "RANDOM WEIGHTS, NOT A RESULT"
IMPORTED_TEXTS = "imported texts"  # in the place of templates, with a digest: nobody knows them

_KEYS = [
    "dataset", "dataset_fingerprint", "grouped", "backbone", "backbone_fingerprint", "random_weights",
    "precision", "prompts", "protocol", "test_split", "class_half", "folds", "rounding",
]  # fmt: skip


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
        words = {
            "base": ", base classes",
            "new": ", new classes",
            "harmonic": ", harmonic mean of base and new classes",
        }
        return words.get(self.class_half, "")

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
    parts = [(_setting(part.iloc[0].to_dict()), part) for _, part in rows.groupby(_KEYS, dropna=False, sort=False)]
    return sorted(parts, key=lambda p: tuple(str(getattr(p[0], k)) for k in (*_NAMING, *_KEYS)))


_NAMING = ("dataset", "backbone", "protocol", "test_split", "class_half")
_ALWAYS_NAMED = ("dataset", "backbone", "test_split")


def suffixes(settings: list[Setting]) -> list[str]:
    """Return what is added to each setting's file names: nothing if there is one, else distinct words."""
    if len(settings) == 1:
        return [""]
    names: list[str] = []
    named = [k for k in _NAMING if k in _ALWAYS_NAMED or len({getattr(s, k) for s in settings}) > 1]
    for setting in settings:
        words = "-".join(getattr(setting, k) for k in named)
        base = suffix = "-" + re.sub(r"[^A-Za-z0-9_.]+", "-", words).strip("-.")
        number = 1
        while suffix in names:
            number += 1
            suffix = f"{base}-{number}"
        names.append(suffix)
    return names


def _setting(row: dict[Hashable, Any]) -> Setting:
    words = {k: str(row[k]) for k in _KEYS if k not in ("grouped", "random_weights", "prompts", "folds", "rounding")}
    return Setting(
        **words,
        grouped=bool(row["grouped"]),
        random_weights=bool(row["random_weights"]),
        prompts=tuple(json.loads(str(row["prompts"]))),
        folds=int(row["folds"]),
        rounding=row["rounding"] if isinstance(row["rounding"], str) else None,
    )
