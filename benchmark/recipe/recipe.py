"""The recipe: all specs, checked against each other, with a hash.

The functions at the end return the settings that are left if views or texts are missing. Only commands, `cli` and
`sweep/trials.py` take a whole recipe; other code gets the specs that it needs. `make docs` writes docs/recipe.md from
the docstrings of specs; a test compares them.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from benchmark.backbones.facts import Texts
from benchmark.backbones.spec import AUTOMATIC, BackboneSpec
from benchmark.common.errors import nearest, some
from benchmark.common.plain import canonical_hash
from benchmark.common.spec import Spec, distinct, sentence
from benchmark.datasets.catalog import is_variant
from benchmark.datasets.spec import DatasetSpec
from benchmark.method.evaluation.metrics import ACCURACY, BUILT_IN, METRICS, Metric
from benchmark.method.evaluation.protocols import Protocol
from benchmark.method.interventions import Intervention
from benchmark.method.predictors import Predictor
from benchmark.method.prompts import Names
from benchmark.method.subspace import Projection
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.sets import TEXT, InterventionSet
from benchmark.recipe.specs import LAMBDA, ImagesSpec, InterventionsSpec, PromptsSpec, RunSpec, SweepSpec

SHIFT_SOURCE = "ImageNet"  # training data set of protocols across data sets
MAX_SUBSETS = 1023  # maximum of `all_subsets`: the subsets of ten kinds


class Recipe(Spec):
    """Everything about a benchmark run. `jobs/recipes/demo.yaml` is an example.

    Fields:
        name: name of the run in reports and their folders: letters, digits, `.`, `_` and `-`.
        datasets: data sets, one entry each; a single word is the `name`.
        backbones: dual encoders; a single word is the `name`.
        images: decoding of image files.
        interventions: views that are embedded for every image.
        prompts: texts of zero-shot prediction.
        sweep: projections, predictors and protocols that are fitted and evaluated.
        names: name of a method or data set -> short name in printed tables; changes no number.
        run: storage, devices and resources; changes at most the last digits of numbers.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    datasets: tuple[DatasetSpec, ...] = Field(min_length=1)
    backbones: tuple[BackboneSpec, ...] = Field(min_length=1)
    images: ImagesSpec = ImagesSpec()
    interventions: InterventionsSpec = InterventionsSpec()
    prompts: PromptsSpec = PromptsSpec()
    sweep: SweepSpec = SweepSpec()
    names: dict[str, str] = Field(default_factory=dict)
    run: RunSpec = RunSpec()

    @field_validator("datasets", "backbones", mode="before")
    @classmethod
    def _a_word_is_a_name(cls, specs: Any) -> Any:
        if isinstance(specs, list | tuple):
            return [{"name": spec} if isinstance(spec, str) else spec for spec in specs]
        return specs

    @model_validator(mode="before")
    @classmethod
    def _without_absent_sets(cls, given: Any) -> Any:
        """Leave out the data sets with `needs_data` if the recipe has no `run.data`."""
        run, listed = (given.get(key) for key in ("run", "datasets")) if isinstance(given, dict) else (None, None)
        if not isinstance(listed, list | tuple) or (run.get("data") if isinstance(run, dict) else run and run.data):
            return given
        needing = [getattr(d, "needs_data", None) or (isinstance(d, dict) and d.get("needs_data")) for d in listed]
        if all(needing) and listed:
            raise ValueError("datasets: every data set has needs_data, and there is no run.data; give --data FOLDER.")
        return {**given, "datasets": [d for d, needs in zip(listed, needing, strict=True) if not needs]}

    @model_validator(mode="after")
    def _possible(self) -> "Recipe":
        distinct(self.datasets, [d.name for d in self.datasets], "data set")
        distinct(self.backbones, [b.label for b in self.backbones], "backbone")
        if len({b.at_precision("bfloat16").label for b in self.backbones}) < len(self.backbones):
            raise ValueError("backbones: two differ only in precision, and one has 'auto'; name its precision.")
        self._check_datasets()
        self._check_strengths()
        self._check_sets()
        distinct(self.metrics, [metric.heading for metric in self.metrics], "metric")
        if (draws := self.interventions.draws) > len(self.sweep.seeds):
            raise ValueError(
                f"interventions.draws: {draws} draws of views for {len(self.sweep.seeds)} sweep.seeds, each of which "
                f"uses one; reduce the draws, or add seeds."
            )
        return self

    def metric_of(self, dataset: DatasetSpec) -> Metric:
        """Return the metric of a data set."""
        return METRICS.create(dataset.judged_by)

    def chosen_by(self, dataset: str) -> Metric:
        """Return the metric that selection rules use on a data set: accuracy if the chosen metric needs scores."""
        spec = next(spec for spec in self.datasets if spec.name == dataset)
        metric = METRICS.create("balanced") if self.sweep.choose_by == "balanced" else self.metric_of(spec)
        return ACCURACY if metric.needs == "scores" else metric

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics in tables: the built-in ones, the sweep's, and the data sets'."""
        return tuple(dict.fromkeys([*BUILT_IN, *self.sweep.metrics, *map(self.metric_of, self.datasets)]))

    def at_precision(self, precision: str) -> "Recipe":
        """Return the recipe with `precision` in place of `auto`."""
        return self.model_copy(update={"backbones": tuple(spec.at_precision(precision) for spec in self.backbones)})

    def resolutions(self) -> list["Recipe"]:
        """Return the recipe with each precision that `auto` may become, float32 first."""
        return [self.at_precision(precision) for precision in AUTOMATIC]

    @property
    def is_imported(self) -> bool:
        """Whether the embeddings are imported, so that neither images nor backbones are needed."""
        return self.datasets[0].is_imported

    def _check_datasets(self) -> None:
        """Refuse imported data sets together with others, prompts of unknown data sets, missing ImageNet variants."""
        names = [d.name for d in self.datasets]
        if other := next((d.name for d in self.datasets if d.is_imported != self.is_imported), None):
            raise ValueError(
                f"datasets: '{names[0]}' and '{other}': imported data sets and data sets with images need separate "
                f"recipes; `icm-bench report` takes several."
            )
        across = self._across_sets
        for name in self.prompts.by_dataset:
            if name not in names:
                raise ValueError(f"prompts.by_dataset: '{name}' is not one of the data sets; {nearest(name, names)}")
            if across and is_variant(name) and name != SHIFT_SOURCE:
                raise ValueError(f"prompts.by_dataset: '{name}' uses the prompts of {SHIFT_SOURCE}; set them there.")
        if across and not (SHIFT_SOURCE in names and len([n for n in names if is_variant(n)]) > 1):
            raise ValueError(
                f"the protocol '{across.name}' fits on {SHIFT_SOURCE} and tests on its variants: list {SHIFT_SOURCE} "
                f"and one or more variants in datasets."
            )

    def _check_sets(self) -> None:
        """Refuse intervention sets with kinds that are not embedded, and methods whose views are not embedded."""
        needing = [f"projection '{p.name}'" for p in self.sweep.all_projections() if p.uses_interventions]
        needing += [f"predictor '{p.name}'" for p in self.sweep.predictors if p.uses_interventions]
        all_images = [f"projection '{p.name}'" for p in self.sweep.all_projections() if p.uses_products]
        all_images += [f"predictor '{p.name}'" for p in self.sweep.predictors if p.uses_views]
        known = [*self.interventions.by_label(), *([TEXT] if self.interventions.text else []), CROSS]
        for intervention_set in self.intervention_sets():
            for label in intervention_set.kinds:
                if label not in known:
                    raise ValueError(
                        f"sweep.intervention_sets: '{label}' of the set '{intervention_set.name}' is not among "
                        f"interventions.kinds; {nearest(label, known)}"
                    )
            if needing and not intervention_set.kinds and not self.interventions.kinds:
                raise ValueError(f"the {needing[0]} needs interventions, but interventions.kinds is empty.")
            if intervention_set.pairs < 1 and all_images:
                raise ValueError(
                    f"sweep.intervention_sets: the {all_images[0]} needs a view of every image, but "
                    f"'{intervention_set.name}' has only a share; leave one of the two out."
                )
        self._check_views()
        _check_placebos(self)
        self._check_grids()

    def _check_grids(self) -> None:
        """Refuse grids with an unknown intervention set, or with a placebo without its real set."""
        sets = {chosen.name: chosen for chosen in self.intervention_sets()}
        for predictor, grid in self.sweep.grids.items():
            where = f"sweep.grids.{predictor}.intervention_sets"
            asked = list(grid.intervention_sets or ())
            for name in asked:
                if name not in sets:
                    raise ValueError(f"{where}: '{name}' is not an intervention set; {nearest(name, [*sets])}")
            for name in asked:
                real = {one for one, chosen in sets.items() if chosen.is_real_set_of(sets[name])}
                if sets[name].placebo and not real & set(asked):
                    raise ValueError(f"{where}: '{name}' is a placebo of '{min(real)}'; add that set too.")

    def _check_views(self) -> None:
        """Refuse predictors that need views of images, if an intervention set or the test images have none."""
        across = self._across_sets
        for predictor in self.sweep.predictors:
            for chosen in self.intervention_sets() if predictor.uses_views else ():
                used = self.sweep.uses_set(predictor, chosen.name)
                if used and chosen.kinds and not set(chosen.kinds) & set(self.interventions.by_label()):
                    raise ValueError(
                        f"sweep.intervention_sets: the predictor '{predictor.name}' needs views of images, but "
                        f"'{chosen.name}' has none; add one of interventions.kinds to it."
                    )
            if predictor.looks_at_target_images and across:
                raise ValueError(
                    f"sweep.predictors: '{predictor.name}' uses views of the test images, but those of the variants of "
                    f"{SHIFT_SOURCE} are not embedded; leave it out, or the protocol '{across.name}'."
                )

    def located(self) -> tuple[DatasetSpec, ...]:
        """Return the data sets, with `run.data` as the root of those that have none and need one."""
        return tuple(
            d if d.root is not None or d.is_built or d.is_imported else d.model_copy(update={"root": self.run.data})
            for d in self.datasets
        )

    def _check_strengths(self) -> None:
        """Refuse a search over the strengths of kinds that are not embedded, or over unknown parameters or values."""
        by_label = self.interventions.by_label()
        for label, searched in self.sweep.search.strengths.items() if self.sweep.search else ():
            if label not in by_label:
                problem = f"'{label}' is not among interventions.kinds"
                raise ValueError(f"sweep.search.strengths: {problem}; {nearest(label, list(by_label))}")
            kind = by_label[label]
            if sum(other.name == kind.name for other in by_label.values()) > 1:
                raise ValueError(f"sweep.search.strengths: '{label}' must be the recipe's only kind '{kind.name}'.")
            for name, bounds in searched.items():
                if name not in kind.params:
                    problem = f"'{label}' has no parameter '{name}'"
                    raise ValueError(f"sweep.search.strengths: {problem}; {nearest(name, list(kind.params))}")
                for bound in bounds:
                    try:
                        kind.at_strength({name: bound})
                    except ValidationError as error:
                        reason = sentence(error, type(kind))
                        raise ValueError(f"sweep.search.strengths.{label}: {reason}") from error

    @property
    def _across_sets(self) -> Protocol | None:
        """The protocol across data sets, if the sweep has one."""
        return next((protocol for protocol in self.sweep.protocols if protocol.across_sets), None)

    def protocols_for(self, dataset: str) -> tuple[Protocol, ...]:
        """Return the protocols of a data set; variants of `SHIFT_SOURCE` have none, since they are only test sets."""
        variant = is_variant(dataset)
        if variant and dataset != SHIFT_SOURCE:
            return ()
        return tuple(protocol for protocol in self.sweep.protocols if protocol.takes(variant))

    def clusters_of(self, dataset: str) -> int:
        """Return the number of clusters that replace a data set's source environments; 0 for none."""
        return next(d.clusters for d in self.datasets if d.name == dataset)

    def shifts(self) -> tuple[int, ...]:
        """Return the positions in `datasets` of the data sets on which a protocol across data sets tests."""
        return tuple(i for i, d in enumerate(self.datasets) if is_variant(d.name) and d.name != SHIFT_SOURCE)

    def kinds_for(self, dataset: str) -> tuple[Intervention, ...]:
        """Return the kinds of intervention to embed for a data set; none if it is only a test set."""
        only_tested = self._across_sets is not None and is_variant(dataset) and dataset != SHIFT_SOURCE
        return () if only_tested else self.interventions.kinds

    def view_count(self, dataset: str) -> int:
        """Return the number of embedded views of each image of a data set, including the original."""
        return 1 + self.interventions.view_count(self.kinds_for(dataset))

    def search_space(
        self, dataset: str, projection: Projection, intervention_set: InterventionSet | None
    ) -> dict[str, tuple[float, float]]:
        """Return the search space of a method: the bounds of each parameter that is searched.

        These parameters are lambda and strengths of the set's kinds. Methods with an empty space belong to the grid.
        """
        search = self.sweep.search
        if search is None:
            return {}
        space = {LAMBDA: search.lambdas} if projection.uses_lambda and not projection.own_lambdas else {}
        if intervention_set is None:
            return space
        for label in intervention_set.kinds or [kind.label for kind in self.kinds_for(dataset)]:
            space |= {f"{label}.{name}": bounds for name, bounds in search.strengths.get(label, {}).items()}
        return space

    def lender_of(self, dataset: str, placebo: InterventionSet) -> str | None:
        """Return the name of the data set from which `dataset` borrows C_d; None if there is none.

        Without `placebo.lender`, it is the next data set of the recipe (cyclically) with embedded interventions.
        """
        lenders = [d.name for d in self.datasets if self.kinds_for(d.name)]
        if placebo.lender:
            return placebo.lender if placebo.lender in lenders and placebo.lender != dataset else None
        after = [d.name for d in self.datasets]
        after = after[after.index(dataset) + 1 :] + after[: after.index(dataset)]
        return next((name for name in after if name in lenders), None)

    def sets_for(
        self, dataset: str, predictor: Predictor, projection: Projection, kinds: Collection[str] | None = None
    ) -> tuple[InterventionSet | None, ...]:
        """Return the intervention sets with which a projection and a predictor are fitted on a data set.

        The only item is None if neither of them uses interventions. Placebos are only for methods that take them, and a
        borrowed placebo needs a lender. If a projection uses its set only to scale lambda, only one set is returned:
        the first with the largest share of pairs.

        Args:
            dataset: name of the data set.
            predictor: the predictor.
            projection: the projection.
            kinds: available kinds of the data set, see `InterventionSet.is_among`. Default: all kinds of the recipe.
        """
        if not (projection.uses_interventions or predictor.uses_interventions):
            return (None,)
        asked = tuple(
            chosen
            for chosen in self.intervention_sets()
            if self.sweep.uses_set(predictor, chosen.name) and (kinds is None or chosen.is_among(kinds))
        )
        real = tuple(chosen for chosen in asked if chosen.placebo is None)
        if projection.uses_scale_only and not predictor.uses_interventions:
            return tuple(sorted(real, key=lambda chosen: -chosen.pairs))[:1]
        takes_placebo = projection.takes_placebo or predictor.uses_c_d
        return tuple(
            chosen
            for chosen in asked
            if chosen in real or (takes_placebo and (chosen.placebo != "borrowed" or self.lender_of(dataset, chosen)))
        )

    def intervention_sets(self) -> tuple[InterventionSet, ...]:
        """Return the intervention sets of the sweep; `all_subsets` is expanded, the smallest first."""
        if self.sweep.intervention_sets != "all_subsets":
            return self.sweep.intervention_sets
        labels = list(self.interventions.by_label())
        if not 1 <= 2 ** len(labels) - 1 <= MAX_SUBSETS:
            raise ValueError(f"sweep.intervention_sets: all subsets of {len(labels)} kinds; give one to ten kinds.")
        return tuple(
            InterventionSet(name=" + ".join(kinds), kinds=kinds)
            for size in range(1, len(labels) + 1)
            for kinds in combinations(labels, size)
        )

    def hash(self) -> str:
        """Return the SHA-256 (hex) of the canonical JSON of all keys that can change a number.

        Excluded are the name, `names`, `run`, `sweep.metrics`, `expected`, and the keys that locate the images of a
        data set, which the manifest's fingerprint identifies. Exclude a new key in `hash_of` if it changes no number.
        The precision `auto` counts as float32.
        """
        return hash_of(self.at_precision("float32").model_dump(mode="json"))


