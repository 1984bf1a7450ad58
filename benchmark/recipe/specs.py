"""Parts of a recipe: interventions, texts, images, prompts, sweep, search and run.

The hash of its dump identifies a recipe, so a new key must not appear in the dump of recipes without it: see
`ImagesSpec.formats`. Keys of `run` are not hashed. After a change, `make docs` writes these docstrings and defaults
into docs/recipe.md, and the counts into the heads of jobs/recipes/.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.image_formats import further_formats
from benchmark.common.spec import Images, Spec, distinct
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

LAMBDA = "lambda"  # name of lambda in a search space
MAX_SECONDS = 1e7  # maximum timeout: four months
MAX_VIEWS = 62  # maximum besides the original: one bit for each in `missing_views` of embedding/chunks.py


def _projection(spec: object) -> Projection:
    """Return the projection in a recipe's `spec`; refuse parameters that the sweep sets."""
    given = set(spec) & {LAMBDA, *Projection.swept} if isinstance(spec, dict) else set()
    if given & {LAMBDA, "lambda_"}:
        raise ValueError("lambda is swept: give sweep.lambdas.")
    if given:
        raise ValueError(f"{given.pop()} is swept: give sweep.seeds.")
    return PROJECTIONS.create(spec)


def _as_written(projection: Projection) -> dict[str, Any]:
    """Return the entry of a recipe for a projection; its own `lambdas`, which labels leave out, only if changed."""
    own, fields = projection.own_lambdas, type(projection).model_fields
    changed = own is not None and "lambdas" in fields and own != fields["lambdas"].default
    return projection.model_dump(mode="json") | ({"lambdas": list(own or ())} if changed else {})


AnyIntervention = Annotated[SerializeAsAny[Intervention], BeforeValidator(INTERVENTIONS.create)]
AnyProjection = Annotated[Projection, BeforeValidator(_projection), PlainSerializer(_as_written)]
AnyProtocol = Annotated[
    SerializeAsAny[Protocol],
    BeforeValidator(PROTOCOLS.create),
    PlainSerializer(lambda protocol: protocol.name, return_type=str),
]
AnyMetric = Annotated[SerializeAsAny[Metric], BeforeValidator(METRICS.create)]
AnyPredictor = Annotated[SerializeAsAny[Predictor], BeforeValidator(PREDICTORS.create)]


class TextPairsSpec(Spec):
    """Pairs of texts that describe the same object in different surroundings: interventions without images.

    Fields:
        pairs: path of a JSONL file; each line is an object with `caption` and `rewrite`. A pair that describes one
            image names it in `image_id` (its id, or its path below the data set's folder), and is left out if the
            image is held out. A pair with another data set in `dataset` is left out too. `docs/examples/captions.py`
            writes such a file. Default: pairs are generated for the data set's classes, from templates with lists of
            styles, backgrounds and lights.
        edits: prompt edits of CLAP, which generate pairs instead of the templates: a prompt such as "a sketch of a
            large red dog", and the same prompt after some of these edits. `size` and `colour` delete that word, `type`
            deletes the type of the image, `type_swap` replaces the type, `order` puts the object first, `noise`
            inserts Gaussian noise among the tokens. Default: none.
        per_class: number of generated pairs for each class. Default 32.
        seed: seed of the generated pairs. Default 0.
    """

    pairs: str | None = None
    edits: tuple[Edit, ...] = ()
    per_class: int = Field(default=32, ge=1, le=4096)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _one_source(self) -> "TextPairsSpec":
        if self.pairs and self.edits:
            raise ValueError("pairs: a file and edits exclude each other; leave one of the two out.")
        distinct(self.edits, list(self.edits), "edit")
        return self


class InterventionsSpec(Spec):
    """The embedded views of every image: the original and one for each kind.

    Fields:
        kinds: kinds of intervention, 62 at most; a kind may be repeated with other strengths. Default: all seven.
        seed: seed of the random parameters of each image. Default 0.
        draws: number of draws of random kinds, with seeds `seed`, `seed` + 1 and so on; at most the number of
            `sweep.seeds`, which use the draws in turn, so that differences between seeds include the random views.
            Default 1.
        apply_at: the image that interventions change: `model_input` (default), the encoder's input, or `source`, the
            image at full resolution before resize and crop, as in the authors' released code. Strengths in pixels
            (`sigma` of the blur) then count pixels of the full resolution, so large images blur less.
        text: text pairs, the kind `text` of intervention sets; `{}` generates them from templates. Default: none.
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
            raise ValueError(f"draws: {self.draws} draws make {views} views of each image; the maximum is {MAX_VIEWS}.")
        return self

    def seed_of(self, kind: Intervention, draw: int) -> int:
        """Return the seed of a kind's views in a draw (numbered from 0); kinds without randomness have one seed."""
        return self.seed + draw if kind.is_random else self.seed

    def seeds_of(self, kind: Intervention) -> range:
        """Return the seeds of a kind's views: one, or one for each draw."""
        return range(self.seed, self.seed_of(kind, self.draws - 1) + 1)

    def view_count(self, kinds: Iterable[Intervention]) -> int:
        """Return the number of views of each image for some kinds."""
        return sum(len(self.seeds_of(kind)) for kind in kinds)

    def by_label(self) -> dict[str, Intervention]:
        """Return the kinds by label: `posterize`, or `posterize(bits=3)` if parameters differ from the defaults."""
        return {kind.label: kind for kind in self.kinds}


