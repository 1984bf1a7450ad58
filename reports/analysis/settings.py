"""What all rows of one table share: data, backbone and protocol. Rows that differ in it never mix."""

import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any, TypeVar

import pandas as pd

from benchmark.common.errors import IcmBenchError, PluginError
from benchmark.method.evaluation.inference import MARGIN, PlusMinus
from benchmark.method.evaluation.metrics import BUILT_IN, Metric
from benchmark.method.evaluation.protocols import PROTOCOLS, Protocol

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
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

    def without(self, *names: str) -> tuple[object, ...]:
        """Return what settings that differ in some fields alone have in common."""
        return tuple(getattr(self, key) for key in _KEYS if key not in names)


_KEYS = [one.name for one in fields(Setting)]
OF_DATA = ("dataset", "dataset_fingerprint", "grouped", "prompts")  # fields that come with a data set
_NAMING = ("dataset", "backbone", "protocol", "test_split", "class_half")


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return key -> the items that have it, all in order of appearance."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


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
        columns: dict[str, Any] = {name: str(first[name]) for name in _KEYS}
        columns |= {"grouped": bool(first["grouped"]), "random_weights": bool(first["random_weights"])}
        columns |= {"prompts": tuple(json.loads(columns["prompts"])), "folds": int(first["folds"])}
        columns["rounding"] = first["rounding"] if isinstance(first["rounding"], str) else None
        parts.append((Setting(**columns), part))
    return sorted(parts, key=lambda p: tuple(str(getattr(p[0], k)) for k in (*_NAMING, *_KEYS)))


def suffixes(settings: list[Setting]) -> list[str]:
    """Return what is added to each setting's file names: nothing if there is one, else distinct words."""
    if len(settings) == 1:
        return [""]
    always = ("dataset", "backbone", "test_split")
    named = [k for k in _NAMING if k in always or len({getattr(s, k) for s in settings}) > 1]
    return [f"-{name}" for name in distinct("-".join(getattr(s, k) for k in named) for s in settings)]


def distinct(words: Iterable[str]) -> list[str]:
    """Return words as names of files; one that comes again has a number behind it."""
    names: list[str] = []
    for base in (re.sub(r"[^A-Za-z0-9_.]+", "-", one).strip("-.") for one in words):
        numbered = (base if number == 1 else f"{base}-{number}" for number in count(1))
        names.append(next(name for name in numbered if name not in names))
    return names


@dataclass(frozen=True)
class Options:
    """What a reader of a report may ask for.

    Attributes:
        plus_minus: what stands behind ± in tables: `images`, the cluster-robust standard error, or `seeds`, DomainBed's
            standard error over seeds.
        margin: within which two accuracies count as level, as a fraction; default one point.
        compare: labels of methods, method and baseline, that come first in the answer, each with its gain, and are
            compared with each other; by default none.
        published: whether numbers are held against published ones; default False.
        price: of an hour of a GPU, in any currency, which adds the table of costs; None (default) for no such table.
        paper: whether all of it is also written as one paper; numbers are then held against published ones. Default
            False.
        color: whether the terminal's headline may be bold; default False.
        metrics: that tables show; by default the built-in ones.
        metric_of: data set, as rows call it -> its metric, where that is not accuracy.
        tables: of the user's own, each as "module:TABLE", see `reports.tables.spec`; by default none.
    """

    plus_minus: PlusMinus = "images"
    margin: float = MARGIN
    compare: tuple[tuple[str, str], ...] = ()
    published: bool = False
    price: float | None = None
    color: bool = False
    paper: bool = False
    metrics: tuple[Metric, ...] = BUILT_IN
    metric_of: Mapping[str, Metric] = field(default_factory=dict, hash=False)
    tables: tuple[str, ...] = ()