def hash_of(content: Mapping[str, Any]) -> str:
    """Return `Recipe.hash` of a recipe in plain data, as run records and published records have it."""
    kept = {key: value for key, value in content.items() if key not in ("name", "names", "run")}
    located = ("root", "layout", "columns", "labels", "expected")
    kept["datasets"] = [{k: v for k, v in one.items() if k not in located} for one in content["datasets"]]
    kept["sweep"] = {key: value for key, value in content["sweep"].items() if key != "metrics"}
    return canonical_hash(kept)


def _check_placebos(recipe: Recipe) -> None:
    """Refuse placebos without a real set, without a method that takes them, or without a data set to borrow from."""
    where, sets = "sweep.intervention_sets", recipe.intervention_sets()
    placebos = [chosen for chosen in sets if chosen.placebo]
    if not placebos:
        return
    name = placebos[0].name
    takers = [projection.takes_placebo for projection in recipe.sweep.all_projections()]
    if not any([*takers, *(predictor.uses_c_d for predictor in recipe.sweep.predictors)]):
        raise ValueError(f"{where}: '{name}' is a placebo for icm, shrinkage and soft_penalty; add one of them.")
    if recipe.sweep.search:
        raise ValueError(f"{where}: '{name}' is a placebo, which searches do not support; leave out sweep.search.")
    for placebo in placebos:
        if not any(real.is_real_set_of(placebo) for real in sets):
            raise ValueError(
                f"{where}: '{placebo.name}' has no real set; add a set with the same kinds, weights and "
                f"pairing, and without placebo."
            )
    _check_lenders(recipe, where, [placebo for placebo in placebos if placebo.placebo == "borrowed"])
    drawn: set[tuple[object, ...]] = set()
    for placebo in placebos:  # sets with the same draws would be the same method
        for one in placebo.drawn() if placebo.placebo != "borrowed" else ():
            key = (placebo.placebo, one.first, placebo.numbered, placebo.kinds, placebo.weights, placebo.pairing)
            if key in drawn:
                raise ValueError(
                    f"{where}: draw {one.first} of '{placebo.placebo}' is repeated in "
                    f"'{placebo.name}'; give it another `first`."
                )
            drawn.add(key)