class ImagesSpec(Spec):
    """Decoding of image files.

    Fields:
        jpeg_draft: whether to decode a JPEG at 1/2, 1/4 or 1/8 scale where that is at least twice the size after
            resizing (default; never if interventions act on the source). Several times faster on photographs; pixels
            differ slightly from open_clip's.
        upright: turn images upright by EXIF (default); `false` leaves them as stored, like open_clip (which turns TIFF
            only).
        resize: `pillow` (default), as open_clip, or `torch` (antialiased, on uint8): faster, up to 2 grey levels off,
            not for comparisons with published numbers.
        formats: Pillow's names of more formats, such as [AVIF, JPEG2000], besides JPEG, PNG, WebP, BMP, TIFF, PPM and
            the first frames of GIF and MPO. Files are found by suffix and read by content. Default: none.
    """

    jpeg_draft: bool = True
    upright: bool = Field(default=True, exclude_if=bool)
    resize: Literal["pillow", "torch"] = Field(default="pillow", exclude_if=lambda resize: resize == "pillow")
    formats: tuple[str, ...] = Field(default=(), exclude_if=lambda formats: not formats)

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        return further_formats(formats) if formats else ()


class PromptsSpec(Spec):
    """The texts of zero-shot prediction: `{}` is the class name, with spaces for underscores.

    Several templates are an ensemble: the mean of their unit-length embeddings, scaled to unit length.

    Fields:
        templates: templates for data sets without their own; `openai` for the 80 templates of CLIP's authors for
            ImageNet, `simple` for 7 of them, both from open_clip. Default: "a photo of a {}.".
        by_dataset: name of a data set -> its templates, or `openai` or `simple`. Default: none.
    """

    templates: Templates = ("a photo of a {}.",)
    by_dataset: dict[str, Templates] = Field(default_factory=dict)

    def templates_for(self, dataset: str) -> tuple[str, ...]:
        """Return the templates of a data set."""
        return resolve_templates(self.by_dataset.get(dataset, self.templates))


Bounds = tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]]


