"""Trials: the units of work of a sweep.

A trial holds what shares work: all holdouts of a protocol in all folds, their leave-one-domain-out fits, all lambdas,
settings of the predictor and ranks of one (data set, backbone, intervention set, projection, normalisation, predictor,
protocol, seed).
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from benchmark.backbones.facts import Texts
from benchmark.common.plain import canonical_hash
from benchmark.method.arrays import Normalize
from benchmark.method.evaluation.fits import blocks_by_fit, cases_of
from benchmark.method.evaluation.metrics import ACCURACY, BUILT_IN, Metric
from benchmark.method.evaluation.protocols import Holdout, Protocol
from benchmark.method.evaluation.selection import SCORES
from benchmark.method.evaluation.splits import HOLDOUT_FRACTION, IN_FOLDS, Rounding, Split, TestSplit
from benchmark.method.predictors import Predictor
from benchmark.method.subspace import Projection
from benchmark.recipe.recipe import Recipe, kinds_of, names_environments, settings_of
from benchmark.recipe.sets import TEXT, InterventionSet
from benchmark.store.embeddings import ORIGINAL, prompts_file
from benchmark.sweep.identity import component_code, evaluation_code
from benchmark.sweep.pseudo_environments import Clusters
from benchmark.sweep.subject import Subject

MAX_FITS = 1000  # of a trial for each lambda and setting: one of more is divided by holdout
READ = ("pca", "icm", "shrinkage")  # projections after which it is looked at how well environments can be read


@dataclass(frozen=True)
class TrialSpec:
    """What a recipe says of one trial, whatever the subject.

    Attributes:
        protocol: what is fitted on which environments, and tested on which.
        test_splits: of what is held out, as the recipe asks for them; see `Protocol.test_splits`.
        intervention_set: which views enter the consistency term, and which a predictor gets; None where neither looks
            at an intervention.
        projection: how a basis is estimated.
        normalize: where embeddings are scaled to unit length.
        predictor: how classes are predicted inside the subspace.
        seed: of the split.
        lambdas: weights of the consistency term; (0.0,) where the projection has none.
        ranks: numbers of directions kept, ascending: where only the whole space makes sense, its width.
        rounding: of half the number of classes, which is the number of base classes.
        folds: number of folds; 0 for an 80/20 split.
        fold: the only tested fold of a search, from 0, validated on the next one alone. None (default) for all folds,
            and for an 80/20 split.
        held_out: the only holdout to be made, or None for all of the protocol: a search looks at one at a time.
        space: what a search looks for, parameter -> (low, high); empty for a trial of the grid.
        selection_images: maximum number of validation images of a source and fold, and of training images in fits that
            only serve selection, for predictors with `samples`; None for all.
        metrics: of scores, beside the built-in ones; none by default.
    """

    protocol: Protocol
    test_splits: tuple[TestSplit, ...]
    intervention_set: InterventionSet | None
    projection: Projection
    normalize: Normalize
    predictor: Predictor
    seed: int
    lambdas: tuple[float, ...]
    ranks: tuple[int, ...]
    rounding: Rounding = "ceil"
    folds: int = 0
    fold: int | None = None
    held_out: str | None = None
    space: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    selection_images: int | None = None
    metrics: tuple[Metric, ...] = ()
    metric: Metric = ACCURACY

    @property
    def split(self) -> Split:
        """How images are cut into sides."""
        return Split(self.seed, self.protocol.halves_apart, self.rounding, self.folds)

    @property
    def reads_environments(self) -> bool:
        """Whether it is looked at how well environments can be read before and after the projection."""
        order, bound = self.projection.order_name, self.protocol.looks_at_target
        return not self.fold and self.projection.name in READ and order in (None, "largest") and not bound

    @property
    def turns(self) -> "list[TrialSpec]":
        """The same with each of its folds as the only one; itself for an 80/20 split."""
        alone = self.fold is not None or not self.folds
        return [self] if alone else [replace(self, fold=fold) for fold in range(self.folds)]

    def holdouts(self, environments: Sequence[str]) -> list[Holdout]:
        """Return the holdouts to be made, for a subject with these environments."""
        every = self.protocol.holdouts(environments, self.test_splits)
        return [holdout for holdout in every if self.held_out in (None, holdout.name)]

    def fit_counts(self, environments: Sequence[str]) -> tuple[int, int, int]:
        """Return how many fits each lambda and setting takes: for `lodo`, for `training_domain`, and tested ones.

        One that serves several holdouts or folds is counted once, and one that is tested and chooses among the tested.
        """
        holdouts, least = self.holdouts(environments), self.min_sources
        cases = cases_of(holdouts, self.split, grouped=False, fold=self.fold, min_sources=least)
        tested = {case.tested for case in cases}
        chosen = blocks_by_fit(pair for case in cases for pair in case.training_domain).keys() - tested
        left_out = blocks_by_fit(pair for case in cases for pair in case.lodo).keys() - tested - chosen
        return len(left_out), len(chosen), len(tested)

    def sampled(self, images: Collection[int]) -> int | None:
        """Return on how many of a source's `images` and fold fits that only serve a choice are made; None for all."""
        most = self.selection_images if self.predictor.samples else None
        return most if most and max(images, default=0) > most * (self.folds or 1 + IN_FOLDS) else None

    def clusters(self, environments: Sequence[str], count: int) -> Clusters:
        """Return the clusters of a trial whose source environments are clustered."""
        sources = {source for holdout in self.holdouts(environments) for source in holdout.sources}
        return Clusters(count, self.seed, tuple(e for i, e in enumerate(environments) if i not in sources))

    @property
    def settings(self) -> tuple[Projection, ...]:
        """What the rule chooses among beside lambda: for a placebo only what it reaches, here or in the predictor."""
        of_placebo = self.intervention_set is not None and self.intervention_set.placebo is not None
        every = not of_placebo or self.predictor.uses_c_d
        return tuple(s for s in self.projection.settings if every or s.takes_placebo)

    @property
    def min_sources(self) -> int:
        """From how many source environments on one of the settings can be fitted."""
        return min(setting.min_sources for setting in self.settings)

    def row_count(self, environments: Sequence[str]) -> int:
        """Return how many result rows there are; of numbered placebos at most, since what no rule picks is left out."""
        chosen = self.intervention_set
        if chosen is None or not chosen.numbered:
            return len(self.lambdas) * self.rows(environments)
        tests = len(self.protocol.test_splits(self.test_splits)) * len(self.protocol.class_halves)
        fitted = sum(len(holdout.sources) >= self.min_sources for holdout in self.holdouts(environments))
        return chosen.draws * len(self.turns) * fitted * tests * len(SCORES)

    def prediction_count(self, images: Mapping[str, int]) -> int:
        """Return how many predictions the rows keep, about and at most: of numbered placebos they keep none.

        Each rule may pick one row of all, and for each further setting of the projection two: see `evaluate.answered`.
        """
        if self.intervention_set and self.intervention_set.numbered:
            return 0
        out_fold = len(self.turns) / max(1, self.folds)
        shares = {"out_20": HOLDOUT_FRACTION, "in_80": 1 - HOLDOUT_FRACTION, "out_fold": out_fold}
        halves = {"base": 0.5, "new": 0.5}
        sizes = list(images.values())
        tested = sum(
            sizes[environment] * shares.get(test.split, 1.0) * halves.get(test.half, 1.0)
            for holdout in self.holdouts(list(images))
            if len(holdout.sources) >= self.min_sources
            for test in holdout.tests
            for environment in test.environments
        )
        return round(tested * len(SCORES) * (2 * len(self.settings) - 1))

    def rows(self, environments: Sequence[str]) -> int:
        """Return how many result rows each lambda gives, for a subject with these environments."""
        splits, holdouts = self.protocol.test_splits(self.test_splits), self.holdouts(environments)
        fitted = sum(len(holdout.sources) >= s.min_sources for s in self.settings for holdout in holdouts)
        each = len(self.turns) * len(splits) * len(self.protocol.class_halves)
        return fitted * each * len(self.predictor.settings)

    def content(self) -> dict[str, Any]:
        """Return all that distinguishes the trial from others of the same subject, in plain data."""
        intervention_set = self.intervention_set
        names = ("normalize", "seed", "lambdas", "ranks", "rounding", "held_out", "selection_images")
        return {name: getattr(self, name) for name in names} | {
            "protocol": self.protocol.name,
            "test_splits": list(self.protocol.test_splits(self.test_splits)),
            "intervention_set": intervention_set.model_dump(mode="json") if intervention_set else None,
            "projection": self.projection.model_dump(mode="json"),
            "predictor": self.predictor.model_dump(mode="json"),
            "folds": [self.folds, self.fold],
            "metric": self.metric.model_dump(mode="json"),
            "metrics": [metric.model_dump(mode="json") for metric in self.metrics],
            "code": [
                evaluation_code(),
                *map(component_code, (self.protocol, self.projection, self.predictor, *self.metrics, self.metric)),
            ],
        }

    def words(self) -> str:
        """Return the trial in words, without its subject."""
        intervention_set = f", {self.intervention_set.name}" if self.intervention_set else ""
        held_out = f" without {self.held_out}" if self.held_out else ""
        lambda_ = f", lambda {self.lambdas[0]:g}" if self.projection.uses_lambda and len(self.lambdas) == 1 else ""
        return (
            f"{self.projection.label}{intervention_set}{lambda_} + {self.predictor.label}, normalize {self.normalize}, "
            f"{self.protocol.name}{held_out}, seed {self.seed}{'' if self.fold is None else f', fold {self.fold}'}"
        )


