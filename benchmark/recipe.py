"""The recipe: one YAML file as frozen, validated objects with a hash.

Precedence is decided here and nowhere else: the command line over the file over the defaults below.
"""

import hashlib
import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from benchmark.datasets.catalog import DEMO_SET
from benchmark.datasets.imagenet import is_variant
from benchmark.errors import IcmBenchError, nearest
from benchmark.evaluation.protocols import SHIFT, Protocol, TestSplit
from benchmark.interventions import INTERVENTIONS, Intervention
from benchmark.predictors import PREDICTORS, Predictor
from benchmark.subspace import PROJECTIONS, Projection
from benchmark.subspace.moments import CROSS
from benchmark.validation import sentence

Precision = Literal["float32", "bfloat16", "float16"]
Layout = Literal["auto", "folder", "parquet", "webdataset"]
Normalize = Literal["none", "before", "after", "both"]

LAMBDA = "lambda"  # what a search calls it
TEXT = "text"  # what intervention sets call pairs of texts
SHIFT_SOURCE = "ImageNet"  # the data set that it fits on
MAX_SUBSETS = 1023  # of ten kinds

AnyIntervention = Annotated[SerializeAsAny[Intervention], BeforeValidator(INTERVENTIONS.create)]
AnyProjection = Annotated[SerializeAsAny[Projection], BeforeValidator(PROJECTIONS.create)]
AnyPredictor = Annotated[SerializeAsAny[Predictor], BeforeValidator(PREDICTORS.create)]


