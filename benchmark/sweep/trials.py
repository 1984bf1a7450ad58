"""Trials: the units of work of a sweep.

A trial contains everything that shares work for one (data set, backbone, intervention set, projection, normalisation,
predictor, protocol, seed): all holdouts in all folds, their leave-one-domain-out fits, all lambdas, predictor settings
and ranks. `common_columns` in `benchmark/sweep/evaluate.py` writes the specification to rows, and
`benchmark/sweep/work.py` estimates its work.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from benchmark.backbones.facts import Texts
from benchmark.common.plain import canonical_hash
from benchmark.method.arrays import Normalize
from benchmark.method.evaluation.fits import blocks_by_fit, cases_of
from benchmark.method.evaluation.metrics import ACCURACY, BUILT_IN, Metric
from benchmark.method.evaluation.protocols import Holdout, Protocol
from benchmark.method.evaluation.selection import PLAIN, SCORES
from benchmark.method.evaluation.splits import HOLDOUT_FRACTION, IN_FOLDS, Rounding, Split, TestSplit
from benchmark.method.predictors import Predictor
from benchmark.method.subspace import Projection
from benchmark.recipe.recipe import Recipe, kinds_of, names_environments, settings_of
from benchmark.recipe.sets import TEXT, InterventionSet
from benchmark.store.embeddings import ORIGINAL, prompts_file
from benchmark.sweep.identity import component_code, evaluation_code
from benchmark.sweep.pseudo_environments import Clusters
from benchmark.sweep.subject import Subject

MAX_FITS = 1000  # maximum number of fits per trial, lambda and setting; larger trials are divided by holdout
READ = ("pca", "icm", "shrinkage")  # projections with a measured decodability of environments


@dataclass(frozen=True)
class TrialSpec:
    """Specification of a trial, without its subject.

    Attributes:
        protocol: determines environments for fits and for tests.
        test_splits: requested test splits of the held-out environment, as in the recipe; see `Protocol.test_splits`.
        intervention_set: interventions for projection and predictor; None if neither uses interventions.
        projection: estimator of the basis.
        normalize: when embeddings are scaled to unit length.
        predictor: predicts classes inside the subspace.
        seed: seed of the split.
        lambdas: weights of the consistency term; (0.0,) if the projection has none.
        ranks: numbers of directions kept, ascending; only the width D if the projection has no ranks.
        rounding: how half the number of classes is rounded, which gives the number of base classes.
        folds: number of folds; 0 (default) for an 80/20 split.
        fold: in a search, the only tested fold, from 0, validated on the next fold only. None (default): all folds are
            tested; without folds, the 80/20 split is used.
        held_out: name of the only holdout, as in a search; None (default): all holdouts of the protocol.
        space: search space, parameter -> (lower, upper bound); empty (default) for a trial of a grid.
        selection_images: maximum number of images per source and fold for validation and, with slow predictors, for
            fits that only serve model selection. None (default): all images.
        metrics: metrics of scores besides the built-in ones. Default: none.
        metric: metric by which rules select. Default: accuracy.
        train_share: share of the source images that each fit learns from; 1.0 (default) for all.
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
    train_share: float = 1.0

    @property
    def split(self) -> Split:
        """The split, which puts images on sides."""
        return Split(self.seed, self.protocol.halves_apart, self.rounding, self.folds)

    @property
    def reads_environments(self) -> bool:
        """Whether the decodability of environments is measured before and after the projection."""
        order, bound = self.projection.order_name, self.protocol.looks_at_target
        whole = not self.fold and self.train_share == 1
        return whole and self.projection.name in READ and order in (None, "largest") and not bound

    @property
    def turns(self) -> "list[TrialSpec]":
        """One specification per fold; only this one for an 80/20 split or a single fold."""
        alone = self.fold is not None or not self.folds
        return [self] if alone else [replace(self, fold=fold) for fold in range(self.folds)]

    def holdouts(self, environments: Sequence[str]) -> list[Holdout]:
        """Return the holdouts of the trial on a subject with these environments."""
        every = _holdouts_of(self.protocol, tuple(environments), self.test_splits)
        return [holdout for holdout in every if self.held_out in (None, holdout.name)]

    def fit_counts(self, environments: Sequence[str]) -> tuple[int, int, int]:
        """Return three numbers of fits per lambda and setting: only for `lodo`, for `training_domain`, and tested fits.

        A fit for several holdouts or folds counts once. A tested fit that also serves for selection counts as tested.
        """
        holdouts, split = tuple(self.holdouts(environments)), replace(self.split, seed=0)  # equal for all seeds
        return _fit_counts(holdouts, split, self.fold, self.min_sources, self.train_share)

    def sampled(self, images: Collection[int]) -> int | None:
        """Return the number of images per source and fold in fits that only serve selection; None: all images."""
        most = self.selection_images if self.predictor.samples else None
        return most if most and max(images, default=0) > most * (self.folds or 1 + IN_FOLDS) else None

    def clusters(self, environments: Sequence[str], count: int) -> Clusters:
        """Return the specification of `count` clusters that replace the trial's source environments."""
        sources = {source for holdout in self.holdouts(environments) for source in holdout.sources}
        return Clusters(count, self.seed, tuple(e for i, e in enumerate(environments) if i not in sources))

    @property
    def settings(self) -> tuple[Projection, ...]:
        """Settings of the projection that rules choose among; for a placebo only settings that depend on C_d."""
        of_placebo = self.intervention_set is not None and self.intervention_set.placebo is not None
        every = not of_placebo or self.predictor.uses_c_d
        return tuple(s for s in self.projection.settings if every or s.takes_placebo)

    @property
    def min_sources(self) -> int:
        """Minimum number of source environments with which at least one setting can be fitted."""
        return min(setting.min_sources for setting in self.settings)

    def row_count(self, environments: Sequence[str]) -> int:
        """Return the number of result rows, or an upper bound if draws of a placebo are numbered."""
        chosen = self.intervention_set
        if chosen is None or not chosen.numbered:
            return len(self.lambdas) * self.rows(environments)
        tests = len(self.protocol.test_splits(self.test_splits)) * len(self.protocol.class_halves)
        fitted = sum(len(holdout.sources) >= self.min_sources for holdout in self.holdouts(environments))
        return chosen.draws * len(self.turns) * fitted * tests * len(SCORES)

    def prediction_count(self, images: Mapping[str, int]) -> int:
        """Return an upper bound of the number of predictions that rows keep; 0 for placebos with numbered draws.

        Each rule may select one row, and two more for each further setting of the projection, see `evaluate.answered`.
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
        """Return the number of result rows per lambda on a subject with these environments."""
        splits, holdouts = self.protocol.test_splits(self.test_splits), self.holdouts(environments)
        fitted = sum(len(holdout.sources) >= s.min_sources for s in self.settings for holdout in holdouts)
        each = len(self.turns) * len(splits) * len(self.protocol.class_halves)
        return fitted * each * len(self.predictor.settings)

    def content(self) -> dict[str, Any]:
        """Return, as plain data, everything that distinguishes the trial from others on the same subject.

        It is part of the trial id, so a new field that changes rows must be added here.
        """
        intervention_set = self.intervention_set
        names = ("normalize", "seed", "lambdas", "ranks", "rounding", "held_out", "selection_images")
        return {name: getattr(self, name) for name in names} | {
            "protocol": self.protocol.name,
            "test_splits": list(self.protocol.test_splits(self.test_splits)),
            "intervention_set": intervention_set.model_dump(mode="json") if intervention_set else None,
            "projection": self.projection.model_dump(mode="json"),
            "predictor": self.predictor.model_dump(mode="json"),
            "folds": [self.folds, self.fold],
            "train_share": self.train_share,
            "metric": self.metric.model_dump(mode="json"),
            "metrics": [metric.model_dump(mode="json") for metric in self.metrics],
            "code": [
                evaluation_code(),
                *map(component_code, (self.protocol, self.projection, self.predictor, *self.metrics, self.metric)),
            ],
        }

    def words(self) -> str:
        """Return a description of the trial without its subject."""
        intervention_set = f", {self.intervention_set.name}" if self.intervention_set else ""
        held_out = f" without {self.held_out}" if self.held_out else ""
        lambda_ = f", lambda {self.lambdas[0]:g}" if self.projection.uses_lambda and len(self.lambdas) == 1 else ""
        return (
            f"{self.projection.label}{intervention_set}{lambda_} + {self.predictor.label}, normalize {self.normalize}, "
            f"{self.protocol.name}{held_out}, seed {self.seed}{'' if self.fold is None else f', fold {self.fold}'}"
            f"{f', {self.train_share:.0%} of the source images' if self.train_share < 1 else ''}"
        )


@dataclass(frozen=True)
class Trial:
    """Unit of work of a sweep: a specification, applied to a subject.

    Attributes:
        spec: the specification.
        subject: the data set under a backbone.
        variants: further subjects, which a protocol across data sets tests. Default: none.
        recipe_hash: hash of the recipe. It is not part of the trial id. Default: empty.
        lender: for a `borrowed` placebo, the data set under the same backbone that lends its C_d; None (default)
            otherwise.
    """

    spec: TrialSpec
    subject: Subject
    variants: tuple[Subject, ...] = ()
    recipe_hash: str = ""
    lender: Subject | None = None

    @cached_property
    def id(self) -> str:
        """The trial id: a hash of everything that the trial's rows depend on."""
        subject, lender, prompts = self.subject, self.lender, self.subject.prompts_of(self.spec.projection)

        def labels(s: Subject) -> tuple[str, ...]:  # a set without kinds has all kinds of each data set
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
            "texts": subject.texts,  # file name with a hash of prompts, templates and class names
            "prompts": prompts_file(subject.facts, prompts) if prompts else None,
            "holdouts": list(map(repr, self.holdouts)),
        }
        content |= {"clusters": asdict(self.clusters)} if self.clusters else {}
        return canonical_hash(content)[:32]

    @cached_property
    def holdouts(self) -> list[Holdout]:
        """The holdouts of the trial."""
        return self.spec.holdouts(self.environments)

    @cached_property
    def clusters(self) -> Clusters | None:
        """The clusters that replace the source environments; None: the data set's environments are used."""
        count = self.subject.clusters
        return self.spec.clusters(self.subject.manifest.environments, count) if count else None

    @cached_property
    def images(self) -> str:
        """Hash of the image list that positions in rows refer to: one data set, or readable images of several sets."""
        subjects = (self.subject, *self.variants)
        of_each = [[s.manifest.fingerprint, s.unreadable if self.variants else ""] for s in subjects]
        return canonical_hash(of_each)[:32]

    @property
    def samples(self) -> bool:
        """Whether fits that only serve selection use a subsample, as there are many images and fits are slow."""
        return self.spec.sampled(self.subject.manifest.counts.values()) is not None

    @property
    def shares(self) -> tuple[object, ...]:
        """Key that is equal for trials that may share classifiers of plain prediction."""
        spec = self.spec
        views = spec.intervention_set if spec.predictor.uses_views else None
        subjects = [(s.key, s.view_draw if views else 0) for s in (self.subject, *self.variants)]
        fold, most = -1 if spec.fold is None else spec.fold, spec.selection_images or 0
        return str([*subjects, self.clusters]), spec.split, fold, spec.normalize, most, repr((views, spec.metric))

    @cached_property
    def sums(self) -> tuple[object, ...]:
        """Key that is equal for trials that are fitted from the same moments."""
        spec, subject = self.spec, self.subject
        pairs = [pairing.name for pairing in subject.pairings_of(spec.intervention_set)]
        asked = repr(subject.prompts_of(spec.projection)), spec.projection.uses_products, spec.protocol.open_class
        seen = subject.key, subject.view_draw, self.clusters
        images = *seen, subject.text_pairs or "", repr(spec.intervention_set)
        fold = -1 if spec.fold is None else spec.fold
        return (str([*images, *pairs]), spec.split, fold, spec.normalize, spec.train_share, *asked)

    @property
    def environments(self) -> list[str]:
        """Names of the protocol's environments: environments of the data set, clusters, or whole data sets."""
        if self.clusters:
            return self.clusters.environments
        names = [s.manifest.name for s in (self.subject, *self.variants)]
        return names if self.spec.protocol.across_sets else self.subject.manifest.environments

    @property
    def label(self) -> str:
        """A description of the trial, for failures and progress."""
        clusters = f", {self.subject.clusters} clusters" if self.subject.clusters else ""
        return f"{self.subject.key}{clusters}: {self.spec.words()}"

    @property
    def interventions(self) -> str | None:
        """The intervention set with all parameters, as JSON (for a placebo, the real set); None without a set."""
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
        """Number of the draw of random views that the projection uses; 0 if its views are not random."""
        labels = self.subject.labels_of(self.spec.intervention_set) if self.spec.intervention_set else ()
        kinds = [view.intervention for view in self.subject.seen if view.intervention and view.label in labels]
        return self.subject.view_draw if any(kind.is_random for kind in kinds) else 0