@dataclass(frozen=True)
class Trial:
    """One unit of work of a sweep: a spec on a subject.

    Attributes:
        variants: further subjects, on which a protocol across data sets tests.
        recipe_hash: of the recipe that asked for it; no part of the id.
        lender: the data set under the same backbone whose C_d is borrowed; None where none is.
    """

    spec: TrialSpec
    subject: Subject
    variants: tuple[Subject, ...] = ()
    recipe_hash: str = ""
    lender: Subject | None = None

    @cached_property
    def id(self) -> str:
        """Hash of everything that the trial's rows depend on."""
        subject, lender, prompts = self.subject, self.lender, self.subject.prompts_of(self.spec.projection)

        def labels(s: Subject) -> tuple[str, ...]:  # a set of all kinds has those of each data set
            return s.labels_of(self.spec.intervention_set) if self.spec.intervention_set else ()

        def seen(s: Subject) -> list[dict[str, Any]]:
            return [view.depends_on for view in s.seen if view.label in (ORIGINAL, *labels(s))]

        content = {
            **self.spec.content(),
            "datasets": [
                [s.manifest.name, s.manifest.fingerprint, s.unreadable, s.views[0].depends_on]
                for s in (subject, *self.variants)
            ],
            "backbone": subject.facts.label,
            "logit_scale": subject.facts.logit_scale,
            "views": seen(subject),
            "lender": [lender.manifest.fingerprint, lender.unreadable, seen(lender)] if lender else None,
            "text_pairs": subject.text_pairs if TEXT in labels(subject) else None,
            "texts": subject.texts,  # the hash of the prompts, templates and class names
            "prompts": prompts_file(subject.facts, prompts) if prompts else None,
            "holdouts": [asdict(holdout) for holdout in self.holdouts],
        }
        content |= {"clusters": asdict(self.clusters)} if self.clusters else {}
        return canonical_hash(content)[:32]

    @cached_property
    def holdouts(self) -> list[Holdout]:
        """The holdouts to be made."""
        return self.spec.holdouts(self.environments)

    @cached_property
    def clusters(self) -> Clusters | None:
        """The clusters in the place of the source environments; None where these are the data set's own."""
        count = self.subject.clusters
        return self.spec.clusters(self.subject.manifest.environments, count) if count else None

    @cached_property
    def images(self) -> str:
        """Hash of the list of images whose positions its rows name: a data set, or what can be read of several."""
        subjects = (self.subject, *self.variants)
        of_each = [[s.manifest.fingerprint, s.unreadable if self.variants else ""] for s in subjects]
        return canonical_hash(of_each)[:32]

    @property
    def samples(self) -> bool:
        """Whether fits that only serve a choice are made on some of the images: these are many, and fits take long."""
        return self.spec.sampled(self.subject.manifest.counts.values()) is not None

    @property
    def shares(self) -> tuple[object, ...]:
        """What trials have in common that may share classifiers of the plain space."""
        spec = self.spec
        views = spec.intervention_set if spec.predictor.uses_views else None
        subjects = [(s.key, s.view_draw if views else 0) for s in (self.subject, *self.variants)]
        fold, most = -1 if spec.fold is None else spec.fold, spec.selection_images or 0
        return str([*subjects, self.clusters]), spec.split, fold, spec.normalize, most, repr((views, spec.metric))

    @cached_property
    def sums(self) -> tuple[object, ...]:
        """What trials have in common that are fitted from the same moments."""
        spec, subject = self.spec, self.subject
        pairs = [pairing.name for pairing in subject.pairings_of(spec.intervention_set)]
        asked = repr(subject.prompts_of(spec.projection)), spec.projection.uses_products
        seen = subject.key, subject.view_draw, self.clusters
        images = *seen, subject.text_pairs or "", repr(spec.intervention_set)
        fold = -1 if spec.fold is None else spec.fold
        return (str([*images, *pairs]), spec.split, fold, spec.normalize, *asked)

    @property
    def environments(self) -> list[str]:
        """Names of the environments that the protocol sees: those of the data set, clusters, or whole data sets."""
        if self.clusters:
            return self.clusters.environments
        names = [s.manifest.name for s in (self.subject, *self.variants)]
        return names if self.spec.protocol.across_sets else self.subject.manifest.environments

    @property
    def label(self) -> str:
        """The trial in words, for the list of those that failed and for whoever watches."""
        clusters = f", {self.subject.clusters} clusters" if self.subject.clusters else ""
        return f"{self.subject.key}{clusters}: {self.spec.words()}"

    @property
    def interventions(self) -> str | None:
        """The intervention set, of a placebo its real one, with all parameters, as JSON; None where there is none."""
        intervention_set, spec = self.spec.intervention_set, self.subject.interventions
        if intervention_set is None:
            return None
        labels = self.subject.labels_of(intervention_set)
        by_label = {view.label: view.intervention for view in self.subject.seen if view.intervention}
        kinds = [by_label[label].model_dump(mode="json") if label in by_label else {"name": label} for label in labels]
        text = spec.text.model_dump(mode="json") if spec.text and TEXT in labels else None
        weights, pairing = intervention_set.weights, intervention_set.pairing
        content: dict[str, object] = {"kinds": kinds, "weights": weights, "pairing": pairing, "text": text}
        content |= {"seed": spec.seed + self.view_draw, "apply_at": spec.apply_at}
        return json.dumps(content)

    @property
    def view_draw(self) -> int:
        """Which draw of views the projection sees; 0 where it sees none that is drawn."""
        labels = self.subject.labels_of(self.spec.intervention_set) if self.spec.intervention_set else ()
        kinds = [view.intervention for view in self.subject.seen if view.intervention and view.label in labels]
        return self.subject.view_draw if any(kind.is_random for kind in kinds) else 0