class SearchSpec(Spec):
    """A search instead of the grid, for projections with a lambda or with searched strengths.

    Fields:
        method: sampler of points: `random` (default), or `optuna` (its tree-structured Parzen estimator; needs
            the package optuna).
        samples: number of points for each method and held-out environment. Default 32.
        batch: number of points that are embedded and evaluated together; then the sampler uses their scores.
            Default 8.
        rule: selection rule whose score is maximised: `lodo` (default) or `training_domain`. Neither uses the target.
        lambdas: lower and upper bound of lambda; sampled log-uniformly if the lower bound is above 0. Default 0.01 to
            1000.
        strengths: label of a kind -> parameter -> bounds, for example `{gaussian_blur: {sigma: [0.5, 4]}}`; each point
            needs its own embedded view. Default: no strength is searched.
        seed: seed of the sampler. Default 0.
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
Shares = tuple[Annotated[float, Field(gt=0, le=1)], ...]
Lambdas = Annotated[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], Field(min_length=1)]


class GridSpec(Spec):
    """A separate grid for a predictor, for example if the grid of the sweep would cost too much.

    Fields:
        ranks: default: `sweep.ranks`.
        lambdas: default: `sweep.lambdas`.
        projections: default: `sweep.projections`.
        intervention_sets: names of the sets in `sweep.intervention_sets` that the predictor uses. Default: all.
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
    """Projections, predictors and protocols that are fitted and evaluated for every held-out environment.

    Fields:
        protocols: choices of training and test environments: names of `PROTOCOLS`, or `module:Class`.
            Default: `held_out`.
        test_splits: test images of the held-out environment: `out_20` (default, as in the released code), `in_80` (as
            in DomainBed) or `full`. Only `held_out` and `held_out_pairs` allow a choice. With `folds`, the only value
            is `out_fold`.
        folds: number of folds, instead of the 80/20 split. Images (or whole groups) are split by the seed,
            and each fold is tested in turn, so that every image is tested once. For selection, each of the other folds
            is left out in turn, together with the tested fold; its source images are the validation images. Default:
            none.
        train_shares: shares of the source images that fits learn from, for a learning curve: [0.25, 0.5, 1]. A share is
            a number of whole folds, so it needs `folds`. Shares below 1 are fitted for predictors without training
            images (`zero_shot`), not for placebos, shares of the pairs and the projection `random`. Fits for selection
            have the share of their own folds, one at least. Default: 1, all images.
        base_classes: `floor` or `ceil`: how half the number of classes is rounded to the number of base classes.
            Default: the protocol's, `floor` for `held_out_open_class` (the released code), `ceil` for `open_class`.
        seeds: seeds of the splits (DomainBed's trial seeds) or folds, and of all randomness in a
            trial. Default 0, 1, 2.
        intervention_sets: views that enter the consistency term, and placebos of them; no rule chooses between a set
            and a placebo. Default: one set with all embedded kinds.
            `all_subsets` means all subsets of the embedded kinds: 127 sets for seven kinds, which cost only linear
            algebra.
        projections: estimators of bases; `identity` is the plain space. Default: `identity`, `pca`, `random`,
            `icm` in both orders and with the nuisance of shrinkage (equal-N truncation), `shrinkage`, `fixed`,
            `isotropic_environments` and `within_classes`.
        lambdas: weights of the consistency term, for projections with this term and without their own
            `lambdas` (shrinkage has its own). Default 0.3, 1, 3, 10.
        ranks: numbers of directions kept, 1 to D; `auto` (default) is D and all powers of two from 4 up to D, `all` is
            1 to D.
        normalize: when embeddings are scaled to unit length: `before` the projection, `after` it, `both` or `none`
            (default).
        predictors: predictors of classes in the subspace. Default: `zero_shot` and `linear_probe`.
        grids: name of a predictor -> its ranks, lambdas, projections and intervention sets. Default: none.
        selection_images: maximum number of images that selection uses in each source environment and fold: validation
            images, and, for slow predictors (probes, `clip_adapter`), training images. They are drawn by the seed,
            stratified by class. The in-split of an 80/20 split counts as four folds. Selected points and the last rank
            are fitted again on all images; rows record which ranks these are. `null` uses all images everywhere.
            Default 1000, which is all images of data sets up to the size of Office-Home.
        choose_by: metric that selection rules use: `metric` (default) is the data set's metric, `balanced` is
            class-balanced accuracy. Accuracy replaces metrics that need scores.
        search: a search instead of `lambdas`, for the projections that it covers. Default: none, the grid.
        metrics: further metrics in tables, as `module:Class`. Metrics of scores are computed at selected points, and
            are part of the identity of trials; others change no trial. Default: none.
    """

    protocols: tuple[AnyProtocol, ...] = Field(default_factory=lambda: (PROTOCOLS.create("held_out"),), min_length=1)
    test_splits: tuple[TestSplit, ...] = Field(default=("out_20",), min_length=1)
    folds: int | None = Field(default=None, ge=3, le=100)
    train_shares: Shares = Field(default=(1.0,), exclude_if=lambda shares: shares == (1.0,))
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
            raise ValueError("test_splits: with folds, each fold is tested in turn; leave test_splits out.")
        if not self.folds and "out_fold" in self.test_splits:
            raise ValueError("test_splits: 'out_fold' needs folds; give the number of folds.")
        others = (self.folds or 2) - 1  # folds that a tested fit learns from
        if 1 not in self.train_shares:
            raise ValueError("train_shares: add 1, all source images, with which the shares are compared.")
        if wrong := next((share for share in self.train_shares if (share * others) % 1), None):
            shares = ", ".join(f"{k / others:.4g}" for k in range(1, others + 1))
            given = f"with {self.folds} folds give {shares}" if self.folds else "set folds, of which shares are fitted"
            raise ValueError(f"train_shares: {wrong:g} is no whole number of folds; {given}.")
        names = [predictor.name for predictor in self.predictors]
        for name in self.grids:
            if name not in names:
                raise ValueError(f"grids: '{name}' is not a predictor of the sweep; {nearest(name, names)}")
        return self

    @field_validator("test_splits", "train_shares", "seeds", "lambdas", "normalize", "ranks", "intervention_sets")
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
        """Return the number of evaluated ranks for embeddings of width `dim`, over all predictors."""
        return len({rank for predictor in self.predictors for rank in self.ranks_for(dim, predictor)})

    def _grid(self, predictor: Predictor) -> GridSpec:
        return self.grids.get(predictor.name, GridSpec())

    def lambdas_for(self, predictor: Predictor, projection: Projection) -> tuple[float, ...]:
        """Return the values of lambda (weights or strengths); a projection without lambda has the single value 0.0."""
        if projection.own_lambdas:
            return projection.own_lambdas
        return (self._grid(predictor).lambdas or self.lambdas) if projection.uses_lambda else (0.0,)

    def projections_for(self, predictor: Predictor) -> list[Projection]:
        """Return the projections of a predictor."""
        return list(self._grid(predictor).projections or self.projections)

    def uses_set(self, predictor: Predictor, name: str) -> bool:
        """Return whether a predictor uses the intervention set with a name."""
        asked = self._grid(predictor).intervention_sets
        return asked is None or name in asked

    def all_projections(self) -> list[Projection]:
        """Return the projections of all predictors."""
        every = [p for predictor in self.predictors for p in self.projections_for(predictor)]
        return list({projection.label: projection for projection in every}.values())

    def ranks_for(self, dim: int, predictor: Predictor | None = None) -> tuple[int, ...]:
        """Return the ranks to evaluate for embeddings of width `dim`, ascending; see `check_ranks`."""
        ranks = (predictor and self._grid(predictor).ranks) or self.ranks
        if ranks == "auto":
            return (*(2**p for p in range(2, dim.bit_length()) if 2**p < dim), dim)
        if ranks == "all":
            return tuple(range(1, dim + 1))
        return tuple(sorted(ranks))

    def listed_ranks(self) -> dict[str, tuple[int, ...]]:
        """Return the ranks that are listed as numbers, by their place in the recipe."""
        of_grids = {f"sweep.grids.{name}.ranks": grid.ranks for name, grid in self.grids.items()}
        every = {"sweep.ranks": self.ranks, **of_grids}
        return {place: ranks for place, ranks in every.items() if ranks and not isinstance(ranks, str)}

    def check_ranks(self, dim: int, backbone: str) -> None:
        """Refuse a listed rank above the embedding width `dim` of a backbone, which the message names."""
        for place, ranks in self.listed_ranks().items():
            if max(ranks) > dim:
                raise IcmBenchError(
                    f"{place}: rank {max(ranks)} is above the embedding width D = {dim} of the backbone '{backbone}'; "
                    f"use ranks from 1 to {dim}, or 'auto'."
                )


Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]