def _check_lenders(recipe: Recipe, where: str, borrowed: list[InterventionSet]) -> None:
    """Refuse unknown lenders, and several lenders of a data set for the same kinds: rules must not choose one."""
    names = [dataset.name for dataset in recipe.datasets]
    for placebo in borrowed:
        if placebo.lender and placebo.lender not in names:
            raise ValueError(
                f"{where}: '{placebo.lender}', from which '{placebo.name}' borrows, is not a data set of the recipe; "
                f"{nearest(placebo.lender, names)}"
            )
        if not any(recipe.lender_of(name, placebo) for name in names):
            raise ValueError(f"{where}: '{placebo.name}' borrows C_d, but there is no other data set; add a second.")
    for name in names:
        kinds = [(p.kinds, p.weights, p.pairing) for p in borrowed if recipe.lender_of(name, p)]
        if len(set(kinds)) < len(kinds):
            raise ValueError(
                f"{where}: {name} borrows twice for the same kinds, but rules must not choose between lenders; leave "
                f"one of the sets out."
            )


# The settings of a sweep if views or texts are missing: imported embeddings may lack both, and vision towers have no
# texts. `settings_of` yields what remains, and `not_available` names what is left out.
Setting = tuple[Projection, InterventionSet | None]
_LEARNS = " (if it needs no texts, let its class say learns_classes = True)"