def trial_specs(
    recipe: Recipe, dataset: str, dim: int, kinds: Collection[str] | None = None, texts: Texts = "any"
) -> list[TrialSpec]:
    """Return what a recipe asks for on one of its data sets: this unfolds its sweep.

    What looks at no intervention is not repeated for each set, and what has no lambda not for each lambda.
    A bound that looks at what is tested has no placebos, and many draws of one are several trials. What is searched
    comes with its space and without lambdas. By default there are all `kinds` of pairs of the recipe.
    """
    sweep, clusters = recipe.sweep, recipe.clusters_of(dataset)
    metrics = tuple(one for one in recipe.metrics if one.needs == "scores" and one not in BUILT_IN)
    kinds = kinds_of(recipe, dataset, texts) if kinds is None else kinds
    return [
        TrialSpec(
            protocol=protocol,
            test_splits=sweep.test_splits,
            intervention_set=intervention_set,
            projection=projection,
            normalize=normalize,
            predictor=predictor,
            seed=seed,
            lambdas=() if space else sweep.lambdas_for(predictor, projection),
            ranks=(dim,) if projection.full_rank_only else sweep.ranks_for(dim, predictor),
            rounding=(sweep.base_classes or protocol.rounding) if protocol.open_class else "ceil",
            folds=sweep.folds or 0,
            space=space,
            selection_images=sweep.selection_images,
            metrics=metrics,
            metric=recipe.chosen_by(dataset),
        )
        for protocol in recipe.protocols_for(dataset)
        for predictor in sweep.predictors
        for projection, chosen in settings_of(recipe, dataset, predictor, kinds, texts)
        if not (clusters and names_environments(projection))
        and not (chosen and chosen.placebo and protocol.looks_at_target)
        for intervention_set in ((None,) if chosen is None else chosen.in_trials())
        for space in (recipe.search_space(dataset, projection, intervention_set),)
        for normalize in sweep.normalize
        for seed in sweep.seeds
    ]