class RunSpec(Spec):
    """Storage, devices and resources; changes at most the last digits of numbers, so it is not in the hash.

    Fields:
        store: folder, s3:// or gs:// for embeddings and rows. Default: `store` in the cache folder.
        data: parent folder or URI of data sets without their own `root`.
        out: folder or URI of the report. Default: `reports/NAME-HASH` inside the store.
        device: device of encoders: `gpu`, `cpu`, or `auto` (default), which is GPUs if the cluster has some or its
            autoscaler can add some, else CPUs.
        gpus: number of GPUs for encoders; missing ones are requested from the cluster's autoscaler. `auto`
            (default) is the number that the cluster's configuration allows, limited by the work.
        encoders_per_gpu: number of encoders that share each GPU. Default 1; use more for small encoders.
        wait_for_gpus: seconds to wait for the first GPU before the run ends. Default 900.
        actors: number of encoders on CPUs. Default: one for each node.
        chunk_timeout: seconds after which an unresponsive encoder is replaced. `auto` (default) is ten
            times the median time of its chunks, at least 120; 900 until the first chunk.
        batch_size: number of views in a forward pass. Default: 32 on a CPU; on a GPU as many as fit into its memory,
            at most 512. Halved when memory runs out.
        compile: compile the image tower with torch.compile: a minute of compiling, then faster on GPUs. Default false.
        cpus_per_trial: number of CPU cores reserved for each trial. Default 1.
        gpus_per_trial: number or fraction of GPUs reserved for each trial, used for logistic regressions.
            `auto` (default) is 1 if the cluster has a GPU and `sweep.selection_images` limits a trained
            predictor, else 0.
        trial_timeout: seconds after which a trial is stopped and retried. If it is stopped again, its results are
            missing from the tables. Default: none.
        loggers: callbacks of Tune that log the sweep. Default: none.
        logs: folder of the loggers' files. Default `icm-bench-logs`.
        max_bad_images: share of unreadable images above which the run fails. Default 0.01.
        storage_timeout: seconds for which calls are retried if the storage does not answer; then the run ends. Default
            120.
    """

    store: str | None = None
    data: Images | None = None
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
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()  # as `LOGGERS` in benchmark/sweep/batches.py
    logs: str = Field(default="icm-bench-logs", min_length=1)
    max_bad_images: float = Field(default=0.01, ge=0, le=1)
    storage_timeout: Seconds = TIMEOUT

    @model_validator(mode="after")
    def _one_device(self) -> "RunSpec":
        if self.actors and (self.device == "gpu" or self.gpus != "auto"):
            raise ValueError("actors: this is the number of encoders on CPUs; give gpus instead, or device: cpu.")
        if self.device == "cpu" and self.gpus != "auto":
            raise ValueError("gpus: device: cpu uses none; leave one of the two out.")
        return self
