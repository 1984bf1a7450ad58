"""The parts of a recipe that belong to no other room: interventions, texts, images, prompts, sweep, search and run.

A key that is added must leave the dump of recipes without it as it was, since recipes are known by a hash of it; see
`ImagesSpec`. The keys of `run` are left out of the hash.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.image_formats import further_formats
from benchmark.common.spec import Spec, distinct
from benchmark.common.storage.retries import TIMEOUT
from benchmark.method.arrays import Normalize
from benchmark.method.evaluation.metrics import METRICS, Metric
from benchmark.method.evaluation.protocols import PROTOCOLS, Protocol
from benchmark.method.evaluation.splits import Rounding, TestSplit
from benchmark.method.interventions import INTERVENTIONS, Intervention
from benchmark.method.interventions.text import Edit
from benchmark.method.predictors import PREDICTORS, Predictor
from benchmark.method.prompts import Templates, resolve_templates
from benchmark.method.subspace import PROJECTIONS, Projection
from benchmark.recipe.sets import InterventionSet

LAMBDA = "lambda"  # what a search calls it
MAX_SECONDS = 1e7  # that anything is waited for: four months
MAX_VIEWS = 62  # of an image beside the original: bits of a whole number say which of them a chunk lacks


def _projection(spec: object) -> Projection:
    """Return the projection that a recipe's `spec` describes; what the sweep sets has no place there."""
    given = set(spec) & {LAMBDA, *Projection.swept} if isinstance(spec, dict) else set()
    if given & {LAMBDA, "lambda_"}:
        raise ValueError("lambda is swept: give sweep.lambdas.")
    if given:
        raise ValueError(f"{given.pop()} is swept: give sweep.seeds.")
    return PROJECTIONS.create(spec)


AnyIntervention = Annotated[SerializeAsAny[Intervention], BeforeValidator(INTERVENTIONS.create)]
AnyProjection = Annotated[SerializeAsAny[Projection], BeforeValidator(_projection)]
AnyProtocol = Annotated[
    SerializeAsAny[Protocol],
    BeforeValidator(PROTOCOLS.create),
    PlainSerializer(lambda protocol: protocol.name, return_type=str),
]
AnyMetric = Annotated[SerializeAsAny[Metric], BeforeValidator(METRICS.create)]
AnyPredictor = Annotated[SerializeAsAny[Predictor], BeforeValidator(PREDICTORS.create)]


class TextPairsSpec(Spec):
    """Pairs of texts that say the same object in other surroundings: interventions that need no image.

    Fields:
        pairs: path of a JSONL file with one object a line, with `caption` and `rewrite`. Pairs that describe single
            images name them in `image_id` (the id, or the path below the data set's folder), and are left out where
            the image is held out; pairs that name another data set in `dataset` are left out too.
            `docs/examples/captions.py` writes such a file. Default: pairs are made from templates with lists of styles,
            backgrounds and lights, for the data set's classes.
        edits: which of CLAP's prompt edits make pairs, in the place of those lists: a prompt such as "a sketch of a
            large red dog", and it with some of these edits. `size` and `colour` delete that word, `type` the type of
            the image, `type_swap` puts another type, `order` says the object first, `noise` inserts Gaussian noise
            among the tokens. Default: none.
        per_class: number of pairs that are made for each class, 1 to 4096. Default 32.
        seed: seed of the generator that makes pairs. Default 0.
    """

    pairs: str | None = None
    edits: tuple[Edit, ...] = ()
    per_class: int = Field(default=32, ge=1, le=4096)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _one_source(self) -> "TextPairsSpec":
        if self.pairs and self.edits:
            raise ValueError("pairs: they come from a file or from edits; leave one of the two out.")
        distinct(self.edits, list(self.edits), "edit")
        return self