def unfolded(
    recipe: Recipe,
    dataset: str,
    dim: int,
    images: Mapping[str, int],
    kinds: Collection[str] | None = None,
    texts: Texts = "any",
) -> Iterator[tuple[TrialSpec, Mapping[str, int]]]:
    """Yield what `trial_specs` returns, each with the environments that it sees and the number of images of each.

    Where source environments are clustered there is one for each holdout, whose sources have clusters of their own; and
    where one trial would make more than `MAX_FITS` fits, each of which then serves at most two holdouts.
    """
    environments, count = list(images), recipe.clusters_of(dataset)
    for spec in trial_specs(recipe, dataset, dim, kinds, texts):
        if not count and (spec.space or sum(spec.fit_counts(environments)) <= MAX_FITS):
            yield spec, images
            continue
        for holdout in spec.holdouts(environments):
            one = replace(spec, held_out=holdout.name)
            yield one, one.clusters(environments, count).sizes(images) if count else images


def trials_of(recipe: Recipe, subjects: Sequence[Subject]) -> list[Trial]:
    """Return every trial of a recipe, subject by subject; those with a space stand for the trials of a search.

    None where nothing can be fitted, since with one source there are no environment means that differ, nor where the
    lender of a C_d lacks its kinds.
    """
    count, digest, seeds = len(recipe.datasets), recipe.hash(), recipe.sweep.seeds
    names = [dataset.name for dataset in recipe.datasets]
    variants = {first: tuple(subjects[first + i] for i in recipe.shifts()) for first in range(0, len(subjects), count)}
    trials = []
    for i, subject in enumerate(subjects):
        name, facts, counts = subject.manifest.name, subject.facts, subject.manifest.counts
        for spec, _ in unfolded(recipe, name, facts.dim, counts, subject.kinds, facts.texts):
            number, chosen, others = seeds.index(spec.seed), spec.intervention_set, variants[i - i % count]
            named = recipe.lender_of(names[i % count], chosen) if chosen and chosen.placebo == "borrowed" else None
            lender = subjects[i - i % count + names.index(named)].at_draw(number) if named else None
            of_spec = others if spec.protocol.across_sets else ()
            trial = Trial(spec, subject.at_draw(number), of_spec, digest, lender)
            can_borrow = not (lender and chosen) or chosen.is_among(lender.kinds)
            if can_borrow and spec.rows(trial.environments) > 0:
                trials.append(trial)
    return trials