def kinds_of(recipe: Recipe, dataset: str, texts: Texts = "any") -> tuple[str, ...]:
    """Return the kinds of pairs of a data set if all its views can be made; text pairs need `texts` "any"."""
    text = [TEXT] if recipe.interventions.text and texts == "any" else []
    return (*dict.fromkeys(kind.label for kind in recipe.kinds_for(dataset)), *text, CROSS)


def settings_of(
    recipe: Recipe, dataset: str, predictor: Predictor, kinds: Collection[str], texts: Texts
) -> Iterator[Setting]:
    """Yield the settings of a predictor: each projection, with each of its intervention sets (None for no set).

    A projection that needs pairs of images and views, of which there are none, is replaced by its variant
    `without_interventions()`, unless the sweep has this variant anyway.
    """
    if not _has_texts(predictor, texts):
        return
    projections = [p for p in recipe.sweep.projections_for(predictor) if texts == "any" or not p.uses_prompts]
    asked = {projection.label for projection in projections}
    for projection in projections:
        if sets := recipe.sets_for(dataset, predictor, projection, kinds):
            yield from ((projection, chosen) for chosen in sets)
        elif recipe.sets_for(dataset, predictor, projection) and not predictor.uses_interventions:
            left = projection.without_interventions()
            if left and (left.label == projection.label or left.label not in asked):
                asked.add(left.label)
                yield left, None


