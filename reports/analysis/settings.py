"""`Setting`: data set, backbone, protocol and other facts shared by all rows of a table. `Options`: for a report."""

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
# Test splits in display order, the released code's first. Each also needs its meaning in reports/text/captions.py.
SPLIT_ORDER = ("out_20", "in_80", "full", "out_fold")
IMPORTED_TEXTS = "imported texts"  # followed by a digest, this is the prompt if templates are unknown


@dataclass(frozen=True)
class Setting:
    """Columns of `benchmark.store.rows.schema` that are equal in all rows of one table."""

    # A new field also needs an entry in `_ALL_SHARE` or `_OWNERS` of reports/tables/spec.py; otherwise settings that
    # differ in it share a table. `named` has the fields of CSV files.

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
        """Templates of the prompts. The digest of imported texts is removed, since it depends on the class names."""
        return tuple(IMPORTED_TEXTS if prompt.startswith(f"{IMPORTED_TEXTS} ") else prompt for prompt in self.prompts)

    @property
    def backbone_label(self) -> str:
        """Name of the backbone, marked if its weights are random."""
        return f"{self.backbone} (random weights)" if self.random_weights else self.backbone

    @property
    def banner(self) -> str:
        """Prefix of titles and captions: the warning of random weights, or empty."""
        return f"{BANNER}: " if self.random_weights else ""

    @property
    def protocol_class(self) -> type[Protocol]:
        """Class of the protocol; the base class if the protocol is no longer registered."""
        try:
            return PROTOCOLS.component_class(self.protocol)
        except PluginError:
            raise
        except IcmBenchError:
            return Protocol

    @property
    def title(self) -> str:
        """Heading of the setting."""
        return (
            f"{self.banner}{self.dataset}, {self.backbone_label} ({self.precision}), "
            f"protocol {self.protocol}, test split {self.test_split}{self.half_words}"
        )

    @property
    def half_words(self) -> str:
        """Class half of the test images in words; empty for all classes."""
        halves = {"base": "base classes", "new": "new classes", "harmonic": "harmonic mean of base and new classes"}
        return f", {halves[self.class_half]}" if self.class_half in halves else ""

    def without(self, *names: str) -> tuple[object, ...]:
        """Return the values of all fields except the named ones, as a key for grouping settings."""
        return tuple(getattr(self, key) for key in _KEYS if key not in names)


_KEYS = [one.name for one in fields(Setting)]
DATA_FIELDS = ("dataset", "dataset_fingerprint", "grouped", "prompts")  # fields that depend on the data set
_NAMING = ("dataset", "backbone", "protocol", "test_split", "class_half")


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return key -> items with that key, both in order of appearance."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def split_place(split: str) -> int:
    """Return the sort position of a test split; unknown splits last."""
    return SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER)


def named(setting: Setting) -> dict[str, object]:
    """Return the fields that identify a setting in CSV files; "class_group" is the class half."""
    return {
        "dataset": setting.dataset,
        "backbone": setting.backbone_label,
        "random_weights": setting.random_weights,
        "protocol": setting.protocol,
        "test_split": setting.test_split,
        "class_group": setting.class_half,
    }


def by_setting(rows: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
    """Split rows of `benchmark.store.rows.schema` by setting, in a fixed order."""
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
    """Return the suffix of each setting's file names: empty for a single setting, else distinct."""
    if len(settings) == 1:
        return [""]
    always = ("dataset", "backbone", "test_split")
    named = [k for k in _NAMING if k in always or len({getattr(s, k) for s in settings}) > 1]
    return [f"-{name}" for name in distinct("-".join(getattr(s, k) for k in named) for s in settings)]


def distinct(words: Iterable[str]) -> list[str]:
    """Return words as distinct file names; repeated names get a number."""
    names: list[str] = []
    for base in (re.sub(r"[^A-Za-z0-9_.]+", "-", one).strip("-.") for one in words):
        numbered = (base if number == 1 else f"{base}-{number}" for number in count(1))
        names.append(next(name for name in numbered if name not in names))
    return names


@dataclass(frozen=True)
class Options:
    """Options of a report.

    `_report_options` of benchmark/cli.py sets most of them from the command line, and benchmark/commands/report.py sets
    `metrics` and `metric_of`.

    Attributes:
        plus_minus: error after ± in tables: `images` (cluster-robust standard error, default) or `seeds` (DomainBed's
            standard error over seeds).
        margin: equivalence margin of two accuracies (TOST), a fraction; default one point.
        compare: pairs (method, baseline) of labels that are compared directly. The answer begins with these methods and
            their gains. Default: none.
        published: whether to check numbers against published ones; default False.
        price: price of a GPU hour in any currency, for the table of costs; None (default) omits the table.
        paper: whether to also write the report as one paper, with checks against published numbers; default False.
        color: whether the headline in the terminal may be bold; default False.
        metrics: metrics shown in tables; by default the built-in ones.
        metric_of: data set name in rows -> its metric, for data sets whose metric is not accuracy.
        tables: the user's own tables as "module:TABLE", see `reports.tables.spec`; by default none.
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