# Trials of many seeds differ in the seed alone.
@lru_cache(maxsize=1024)
def _holdouts_of(
    protocol: Protocol, environments: tuple[str, ...], test_splits: tuple[TestSplit, ...]
) -> tuple[Holdout, ...]:
    return tuple(protocol.holdouts(environments, test_splits))


@lru_cache(maxsize=1024)
def _fit_counts(
    holdouts: tuple[Holdout, ...], split: Split, fold: int | None, min_sources: int, train_share: float
) -> tuple[int, int, int]:
    cases = cases_of(holdouts, split, False, fold, min_sources, train_share)
    tested = {case.tested for case in cases}
    chosen = blocks_by_fit(pair for case in cases for pair in case.training_domain).keys() - tested
    left_out = blocks_by_fit(pair for case in cases for pair in case.lodo).keys() - tested - chosen
    return len(left_out), len(chosen), len(tested)


def trial_specs(
    recipe: Recipe, dataset: str, dim: int, kinds: Collection[str] | None = None, texts: Texts = "any"
) -> list[TrialSpec]:
    """Return the specifications of a recipe's trials on one of its data sets.

    Projections without interventions are not repeated for each set, and those without lambda not for each lambda.
    Protocols that use the target have no placebos. Many draws of a placebo are divided into several trials. In a
    search, specifications have a space and no lambdas. `kinds`: available kinds of pairs; default: all kinds in the
    recipe.
    """
    sweep, clusters, metric = recipe.sweep, recipe.clusters_of(dataset), recipe.chosen_by(dataset)
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
            metric=metric,
            train_share=share,
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
        for share in sweep.train_shares
        if share == 1 or _has_learning_curve(projection, intervention_set, predictor)
    ]


def _has_learning_curve(projection: Projection, chosen: InterventionSet | None, predictor: Predictor) -> bool:
    """Return whether the fit depends on the share of the source images, and plain prediction does not."""
    fitted = projection.name not in (PLAIN, "random") and not (predictor.uses_training_images or predictor.uses_c_d)
    return fitted and not (chosen and (chosen.placebo or chosen.pairs < 1))


def unfolded(
    recipe: Recipe,
    dataset: str,
    dim: int,
    images: Mapping[str, int],
    kinds: Collection[str] | None = None,
    texts: Texts = "any",
) -> Iterator[tuple[TrialSpec, Mapping[str, int]]]:
    """Yield the specifications of `trial_specs`, each with a mapping environment -> number of images.

    A specification is divided into one for each holdout in two cases. The first is that source environments are
    clustered, since each holdout then has its own clusters. The second is that a trial, except in a search, would have
    more than `MAX_FITS` fits, since each fit then serves at most two holdouts, so little work is shared.
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
    """Return all trials of a recipe, ordered by subject. A trial with a space stands for all trials of a search.

    Trials that cannot be fitted are left out, such as differences of environment means with a single source. Trials
    whose lender of C_d lacks their kinds of intervention are left out, too.
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
