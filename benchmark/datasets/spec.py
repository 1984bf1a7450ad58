"""Recipe spec of a data set, `DatasetSpec`: an entry of `datasets` in a recipe.

Docstrings of specs are copied into docs/recipe.md: run `make docs` after a change. A new field must be in `_LATER`.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.spec import Images, Name, Spec, distinct
from benchmark.datasets.catalog import BUILT, CATALOG, DEMO_SET
from benchmark.datasets.columns import (
    AUTO,
    FOLDER,
    IMPORTED,
    TABLE,
    ColumnsSpec,
    Listing,
    LookedUp,
    LookupSpec,
    as_texts,
)

if TYPE_CHECKING:
    from benchmark.demo.planted import Planted

CLUSTER = "cluster:"  # prefix of a value of `environments`, before the number of clusters
PLANTED = "planted"
STYLES = tuple(CATALOG[DEMO_SET].environments)
# Field of a planted set -> its key in a recipe.
PLANTED_KEYS = {"of": "of", "drawn": "from"} | {key: key for key in ("shift", "strength", "correlation", "seed")}
# Fields that are written only if given, so that hashes of recipes without them do not change. `Recipe.hash` (in
# recipe/recipe.py) lists the fields that only locate images, and that no hash contains.
_LATER = (
    "metric", "expected", "table", "splits", "lookup", "classes_differ", "environments", "classes", "labels",
    "needs_data",
)  # fmt: skip
STRENGTHS = {"a": 0.0, "b": 0.3, "c": 0.6, "d": 1.0}
MAX_ENVIRONMENTS = 11  # each environment needs a concept of every class, and the smallest class has 11 concepts

ShiftName = Literal["dusk", "tint", "texture", "none"]  # the same names as `Shift` in demo/planted.py, which draws them
Share = Annotated[float, Field(ge=0, le=1)]
_Strength = Mapping[str, Mapping[str, float]] | None


def label_of(name: str, clusters: int) -> str:
    """Return the name of a data set in rows and tables; it contains the number of clusters unless that is 0."""
    return f"{name} ({clusters} clusters)" if clusters else name


class ExpectedSpec(Spec):
    """Known result of a control data set. The report compares the actual result with it.

    Fields:
        parts: parts of the method that must explain the gain of shrinkage: `interventions`, `environments`, both, or
            none of them (the default).
        predictor: the predictor of the result. Default `zero_shot`.
        held_out: the held-out environment of the result. Default: the average over all environments.
    """

    parts: tuple[Literal["interventions", "environments"], ...] = ()
    predictor: str = "zero_shot"
    held_out: str | None = None


class DatasetSpec(Spec):
    """A data set.

    Fields:
        name: a set of the catalog (`icm-bench datasets`), or a name of your own.
        root: the data set's folder or its parent folder; a path or s3://. Default: `run.data`. The demo set, `icons`
            and planted sets are built, and need no root.
        layout: `folder` (ENVIRONMENT/CLASS/IMAGE), `parquet` (the Hugging Face image layout), `webdataset` (tar
            shards), `table` (files that a CSV or Parquet file lists), `corruptions`
            (CORRUPTION/SEVERITY/CLASS/IMAGE) or `imported` (embeddings that `icm-bench import-embeddings` has put into
            the store; no image is needed). `auto` (default) uses the layout in the catalog, else detects it from the
            files. `my_package.my_module:MyReader` is a reader of your own.
        columns: names of columns or fields, in the layouts `parquet`, `webdataset` and `table`.
        table: the CSV or Parquet file that lists the images, one per line, with paths below the root. Give a file below
            the root, or a path or URI. Default: with the layout `table`, the only table in the root itself.
        splits: for a table: values of its column `split`, as `[train, test]`; only lines with these values are read.
            The protocol, not this column, determines training and test images. Default: all lines.
        lookup: for a table: names for the values of `class_name` or `environment`.
        classes_differ: whether environments may lack classes. All classes are then candidates for every test image.
            Zero-shot can predict a class without source images, since it needs only the name; a probe cannot. Default:
            true for iWildCam and FMoW (by the catalog), else false: every environment needs every class.
        environments: `cluster:K` replaces the source environments by K clusters of their images, by k-means on
            unit-length embeddings with each seed of the sweep; K is at most the number of source images. Held-out
            environments are not clustered. Default: the environments of the images.
        classes: `none` for unlabelled images, in the layouts `folder` (ENVIRONMENT/IMAGE, or only images) and `table`
            (no column of classes). `export` and `diagnose` accept them; a sweep needs classes.
        labels: environment -> `none` for environments with unlabelled images, in the layouts `folder`
            (ENVIRONMENT/IMAGE) and `table` (an empty class). Their images are embedded but not part of a sweep;
            `icm-bench unlabelled` estimates accuracies on them. Default: all images have classes.
        metric: the authors' metric, one of `METRICS` or `module:Class`. Tables and verdicts show it next to the
            accuracy; all selections and tests use the accuracy. Default: the catalog's metric, else `accuracy`.
        needs_data: whether the data set is left out of the recipe if `run.data` is not given. Default: false.
        expected: the result that the report must find, if known. For planted sets it follows from the other fields.
        of: for planted sets: the source of the drawings, `emoji_styles`. A planted set has a known shift, and is named
            `planted` or `planted-` and a word.
        from: styles of the drawings: a style (an environment of `of`), a list of styles, or `all`. Each style has 284
            drawings.
        shift: change of the drawings, or a list of changes: `dusk` (less colour and light) and `tint` (a colour cast),
            which colour interventions cover; `texture` (hatching), which they do not cover; or `none`.
        strength: environment -> strength of the change, 0 (none) to 1. Drawings are assigned evenly to these
            environments. With several shifts: shift -> environment -> strength. Default for each shift:
            {a: 0, b: 0.3, c: 0.6, d: 1}.
        correlation: environment -> share of the images of each class, 0 to 1, that have the change (hue, angle) of this
            class; the other images have the change of another class. Default: all images have the same change.
        seed: seed of the assignment of drawings and changes. Default 0.
    """

    name: Name
    root: Images | None = None
    layout: str = AUTO
    columns: ColumnsSpec = ColumnsSpec()
    table: str | None = None
    splits: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    lookup: Mapping[LookedUp, LookupSpec] | None = None
    classes_differ: bool | None = None
    environments: str | None = None
    classes: Literal["none"] | None = None
    labels: Annotated[Mapping[str, Literal["none"]], Field(min_length=1)] | None = None
    metric: str | None = None
    needs_data: bool | None = None
    expected: ExpectedSpec | None = None
    of: Literal["emoji_styles"] | None = None
    drawn: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(default=None, alias="from")
    shift: Annotated[tuple[ShiftName, ...], Field(min_length=1)] | None = None
    strength: Mapping[str, Mapping[str, Share]] | None = None
    correlation: Mapping[str, Share] | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**31)

    @property
    def clusters(self) -> int:
        """The number of clusters that replace the source environments; 0 if the environments are not replaced."""
        return int(self.environments.removeprefix(CLUSTER)) if self.environments else 0

    @property
    def label(self) -> str:
        """Name of the data set in rows and tables."""
        return label_of(self.name, self.clusters)

    @property
    def judged_by(self) -> str:
        """The name of the metric of this data set: from the recipe, else from the catalog, else `accuracy`."""
        return self.metric or (CATALOG[self.name].metric if self.name in CATALOG else "accuracy")

    @property
    def is_planted(self) -> bool:
        """Whether this is a planted set, according to its name."""
        named = self.name == PLANTED or self.name.startswith(f"{PLANTED}-")
        return named and not (self.is_imported and self.drawn is None)

    @property
    def is_imported(self) -> bool:
        """Whether the embeddings were imported, so that no images are needed."""
        return self.layout == IMPORTED

    @property
    def is_built(self) -> bool:
        """Whether this package builds the data set if the recipe gives no root."""
        return (self.name in BUILT or self.is_planted) and not self.is_imported

    @property
    def planted(self) -> "Planted":
        """The parameters of a planted set, defaults filled in. Only for planted sets."""
        from benchmark.demo.planted import Planted

        assert self.drawn is not None
        assert self.shift is not None
        shifts = {shift: (self.strength or {}).get(shift, STRENGTHS) for shift in self.shift}
        return Planted(self.drawn, shifts, self.correlation, self.seed or 0)

    @property
    def must_be_found(self) -> ExpectedSpec | None:
        """The result that the report must find; None if it is unknown."""
        if self.expected is not None or not self.is_planted:
            return self.expected
        planted = self.planted
        if planted.parts is None:
            return None
        predictor = "linear_probe" if planted.correlation else "zero_shot"  # zero-shot cannot learn a correlation
        found = {"parts": planted.parts, "predictor": predictor, "held_out": planted.target}
        return ExpectedSpec.model_validate(found)

    @field_validator("environments")
    @classmethod
    def _check_clusters(cls, environments: str | None) -> str | None:
        if environments is not None and not re.fullmatch(rf"{CLUSTER}([2-9]|[1-9]\d{{1,9}})", environments):
            raise ValueError(f"'{environments:.60}' is not understood; give {CLUSTER}K with a whole K from 2 on.")
        return environments

    @field_validator("drawn", "shift", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any, info: ValidationInfo) -> Any:
        if given == "all" and info.field_name == "drawn":
            return STYLES
        return (given,) if isinstance(given, str) else given

    @field_validator("drawn", "shift")
    @classmethod
    def _known_and_distinct(cls, given: Any, info: ValidationInfo) -> Any:
        what = "style" if info.field_name == "drawn" else "shift"
        if what == "style" and (unknown := [style for style in given or () if style not in STYLES]):
            raise ValueError(f"unknown style '{unknown[0]}': {nearest(unknown[0], [*STYLES, 'all'])}")
        return given and distinct(given, list(given), what)

    @field_validator("strength", mode="before")
    @classmethod
    def _by_shift(cls, strength: Any, info: ValidationInfo) -> Any:
        """Return shift -> environment -> strength. A mapping environment -> strength applies to all shifts."""
        if not isinstance(strength, Mapping) or any(isinstance(size, Mapping) for size in strength.values()):
            return strength
        return dict.fromkeys(info.data.get("shift") or (), strength)

    @field_validator("strength")
    @classmethod
    def _check_environments(cls, strength: _Strength, info: ValidationInfo) -> _Strength:
        shifts = info.data.get("shift")
        if strength is None or not shifts:
            return strength
        if set(strength) != set(shifts):
            raise ValueError(f"of {', '.join(strength) or 'nothing'}; give it for {', '.join(shifts)}.")
        first, *others = strength.values()
        if not 2 <= len(first) <= MAX_ENVIRONMENTS:
            raise ValueError(f"{len(first)} environments; give 2 to {MAX_ENVIRONMENTS} of them a strength.")
        if bad := next((name for name in first if not re.fullmatch(r"\w+", name)), None):
            raise ValueError(f"'{bad}' is no name of an environment: use letters, digits and '_'.")
        if any(set(other) != set(first) for other in others):
            raise ValueError("the shifts have different environments; give all of them the same ones.")
        return strength

    @property
    def unlabelled(self) -> "DatasetSpec | None":
        """The unlabelled images of this data set, as a data set without classes; None without such images."""
        return self.model_copy(update={"classes": "none", "environments": None}) if self.labels else None

    @property
    def listing(self) -> Listing:
        """The file and lines that list the images in the layout `table`."""
        return Listing(self.table, self.splits, self.lookup)

    @property
    def resolved(self) -> "DatasetSpec":
        """This spec, completed with layout, columns and lookups of the catalog; values of the recipe have priority."""
        facts = CATALOG.get(self.name)
        if facts is None or not facts.reads or self.layout not in (AUTO, facts.reads["layout"]):
            return self
        known = DatasetSpec.model_validate({"name": "known", **facts.reads})
        given = self.columns.model_dump(exclude_none=True)
        # The catalog's lookups do not apply to columns that the recipe names.
        lookup = {name: spec for name, spec in (known.lookup or {}).items() if name not in given}
        splits = None if "split" in given else known.splits
        return self.model_copy(
            update={
                "layout": known.layout,
                "columns": known.columns.model_copy(update=given),
                "table": known.table if self.table is None else self.table,
                "splits": splits if self.splits is None else self.splits,
                "lookup": {**lookup, **(self.lookup or {})} or None,
                "classes_differ": known.classes_differ if self.classes_differ is None else self.classes_differ,
            }
        )

    @field_validator("splits", mode="before")
    @classmethod
    def _some_splits(cls, splits: Any) -> Any:
        return None if splits is None else as_texts(splits)

    @model_validator(mode="after")
    def _layout_has_what_is_given(self) -> "DatasetSpec":
        facts = CATALOG.get(self.name)
        listed = self.table is not None or (facts is not None and facts.reads.get("layout") == TABLE)
        given = next((key for key in ("table", "splits", "lookup") if getattr(self, key) is not None), None)
        # With imported embeddings these keys are allowed, since they are part of the recipe hash in rows.
        if given and not (self.layout in (TABLE, IMPORTED) or (self.layout == AUTO and listed)):
            raise ValueError(
                f"'{given}' is for the layout 'table', and '{self.name}' has '{self.layout}': leave one out."
            )
        if self.is_imported and (self.root is not None or self.columns != ColumnsSpec()):
            raise ValueError(f"'{self.name}' was imported and lies in the store: leave root and columns out.")
        if self.classes is not None and (self.layout not in (AUTO, FOLDER, TABLE) or self.is_built):
            raise ValueError(
                f"'{self.name}' has classes: leave classes: none to folders and tables of your own images."
            )
        if self.needs_data and self.root is not None:
            raise ValueError(f"needs_data: '{self.name}' has its own root; leave one of the two out.")
        single = facts is not None and facts.single
        theirs = self.layout in (AUTO, FOLDER, TABLE) and not (self.is_built or single or self.clusters)
        if self.labels is not None and (self.classes is not None or not theirs):
            raise ValueError(
                f"'labels' is for folders and tables of images with their own classes and environments, but "
                f"'{self.name}' is not such a data set; leave labels out."
            )
        return self

    @model_validator(mode="after")
    def _planted_or_not(self) -> "DatasetSpec":
        given = [key for field, key in PLANTED_KEYS.items() if getattr(self, field) is not None]
        if not self.is_planted:
            if given:
                raise ValueError(
                    f"'{given[0]}' is for planted sets, and '{self.name}' is none: call it 'planted-{self.name}', or "
                    f"leave '{given[0]}' out."
                )
            return self
        if missing := next((key for key in ("of", "from", "shift") if key not in given), None):
            raise ValueError(f"the planted set '{self.name}' needs '{missing}'; give of, from and shift.")
        listed, layouts = self.listing != Listing(), (AUTO, IMPORTED)
        if self.root is not None or self.layout not in layouts or self.columns != ColumnsSpec() or listed:
            raise ValueError(f"the planted set '{self.name}' is built: leave root, layout, columns and table out.")
        environments = self.planted.environments
        if self.correlation is not None and set(self.correlation) != set(environments):
            raise ValueError(
                f"correlation of '{self.name}' has the environments {', '.join(self.correlation)}, and strength has "
                f"{', '.join(environments)}; give both for the same ones."
            )
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return recipe key -> value. Fields in `_LATER` and fields of planted sets are returned only if given."""
        content = {key: value for key, value in dump(self).items() if key not in _LATER or value is not None}
        for field, key in PLANTED_KEYS.items():
            if (value := content.pop(field, content.pop(key, None))) is not None:
                content[key] = value
        return content

    @field_validator("layout")
    @classmethod
    def _check_layout(cls, layout: str) -> str:
        from benchmark.datasets.readers import READERS  # imported here, since readers import pyarrow

        if ":" not in layout and layout not in (known := [AUTO, *READERS.names(), "module:Class"]):
            raise ValueError(f"unknown layout '{layout}': {nearest(layout, known)}")
        if ":" in layout:
            try:
                READERS.component_class(layout)
            except IcmBenchError as error:
                raise ValueError(str(error)) from error
        return layout