def names_environments(projection: Projection) -> bool:
    """Return whether a projection uses prompts with environments' names, which clusters do not have."""
    return any(prompt.environment is not None for prompt in projection.prompts(Names(("a",), ("b",), ("{}",))))


def _has_texts(predictor: Predictor, texts: Texts) -> bool:
    """Return whether a predictor can be used with a backbone that embeds `texts`.

    The text tower is needed by some predictors ("any"). The others need texts of classes ("classes"), unless they learn
    the classes from images ("none").
    """
    return texts == "any" or (not predictor.uses_text_tower and (texts == "classes" or predictor.learns_classes))


def not_available(recipe: Recipe, dataset: str, kinds: Collection[str], texts: Texts) -> list[str]:
    """Return, in words, the parts of a sweep that are left out because kinds of pairs or texts are missing."""
    absent = [kind for kind in kinds_of(recipe, dataset, texts) if kind not in kinds]
    sets = [chosen.name for chosen in recipe.intervention_sets() if not chosen.is_among(kinds)]
    gone: dict[str, list[str]] = {"projection": [], "predictor": []}
    instead = []
    for predictor in recipe.sweep.predictors:
        left = {projection.label for projection, _ in settings_of(recipe, dataset, predictor, kinds, texts)}
        if not left:
            own = ":" in predictor.name and not _has_texts(predictor, texts) and not predictor.uses_text_tower
            gone["predictor"].append(f"{predictor.label}{_LEARNS if own else ''}")
            continue
        for projection in recipe.sweep.projections_for(predictor):
            bare = projection.without_interventions()
            if projection.label in left:
                continue
            if bare is None or bare.label not in left:
                gone["projection"].append(projection.label)
            else:
                instead.append(f"{bare.label} for {projection.label}")
    words = [_named("view", absent), _named("intervention set", sets)]
    words += [_named(what, names) for what, names in gone.items()]
    return [*filter(None, words), *([f"instead there is {some(dict.fromkeys(instead))}"] if instead else [])]


def _named(what: str, names: Collection[str]) -> str:
    """Return the noun `what` followed by the names, such as "the views a, b". Without names the text is empty."""
    distinct = list(dict.fromkeys(names))
    return f"the {what}{'s' if len(distinct) > 1 else ''} {some(distinct)}" if distinct else ""