class Part(BaseModel):
    """Base of the parts of a recipe: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnsSpec(Part):
    """Which columns of Parquet files, or fields of a WebDataset's .json members, say what of an image.

    Fields:
        image: the encoded image, by itself or as a struct of `bytes` and `path`; default: the column of that kind.
        environment: default: `environment`, `domain` or `env`, else the folder in which the file lies.
        class_name: default: `class_name`, `label`, `class` or `category`; a WebDataset's .cls member comes first.
        group: which images belong together, hence on one side of a split; default: `group`, if there is one.
    """

    image: str | None = None
    environment: str | None = None
    class_name: str | None = None
    group: str | None = None


class DatasetSpec(Part):
    """Which images.

    Fields:
        name: a set of the catalog (`icm-bench datasets`), or a name of your own.
        root: the folder that holds the data set's folder, or that folder itself; a path or s3://. Default: `run.data`.
            The demo set needs none.
        layout: `folder` (ENVIRONMENT/CLASS/IMAGE), `parquet` (the Hugging Face image layout) or `webdataset` (tar
            shards); `auto` goes by what lies there.
        columns: of the layouts `parquet` and `webdataset`.
    """

    name: str = Field(min_length=1)
    root: str | None = None
    layout: Layout = "auto"
    columns: ColumnsSpec = ColumnsSpec()


class BackboneSpec(Part):
    """Which dual encoder.

    Fields:
        name: a model of open_clip (`ViT-B-32`, `hf-hub:...`), the demo's `MiniLiT`, or, with `folder`, any label.
        pretrained: open_clip's pretrained tag, a checkpoint file, or `random` (random weights: for tests of speed).
        folder: a folder with `open_clip_config.json` and a checkpoint (open_clip's `local-dir:` layout).
        precision: of the forward pass and of the stored embeddings (bfloat16 is stored as float32).
        image_size: input size in pixels, if not the model's own.
        quick_gelu: force the activation on or off; by default what the pretrained tag was trained with.
        mean, std: per-channel normalisation on the 0..1 scale, if not those that come with the weights.
        seed: of random weights.
    """

    name: str = Field(min_length=1)
    pretrained: str | None = None
    folder: str | None = None
    precision: Precision = "float32"
    image_size: int | None = Field(default=None, ge=16, le=2048)
    quick_gelu: bool | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> "BackboneSpec":
        if self.pretrained and self.pretrained != "random" and (self.folder or ":" in self.name):
            raise ValueError("give 'folder' or 'pretrained', not both: the folder holds its own checkpoint.")
        return self

    @property
    def random_weights(self) -> bool:
        """Whether the weights are random: good for measuring speed, worthless for accuracy."""
        return self.pretrained == "random"

    @property
    def label(self) -> str:
        """How outputs name the backbone; random weights cannot be overlooked."""
        parts = [self.name]
        if self.pretrained and not self.random_weights:
            parts.append(self.pretrained if "/" not in self.pretrained else Path(self.pretrained).name)
        if self.image_size:
            parts.append(f"{self.image_size}px")
        parts += [
            f"{key}={value}"
            for key, value in (("quick_gelu", self.quick_gelu), ("mean", self.mean), ("std", self.std))
            if value is not None
        ]
        if self.precision != "float32":
            parts.append(self.precision)
        if self.random_weights:
            parts.append(f"RANDOM WEIGHTS (seed {self.seed})")
        return " ".join(parts)

    def with_absolute_paths(self) -> "BackboneSpec":
        """Return the backbone with its files named as every process can find them, whatever its working directory."""
        changes = {
            key: str(Path(place).expanduser().absolute())
            for key in ("folder", "pretrained")
            if (place := getattr(self, key)) and Path(place).expanduser().exists()
        }
        return self.model_copy(update=changes)


class TextPairsSpec(Part):
    """Pairs of texts that say the same object in other surroundings: interventions that need no image.

    Fields:
        pairs: JSONL file, an object with `caption` and `rewrite` a line; pairs that describe single images name them in
            `image_id` (or the path below the data set's folder), and are left out where the image is. Default: pairs
            made from templates with lists of styles, backgrounds and lights, for the data set's classes.
        per_class: number of pairs made for each class.
        seed: of the template generator.
    """

    pairs: str | None = None
    per_class: int = Field(default=32, ge=1, le=4096)
    seed: int = Field(default=0, ge=0, lt=2**31)


class InterventionsSpec(Part):
    """Which views of every image are embedded: the original and one for each kind.

    Fields:
        kinds: intervention kinds; a kind may come twice with different strengths. Default: all seven.
        seed: of the draws made per image.
        apply_at: `model_input`: on the image as the encoder takes it, resized and cropped. `source`: on the image
            at its full resolution, then resized and cropped, as in the authors' released code; strengths in pixels
            (`sigma` of the blur) are then pixels of the full resolution, and a blur of a large image is weaker at
            the model's input by the factor of the resize.
        text: pairs of texts, which intervention sets call `text`; `{}` makes them from templates. Default: none.
    """

    kinds: tuple[AnyIntervention, ...] = Field(
        default_factory=lambda: tuple(INTERVENTIONS.create(n) for n in INTERVENTIONS.names()), max_length=62
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    apply_at: Literal["model_input", "source"] = "model_input"
    text: TextPairsSpec | None = None

    @field_validator("kinds")
    @classmethod
    def _distinct(cls, kinds: tuple[Intervention, ...]) -> tuple[Intervention, ...]:
        return _distinct(kinds, [k.label for k in kinds], "intervention")

    def by_label(self) -> dict[str, Intervention]:
        """Return the kinds by label (`posterize`, or `posterize(bits=3)` where not at its default)."""
        return {kind.label: kind for kind in self.kinds}


class ImagesSpec(Part):
    """How image files become pixels.

    Fields:
        jpeg_draft: decode a JPEG at 1/2, 1/4 or 1/8 scale where that still is twice the size it is resized to:
            several times faster on photographs, with slightly other pixels than open_clip's. Off where interventions
            act on the source.
    """

    jpeg_draft: bool = True


class InterventionSet(Part):
    """Which views enter the consistency term of one setting.

    Fields:
        name: how the tables call it.
        kinds: labels of embedded kinds, `text` (pairs of texts) or `cross_environment` (pairs of images of one class
            from two source environments); empty means all embedded kinds.
        weights: of the kinds in C_d, in their order; default: all alike.
        pairing: `each` pairs every image with the view of each kind (the expectation of the next, without its
            noise); `random_one` with the view of one kind drawn per image and seed (the released code).
    """

    name: str = Field(min_length=1)
    kinds: tuple[str, ...] = ()
    weights: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] | None = None
    pairing: Literal["each", "random_one"] = "each"

    @model_validator(mode="after")
    def _consistent(self) -> "InterventionSet":
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"the set '{self.name}' names a kind twice; give it a weight instead.")
        if self.weights is not None and (self.pairing == "random_one" or len(self.weights) != len(self.kinds)):
            raise ValueError(f"the set '{self.name}' needs one weight for each of its kinds, and pairing 'each'.")
        if self.pairing == "random_one" and {TEXT, CROSS} & set(self.kinds):
            raise ValueError(f"the set '{self.name}' cannot draw one view for each image from '{TEXT}' or '{CROSS}'.")
        return self


class PromptsSpec(Part):
    """The texts behind zero-shot prediction: `{}` is the class name, with spaces for underscores.

    Several templates make an ensemble: the mean of their unit-length embeddings, at unit length again.

    Fields:
        templates: for every data set that has none of its own.
        by_dataset: data set -> its own templates.
    """

    templates: tuple[str, ...] = Field(default=("a photo of a {}.",), min_length=1)
    by_dataset: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _have_a_place(self) -> "PromptsSpec":
        for template in (*self.templates, *(t for own in self.by_dataset.values() for t in own)):
            if template.count("{}") != 1 or template.count("{") + template.count("}") != 2:
                raise ValueError(f"the template '{template}' must have exactly one {{}} for the class name.")
        return self

    def templates_for(self, dataset: str) -> tuple[str, ...]:
        """Return the templates of a data set."""
        return self.by_dataset.get(dataset, self.templates)


Bounds = tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]]


class SearchSpec(Part):
    """A search in the place of the grid, for projections with a lambda or with searched strengths.

    Fields:
        method: `random`, or `optuna` (its tree-structured Parzen estimator; needs the package optuna).
        samples: points that are tried for each method and held-out environment.
        batch: points whose views are embedded and whose trials run together, before scores are looked at again.
        rule: whose score is maximised: `lodo` or `training_domain`. There is none that looks at a target.
        lambdas: bounds of lambda; log-uniform where the lower one is above 0.
        strengths: label of a kind -> parameter -> bounds, for example `{gaussian_blur: {sigma: [0.5, 4]}}`; each point
            is a view of its own to be embedded.
        seed: of the suggestions.
    """

    method: Literal["random", "optuna"] = "random"
    samples: int = Field(default=32, ge=1, le=100_000)
    batch: int = Field(default=8, ge=1, le=1024)
    rule: Literal["lodo", "training_domain"] = "lodo"
    lambdas: Bounds = (0.01, 1000.0)
    strengths: dict[str, dict[str, Bounds]] = {}
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _ascending(self) -> "SearchSpec":
        named = {f"strengths.{k}.{p}": b for k, own in self.strengths.items() for p, b in own.items()}
        for name, (low, high) in {LAMBDA + "s": self.lambdas, **named}.items():
            if not low < high:
                raise ValueError(f"{name}: the bounds [{low:g}, {high:g}] must ascend.")
        return self


class SweepSpec(Part):
    """What is fitted and evaluated for every held-out environment.

    Fields:
        protocols: `held_out` (fit on the 80 % in-splits of the source environments, test on the held-out one),
            `held_out_pairs`, `open_class`, `held_out_open_class`, `imagenet_shift`: see `protocols.folds_of`. The
            last takes the data sets that are ImageNet's, fits on ImageNet and tests on the others; the other protocols
            take the other data sets.
        test_splits: of the held-out environment: `out_20` (the released code's), `in_80` (DomainBed's), `full`. Only
            `held_out` and `held_out_pairs` leave the choice.
        seeds: of the splits (DomainBed's trial seeds) and of everything random in a trial.
        intervention_sets: see `InterventionSet`; default one set with every embedded kind. `all_subsets` means every
            subset of the embedded kinds: with seven, 127 sets, which cost linear algebra alone.
        projections: which bases; `identity` is the plain space.
        lambdas: weights of the consistency term.
        ranks: numbers of directions kept; `auto` is D and the powers of two below it from 4 on, `all` is every one.
        normalize: scale embeddings to unit length `before` the projection, `after` it, `both` or `none`.
        predictors: how classes are predicted inside the subspace.
        search: see `SearchSpec`; replaces `lambdas` for the projections that it searches. Default: the grid.
    """

    protocols: tuple[Protocol, ...] = Field(default=("held_out",), min_length=1)
    test_splits: tuple[TestSplit, ...] = Field(default=("out_20",), min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31, strict=True)], ...] = Field(default=(0, 1, 2), min_length=1)
    intervention_sets: Annotated[tuple[InterventionSet, ...], Field(min_length=1)] | Literal["all_subsets"] = (
        InterventionSet(name="all"),
    )
    projections: tuple[AnyProjection, ...] = Field(
        default_factory=lambda: (
            *(PROJECTIONS.create(name) for name in ("identity", "pca", "random", "icm")),
            PROJECTIONS.create({"name": "icm", "order": "released"}),
        ),
        min_length=1,
    )
    lambdas: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(
        default=(0.3, 1.0, 3.0, 10.0), min_length=1
    )
    ranks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | Literal["auto", "all"] = "auto"
    normalize: tuple[Normalize, ...] = Field(default=("none",), min_length=1)
    predictors: tuple[AnyPredictor, ...] = Field(
        default_factory=lambda: (PREDICTORS.create("zero_shot"), PREDICTORS.create("linear_probe")),
        min_length=1,
    )

    search: SearchSpec | None = None

    @field_validator("protocols", "test_splits", "seeds", "lambdas", "normalize", "ranks")
    @classmethod
    def _distinct_values(cls, values: Any) -> Any:
        return values if isinstance(values, str) else _distinct(values, list(values), "value")

    @field_validator("projections", "predictors")
    @classmethod
    def _distinct_components(cls, components: Any) -> Any:
        return _distinct(components, [c.label for c in components], "entry")

    @field_validator("intervention_sets")
    @classmethod
    def _distinct_sets(cls, sets: Any) -> Any:
        return sets if isinstance(sets, str) else _distinct(sets, [s.name for s in sets], "intervention set")

    def ranks_for(self, dim: int) -> tuple[int, ...]:
        """Return the ranks to evaluate for embeddings of width `dim`, ascending.

        Raises:
            IcmBenchError: a rank above `dim`.
        """
        if self.ranks == "auto":
            powers = [2**p for p in range(2, dim.bit_length()) if 2**p < dim]
            return (*powers, dim)
        if self.ranks == "all":
            return tuple(range(1, dim + 1))
        if max(self.ranks) > dim:
            raise IcmBenchError(
                f"sweep.ranks: rank {max(self.ranks)} is above the embedding width D = {dim} of this backbone; "
                f"use ranks from 1 to {dim}, or 'auto'."
            )
        return tuple(sorted(self.ranks))


class RunSpec(Part):
    """Where and with what it runs; changes no number but for the last digits, so it is no part of the hash.

    Fields:
        store: folder, s3:// or gs:// for embeddings and rows; default `store` in the cache folder.
        data: folder or URI that holds the folders of those data sets that have no `root` of their own.
        out: folder or URI of the report; default `reports/NAME-HASH` inside the store.
        actors: encoder actors; default one for each GPU, or one on a machine without.
        batch_size: views that a forward pass takes; default 32 on a CPU, and what fits into its memory, 512 at
            most, on a GPU. Halved when memory runs out.
        compile: compile the image tower with torch.compile: a minute of compiling, then faster on GPUs.
        cpus_per_trial: CPU cores that a trial of the sweep reserves.
        gpus_per_trial: GPUs, or a share of one, that a trial reserves; logistic regressions then run there.
        trial_timeout: seconds after which a trial is ended, tried once more, and then shown as a gap; default: none.
        loggers: `tensorboard`, `mlflow`, `wandb`: who else follows the sweep, through Tune's own callbacks.
        logs: folder in which Tune keeps the files of loggers.
        max_bad_images: share of unreadable images above which the run fails.
    """

    store: str | None = None
    data: str | None = None
    out: str | None = None
    actors: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    compile: bool = False
    cpus_per_trial: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    gpus_per_trial: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    trial_timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    logs: str = Field(default="icm-bench-logs", min_length=1)
    max_bad_images: float = Field(default=0.01, ge=0, le=1)


class Recipe(Part):
    """Everything about a benchmark run. `jobs/recipes/demo.yaml` is an example."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    datasets: tuple[DatasetSpec, ...] = Field(min_length=1)
    backbones: tuple[BackboneSpec, ...] = Field(min_length=1)
    images: ImagesSpec = ImagesSpec()
    interventions: InterventionsSpec = InterventionsSpec()
    prompts: PromptsSpec = PromptsSpec()
    sweep: SweepSpec = SweepSpec()
    run: RunSpec = RunSpec()

    @field_validator("datasets", "backbones", mode="before")
    @classmethod
    def _a_word_is_a_name(cls, specs: Any) -> Any:
        if isinstance(specs, list | tuple):
            return [{"name": spec} if isinstance(spec, str) else spec for spec in specs]
        return specs

    @model_validator(mode="after")
    def _possible(self) -> "Recipe":
        _distinct(self.datasets, [d.name for d in self.datasets], "data set")
        _distinct(self.backbones, [b.label for b in self.backbones], "backbone")
        names = [d.name for d in self.datasets]
        for name in self.prompts.by_dataset:
            if name not in names:
                raise ValueError(f"prompts.by_dataset: '{name}' is no data set of the recipe; {nearest(name, names)}")
            if is_variant(name) and name != SHIFT_SOURCE and SHIFT in self.sweep.protocols:
                raise ValueError(f"prompts.by_dataset: '{name}' takes those of {SHIFT_SOURCE}; give them there.")
        if SHIFT in self.sweep.protocols and not (
            SHIFT_SOURCE in names and len([n for n in names if is_variant(n)]) > 1
        ):
            raise ValueError(
                f"the protocol '{SHIFT}' fits on {SHIFT_SOURCE} and tests on its variants: list {SHIFT_SOURCE} and one "
                f"or more of them among the datasets."
            )
        self._check_strengths()
        needing = [p.name for p in self.sweep.projections if p.uses_interventions]
        known = [*self.interventions.by_label(), *([TEXT] if self.interventions.text else []), CROSS]
        for intervention_set in self.intervention_sets():
            for label in intervention_set.kinds:
                if label not in known:
                    raise ValueError(
                        f"sweep.intervention_sets: '{label}' of the set '{intervention_set.name}' is not among "
                        f"interventions.kinds; {nearest(label, known)}"
                    )
            if needing and not intervention_set.kinds and not self.interventions.kinds:
                raise ValueError(
                    f"the projection '{needing[0]}' needs interventions, but interventions.kinds is empty."
                )
        return self

    def located(self) -> tuple[DatasetSpec, ...]:
        """Return the data sets with their roots; the demo's is built, and has none."""
        return tuple(
            d if d.root is not None or d.name == DEMO_SET else d.model_copy(update={"root": self.run.data})
            for d in self.datasets
        )

    def _check_strengths(self) -> None:
        """Refuse strengths of kinds that are not embedded, or that a kind does not have."""
        by_label = self.interventions.by_label()
        for label, own in self.sweep.search.strengths.items() if self.sweep.search else ():
            if label not in by_label:
                raise ValueError(
                    f"sweep.search.strengths: '{label}' is not among interventions.kinds; "
                    f"{nearest(label, list(by_label))}"
                )
            kind = by_label[label]
            if sum(other.name == kind.name for other in by_label.values()) > 1:
                raise ValueError(
                    f"sweep.search.strengths: '{label}' must be the only kind '{kind.name}' of the recipe."
                )
            for name, bounds in own.items():
                if name not in kind.params:
                    raise ValueError(
                        f"sweep.search.strengths: '{label}' has no parameter '{name}'; "
                        f"{nearest(name, list(kind.params))}"
                    )
                for bound in bounds:
                    try:
                        kind.at_strength({name: bound})
                    except ValidationError as error:
                        reason = sentence(error, type(kind))
                        raise ValueError(f"sweep.search.strengths.{label}: {reason}") from error

    def protocols_for(self, dataset: str) -> tuple[Protocol, ...]:
        """Return the protocols that a data set takes part in; of ImageNet's, the one that is fitted on has them all."""
        if is_variant(dataset):
            return tuple(p for p in self.sweep.protocols if p == SHIFT and dataset == SHIFT_SOURCE)
        return tuple(p for p in self.sweep.protocols if p != SHIFT)

    def shifts(self) -> tuple[int, ...]:
        """Return the positions of the data sets that `imagenet_shift` tests on."""
        return tuple(i for i, d in enumerate(self.datasets) if is_variant(d.name) and d.name != SHIFT_SOURCE)

    def kinds_for(self, dataset: str) -> tuple[Intervention, ...]:
        """Return the kinds of intervention to embed of a data set: none where it is only tested on, as in a shift."""
        only_tested = SHIFT in self.sweep.protocols and is_variant(dataset) and dataset != SHIFT_SOURCE
        return () if only_tested else self.interventions.kinds

    def search_space(
        self, dataset: str, projection: Projection, chosen: InterventionSet | None
    ) -> dict[str, tuple[float, float]]:
        """Return what is searched for a method: parameter -> bounds, of lambda and of the kinds that its set has.

        What has no space is part of the grid.
        """
        search = self.sweep.search
        if search is None:
            return {}
        space = {LAMBDA: search.lambdas} if projection.uses_lambda else {}
        for label in (chosen.kinds or [kind.label for kind in self.kinds_for(dataset)]) if chosen else ():
            space |= {f"{label}.{name}": bounds for name, bounds in search.strengths.get(label, {}).items()}
        return space

    def intervention_sets(self) -> tuple[InterventionSet, ...]:
        """Return the intervention sets of the sweep; `all_subsets` spelt out, the smallest first."""
        if self.sweep.intervention_sets != "all_subsets":
            return self.sweep.intervention_sets
        labels = list(self.interventions.by_label())
        if not 1 <= 2 ** len(labels) - 1 <= MAX_SUBSETS:
            raise ValueError(f"sweep.intervention_sets: all subsets of {len(labels)} kinds; give one to ten kinds.")
        return tuple(
            InterventionSet(name=" + ".join(chosen), kinds=chosen)
            for size in range(1, len(labels) + 1)
            for chosen in combinations(labels, size)
        )

    def hash(self) -> str:
        """Return the SHA-256 (hex) of the canonical JSON of all that can change a number.

        The name, `run` and how the images of a data set are found do not take part: what is found there is known
        by the manifest's fingerprint.
        """
        content = self.model_dump(mode="json", exclude={"name", "run"})
        for dataset in content["datasets"]:
            for key in ("root", "layout", "columns"):
                del dataset[key]
        return canonical_hash(content)


def canonical_hash(content: Any) -> str:
    """Return the SHA-256 (hex) of JSON with sorted keys and no spaces."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe in the YAML file at `path`.

    Args:
        path: the file.
        overrides: dotted key -> value, stronger than the file: `{"sweep.seeds": [0], "datasets.0.root": "/data"}`.

    Raises:
        IcmBenchError: the file cannot be read or parsed, or a key is unknown, missing, of the wrong type or in
            conflict with another; the sentence names file and key.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no name of a file
        reason = getattr(error, "strerror", None) or "not UTF-8 text, or no file name"
        raise IcmBenchError(f"The recipe {path} cannot be read: {reason}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise IcmBenchError(f"The recipe {path}{where} is not valid YAML: {problem}.") from error
    if not isinstance(content, dict):
        raise IcmBenchError(f"The recipe {path} must be a mapping with 'name', 'datasets' and 'backbones'.")
    for key, value in (overrides or {}).items():
        _override(content, key, value)
    return parse_recipe(content, str(path))


def parse_recipe(content: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Return the recipe that `content` (plain data, as YAML gives it) describes; `source` is for messages."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise IcmBenchError(f"{source}: {sentence(error, Recipe)}") from error
    except IcmBenchError as error:
        raise IcmBenchError(f"{source}: {error}") from error


def _override(content: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key inside plain data, making mappings on the way."""
    *parents, last = key.split(".")
    place: Any = content
    for position, parent in enumerate([*parents, last]):
        if isinstance(place, list) and not (parent.isdecimal() and int(parent) < len(place)):
            raise IcmBenchError(f"--set {key}: '{parent}' is not a position in a list of {len(place)}.")
        if not isinstance(place, list | dict):
            raise IcmBenchError(f"--set {key}: '{parent}' lies inside a plain value.")
        if position == len(parents):
            break
        if isinstance(place, dict) and place.get(parent) is None:
            place[parent] = {}
        place = place[int(parent)] if isinstance(place, list) else place[parent]
    place[int(last) if isinstance(place, list) else last] = value


def _distinct(items: Any, labels: list[Any], what: str) -> Any:
    twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
    if twice is not None:
        raise ValueError(f"the {what} '{twice}' is given twice.")
    return items