class InterventionsSpec(Spec):
    """Which views of every image are embedded: the original and one for each kind.

    Fields:
        kinds: kinds of intervention, 62 at most; a kind may come twice with different strengths. Default: all seven.
        seed: seed of what is drawn for each image. Default 0.
        draws: how often kinds that draw are drawn, with seeds `seed`, `seed` + 1 and so on; not more often than
            `sweep.seeds` has seeds. The first of these seeds sees the first draw, the second the second, and so on in
            turn: what the draw of a view does to a result then is part of what differs between seeds. Default 1.
        apply_at: where interventions act. `model_input` (default): on the image as the encoder takes it, resized and
            cropped. `source`: on the image at its full resolution, then resized and cropped, as in the authors'
            released code; strengths in pixels (`sigma` of the blur) are then pixels of the full resolution, and a blur
            of a large image is weaker at the model's input by the factor of the resize.
        text: pairs of texts, which intervention sets call `text`; `{}` makes them from templates. Default: none.
    """

    kinds: tuple[AnyIntervention, ...] = Field(
        default_factory=lambda: tuple(INTERVENTIONS.create(n) for n in INTERVENTIONS.names()), max_length=MAX_VIEWS
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    draws: int = Field(default=1, ge=1)
    apply_at: Literal["model_input", "source"] = "model_input"
    text: TextPairsSpec | None = None

    @field_validator("kinds")
    @classmethod
    def _distinct(cls, kinds: tuple[Intervention, ...]) -> tuple[Intervention, ...]:
        return distinct(kinds, [k.label for k in kinds], "intervention")

    @model_validator(mode="after")
    def _fit_into_a_visit(self) -> "InterventionsSpec":
        if (views := self.view_count(self.kinds)) > MAX_VIEWS:
            raise ValueError(f"draws: {self.draws} draws make {views} views of each image, of {MAX_VIEWS} at most.")
        return self

    def seed_of(self, kind: Intervention, draw: int) -> int:
        """Return the seed of a kind's views in a draw, from 0: a kind that does not draw has the same in all."""
        return self.seed + draw if kind.is_random else self.seed

    def seeds_of(self, kind: Intervention) -> range:
        """Return the seeds with which views of a kind are made: one, or one for each draw."""
        return range(self.seed, self.seed_of(kind, self.draws - 1) + 1)

    def view_count(self, kinds: Iterable[Intervention]) -> int:
        """Return how many views of each image some kinds make."""
        return sum(len(self.seeds_of(kind)) for kind in kinds)

    def by_label(self) -> dict[str, Intervention]:
        """Return the kinds by label (`posterize`, or `posterize(bits=3)` where not at its default)."""
        return {kind.label: kind for kind in self.kinds}


class ImagesSpec(Spec):
    """How image files become pixels.

    Fields:
        jpeg_draft: decode a JPEG at 1/2, 1/4 or 1/8 scale where that still is twice the size it is resized to:
            several times faster on photographs, with slightly other pixels than open_clip's. Default true; always off
            where interventions act on the source.
        formats: formats that are decoded beside JPEG, PNG, WebP, BMP, TIFF, PPM and the first frames of GIF and MPO, by
            Pillow's names, as [AVIF, JPEG2000]. A format is known by content, and a file by its suffix. Default: none.
    """

    jpeg_draft: bool = True
    formats: tuple[str, ...] = ()

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        return further_formats(formats) if formats else ()

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the fields; formats only where they are given: recipes without them stay what they were."""
        return {key: value for key, value in dump(self).items() if key != "formats" or value}


class PromptsSpec(Spec):
    """The texts behind zero-shot prediction: `{}` is the class name, with spaces for underscores.

    Several templates make an ensemble: the mean of their unit-length embeddings, at unit length again.

    Fields:
        templates: templates for every data set that has none of its own; `openai` for the 80 of CLIP's authors for
            ImageNet, `simple` for 7 of them, both as open_clip has them. Default: "a photo of a {}.".
        by_dataset: name of a data set -> its own templates, or `openai` or `simple`. Default: none.
    """

    templates: Templates = ("a photo of a {}.",)
    by_dataset: dict[str, Templates] = Field(default_factory=dict)

    def templates_for(self, dataset: str) -> tuple[str, ...]:
        """Return the templates of a data set."""
        return resolve_templates(self.by_dataset.get(dataset, self.templates))


Bounds = tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]]


class SearchSpec(Spec):
    """A search in the place of the grid, for projections with a lambda or with searched strengths.

    Fields:
        method: how points are suggested: `random` (default), or `optuna` (its tree-structured Parzen estimator; needs
            the package optuna).
        samples: number of points that are tried for each method and held-out environment. Default 32.
        batch: number of points whose views are embedded and whose trials run together, before scores are looked at
            again. Default 8.
        rule: selection rule whose score is maximised: `lodo` (default) or `training_domain`. None looks at a target.
        lambdas: lower and upper bound of lambda; points are log-uniform where the lower one is above 0. Default 0.01 to
            1000.
        strengths: label of a kind -> parameter -> bounds, for example `{gaussian_blur: {sigma: [0.5, 4]}}`; each point
            is a view of its own to be embedded. Default: no strength is searched.
        seed: seed of the suggestions. Default 0.
    """

    method: Literal["random", "optuna"] = "random"
    samples: int = Field(default=32, ge=1, le=100_000)
    batch: int = Field(default=8, ge=1, le=1024)
    rule: Literal["lodo", "training_domain"] = "lodo"
    lambdas: Bounds = (0.01, 1000.0)
    strengths: dict[str, dict[str, Bounds]] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _ascending(self) -> "SearchSpec":
        named = {f"strengths.{k}.{p}": b for k, searched in self.strengths.items() for p, b in searched.items()}
        for name, (low, high) in {LAMBDA + "s": self.lambdas, **named}.items():
            if not low < high:
                raise ValueError(f"{name}: the bounds [{low:g}, {high:g}] must ascend.")
        return self


Ranks = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | Literal["auto", "all"]
Lambdas = Annotated[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], Field(min_length=1)]


class GridSpec(Spec):
    """A grid of its own for a predictor, where the one of the sweep would cost too much.

    Fields:
        ranks: in the place of `sweep.ranks`. Default: those of the sweep.
        lambdas: in the place of `sweep.lambdas`. Default: those of the sweep.
        projections: in the place of `sweep.projections`. Default: those of the sweep.
        intervention_sets: names of those of `sweep.intervention_sets` that are used. Default: all.
    """

    ranks: Ranks | None = None
    lambdas: Lambdas | None = None
    projections: Annotated[tuple[AnyProjection, ...], Field(min_length=1)] | None = None
    intervention_sets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @field_validator("projections")
    @classmethod
    def _distinct_components(cls, given: Any) -> Any:
        return given and distinct(given, [projection.label for projection in given], "entry")


class SweepSpec(Spec):
    """What is fitted and evaluated for every held-out environment.

    Fields:
        protocols: what is fitted on which environments and tested on which: names of `PROTOCOLS`, or `module:Class`.
            Default: `held_out`.
        test_splits: which images of the held-out environment are tested: `out_20` (default, the released code's),
            `in_80` (DomainBed's) or `full`. Only `held_out` and `held_out_pairs` leave the choice. With `folds` it is
            `out_fold`, and no other.
        folds: number of folds, 3 to 100, in the place of the 80/20 split: images (or groups, whole) are cut by the
            seed, and each fold is tested in turn, so that every image is tested once. Rules choose by fits without the
            tested fold and another one, validated on that one of the sources, for every other fold. Default: none.
        base_classes: `floor` or `ceil`: how half an odd number of classes is rounded to that of base classes. Default:
            the protocol's, `floor` for `held_out_open_class` (the released code) and `ceil` for `open_class`.
        seeds: seeds of the splits (DomainBed's trial seeds) or of the cuts into folds, and of everything random in a
            trial. Default 0, 1, 2.
        intervention_sets: which views enter the consistency term, and placebos of them; no rule chooses between a set
            and a placebo. Default: one set with every embedded kind.
            `all_subsets` means every subset of the embedded kinds: with seven, 127 sets, which cost linear algebra
            alone.
        projections: how bases are estimated; `identity` is the plain space. Default: `identity`, `pca`, `random`,
            `icm` in both orders and with the nuisance of shrinkage (equal-N truncation), `shrinkage`, `fixed`,
            `isotropic_environments` and `within_classes`.
        lambdas: weights of the consistency term, 0 or above, for every projection that has one and no `lambdas` of its
            own, as shrinkage has. Default 0.3, 1, 3, 10.
        ranks: numbers of directions kept, 1 to D; `auto` (default) is D and the powers of two below it from 4 on, `all`
            is every one.
        normalize: where embeddings are scaled to unit length: `before` the projection, `after` it, `both` or `none`
            (default).
        predictors: how classes are predicted inside the subspace. Default: `zero_shot` and `linear_probe`.
        grids: name of a predictor -> ranks, lambdas, projections and intervention sets of its own. Default: none.
        selection_images: most images of each source environment and fold by which rules choose, and that fits see
            which only serve a choice, of predictors whose fits take long (probes, `clip_adapter`): drawn by the seed,
            classes in proportion; the in-split of an 80/20 split counts as four folds. What a rule picks is fitted on
            all images, and so is the last rank; rows say which ranks are. `null` takes all everywhere. Default 1000,
            which is all of them up to PACS and Office-Home.
        choose_by: `metric` (default), that of the data set, or `balanced`, class-balanced accuracy. A metric that needs
            scores leaves the choice to accuracy.
        search: a search in the place of `lambdas`, for the projections that it searches. Default: none, the grid.
        metrics: metrics that tables show beside the built-in ones, as `module:Class`. One of scores is computed where
            rules pick, and is part of what trials are known by; any other changes no trial. Default: none.
    """

    protocols: tuple[AnyProtocol, ...] = Field(default_factory=lambda: (PROTOCOLS.create("held_out"),), min_length=1)
    test_splits: tuple[TestSplit, ...] = Field(default=("out_20",), min_length=1)
    folds: int | None = Field(default=None, ge=3, le=100)
    base_classes: Rounding | None = None
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31, strict=True)], ...] = Field(default=(0, 1, 2), min_length=1)
    intervention_sets: Annotated[tuple[InterventionSet, ...], Field(min_length=1)] | Literal["all_subsets"] = (
        InterventionSet(name="all"),
    )
    projections: tuple[AnyProjection, ...] = Field(
        default_factory=lambda: (
            *(PROJECTIONS.create(name) for name in ("identity", "pca", "random", "icm")),
            PROJECTIONS.create({"name": "icm", "order": "released"}),
            PROJECTIONS.create({"name": "icm", "nuisance": ["interventions", "environments", "both"]}),
            *(PROJECTIONS.create(n) for n in ("shrinkage", "fixed", "isotropic_environments", "within_classes")),
        ),
        min_length=1,
    )
    lambdas: Lambdas = (0.3, 1.0, 3.0, 10.0)
    ranks: Ranks = "auto"
    normalize: tuple[Normalize, ...] = Field(default=("none",), min_length=1)
    predictors: tuple[AnyPredictor, ...] = Field(
        default_factory=lambda: (PREDICTORS.create("zero_shot"), PREDICTORS.create("linear_probe")),
        min_length=1,
    )
    grids: dict[str, GridSpec] = Field(default_factory=dict)
    selection_images: int | None = Field(default=1000, ge=1)
    choose_by: Literal["metric", "balanced"] = "metric"
    search: SearchSpec | None = None
    metrics: tuple[AnyMetric, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _folds_are_tested(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("folds") is not None:
            return {"test_splits": ("out_fold",), **given}
        return given

    @model_validator(mode="after")
    def _splits_and_grids(self) -> "SweepSpec":
        if self.folds and self.test_splits != ("out_fold",):
            raise ValueError("test_splits: with folds each fold is tested in turn; leave test_splits out.")
        if not self.folds and "out_fold" in self.test_splits:
            raise ValueError("test_splits: 'out_fold' needs folds; give the number of folds.")
        names = [predictor.name for predictor in self.predictors]
        for name in self.grids:
            if name not in names:
                raise ValueError(f"grids: '{name}' is none of the predictors; {nearest(name, names)}")
        return self

    @field_validator("test_splits", "seeds", "lambdas", "normalize", "ranks", "intervention_sets")
    @classmethod
    def _distinct_values(cls, given: Any, info: ValidationInfo) -> Any:
        if info.field_name == "intervention_sets" and not isinstance(given, str):
            return distinct(given, [chosen.name for chosen in given], "intervention set")
        return given if isinstance(given, str) else distinct(given, list(given), "value")

    @field_validator("protocols", "projections", "predictors")
    @classmethod
    def _distinct_components(cls, components: Any) -> Any:
        return distinct(components, [c.label for c in components], "entry")

    def rank_count(self, dim: int) -> int:
        """Return how many ranks are evaluated for embeddings of width `dim`, of whatever predictor."""
        return len({rank for predictor in self.predictors for rank in self.ranks_for(dim, predictor)})

    def _grid(self, predictor: Predictor) -> GridSpec:
        return self.grids.get(predictor.name, GridSpec())

    def lambdas_for(self, predictor: Predictor, projection: Projection) -> tuple[float, ...]:
        """Return the weights of the consistency term, or strengths; (0.0,) where a projection has none."""
        if projection.own_lambdas:
            return projection.own_lambdas
        return (self._grid(predictor).lambdas or self.lambdas) if projection.uses_lambda else (0.0,)

    def projections_for(self, predictor: Predictor) -> list[Projection]:
        """Return the projections that a predictor is tried with."""
        return list(self._grid(predictor).projections or self.projections)

    def uses_set(self, predictor: Predictor, name: str) -> bool:
        """Return whether a predictor is tried with the intervention set of that name."""
        asked = self._grid(predictor).intervention_sets
        return asked is None or name in asked

    def all_projections(self) -> list[Projection]:
        """Return every projection that some predictor is tried with."""
        every = [p for predictor in self.predictors for p in self.projections_for(predictor)]
        return list({projection.label: projection for projection in every}.values())

    def ranks_for(self, dim: int, predictor: Predictor | None = None) -> tuple[int, ...]:
        """Return the ranks to evaluate for embeddings of width `dim`, ascending."""
        ranks, place = self.ranks, "sweep.ranks"
        if predictor and (own := self._grid(predictor).ranks):
            ranks, place = own, f"sweep.grids.{predictor.name}.ranks"
        if ranks == "auto":
            return (*(2**p for p in range(2, dim.bit_length()) if 2**p < dim), dim)
        if ranks == "all":
            return tuple(range(1, dim + 1))
        if max(ranks) > dim:
            raise IcmBenchError(
                f"{place}: rank {max(ranks)} is above the embedding width D = {dim} of this backbone; "
                f"use ranks from 1 to {dim}, or 'auto'."
            )
        return tuple(sorted(ranks))


Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]


class RunSpec(Spec):
    """Where and with what it runs; changes no number but for the last digits, so it is no part of the hash.

    Fields:
        store: folder, s3:// or gs:// for embeddings and rows. Default: `store` in the cache folder.
        data: folder or URI that holds the folders of those data sets that have no `root` of their own.
        out: folder or URI of the report. Default: `reports/NAME-HASH` inside the store.
        device: what encoders run on: `gpu`, `cpu`, or `auto` (default), GPUs where the cluster has some or its
            autoscaler may bring some, else CPUs.
        gpus: number of GPUs that encode; those that are not there are asked of the cluster's autoscaler. `auto`
            (default) is what its configuration allows, and no more than there is work for.
        encoders_per_gpu: number of encoders that share each GPU, 1 to 8. Default 1; small encoders leave a GPU idle.
        wait_for_gpus: seconds after which a run ends that waits for its first GPU. Default 900.
        actors: number of encoders on CPUs. Default: one for each node.
        chunk_timeout: seconds without an answer after which an encoder is replaced, 1 or more. `auto` (default) is ten
            times the median time of its chunks, at least 120; until the first chunk it is 900.
        batch_size: number of views in a forward pass. Default: 32 on a CPU; on a GPU what fits into its memory, 512 at
            most. Halved when memory runs out.
        compile: compile the image tower with torch.compile: a minute of compiling, then faster on GPUs. Default false.
        cpus_per_trial: number of CPU cores that a trial of the sweep reserves. Default 1.
        gpus_per_trial: number of GPUs, or a share of one, that a trial reserves; logistic regressions then run there.
            `auto` (default) is 1 where the cluster has one and a trained predictor chooses on some of the images, see
            `sweep.selection_images`, and 0 elsewhere.
        trial_timeout: seconds after which a trial is ended, tried once more, and then shown as a gap. Default: none.
        loggers: who else follows the sweep, through Tune's own callbacks: `tensorboard`, `mlflow`, `wandb`. Default:
            none.
        logs: folder in which Tune keeps the files of loggers. Default `icm-bench-logs`.
        max_bad_images: share of unreadable images, 0 to 1, above which the run fails. Default 0.01.
        storage_timeout: seconds for which calls to storage are retried while it does not answer, before the
            run ends. Default 120.
    """

    store: str | None = None
    data: str | None = None
    out: str | None = None
    device: Literal["auto", "gpu", "cpu"] = "auto"
    gpus: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = "auto"
    encoders_per_gpu: int = Field(default=1, ge=1, le=8)
    wait_for_gpus: Seconds = 900.0
    actors: int | None = Field(default=None, ge=1, le=10_000)
    chunk_timeout: Annotated[Seconds, Field(ge=1)] | Literal["auto"] = "auto"
    batch_size: int | None = Field(default=None, ge=1, le=65_536)
    compile: bool = False
    cpus_per_trial: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    gpus_per_trial: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = "auto"
    trial_timeout: float | None = Field(default=None, gt=0, le=MAX_SECONDS)
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    logs: str = Field(default="icm-bench-logs", min_length=1)
    max_bad_images: float = Field(default=0.01, ge=0, le=1)
    storage_timeout: Seconds = TIMEOUT

    @model_validator(mode="after")
    def _one_device(self) -> "RunSpec":
        if self.actors and (self.device == "gpu" or self.gpus != "auto"):
            raise ValueError("actors: it counts encoders on CPUs; leave it out and give gpus, or give device: cpu.")
        if self.device == "cpu" and self.gpus != "auto":
            raise ValueError("gpus: with device: cpu there are none; leave one of the two out.")
        return self
