"""Which trials one worker does in a row: to start one takes Tune longer than a small trial does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.recipe.specs import RunSpec
from benchmark.sweep.trials import Trial
from benchmark.sweep.work import works_of

# Operations, see `sweep.work`: what a batch has at least where there is more to do, some three seconds of a core; and
# what lies around each trial, however small it is: reading moments, writing rows.
ENOUGH, AROUND = 4e10, 4e8


@dataclass(frozen=True)
class Batch:
    """Trials next to each other in a list.

    Attributes:
        first: position of the first.
        count: number of trials.
    """

    first: int
    count: int

    def of(self, trials: Sequence[Trial]) -> Sequence[Trial]:
        """Return the trials of the batch."""
        return trials[self.first : self.first + self.count]

    def config(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """Return what Tune and loggers are told of the batch."""
        others = f", and {self.count - 1} more" if self.count > 1 else ""
        return {"number": self.first, "count": self.count, "label": trials[self.first].label + others}

    @classmethod
    def named(cls, config: dict[str, Any]) -> "Batch":
        """Return the batch that `config` tells of."""
        return cls(config["number"], config["count"])


def one_by_one(trials: Sequence[Trial]) -> list[Batch]:
    """Return a batch for each trial."""
    return [Batch(number, 1) for number in range(len(trials))]


def batches_of(trials: Sequence[Trial], options: RunSpec, cores: float, gpus: int) -> list[Batch]:
    """Return trials in batches, the largest batch first, so that none is left over when all others are done.

    Small trials are put together, and so are trials with folds that share decompositions or classifiers of the plain
    space, which are cached in a worker; a batch is at most what falls to each core. Loggers have an entry for each of
    Tune's trials: with any there is a batch for each trial.

    Args:
        trials: next to each other those that share most.
        options: what a trial may take, and which loggers follow.
        cores: of the cluster.
        gpus: number of GPUs of the cluster.
    """
    if options.loggers:
        return one_by_one(trials)
    works = [AROUND + work for work in works_of(trials)]
    share = sum(works) * options.cpus_per_trial / max(1.0, cores)
    batches: list[Batch] = []
    held: list[float] = []  # work of each batch
    asked: dict[str, float] = {}
    for number, (trial, work) in enumerate(zip(trials, works, strict=True)):
        resources = resources_of(trial, options, gpus)
        most = share if batches and _share_caches(trials[number - 1], trial) else min(ENOUGH, share)
        if not batches or held[-1] + work > most or resources != asked:
            batches.append(Batch(number, 0))
            held.append(0.0)
            asked = resources
        batches[-1] = Batch(batches[-1].first, batches[-1].count + 1)
        held[-1] += work
    return [batches[i] for i in sorted(range(len(batches)), key=lambda i: -held[i])]


def _share_caches(one: Trial, other: Trial) -> bool:
    """Say whether trials with folds share moments, or learn from the same images."""
    learn = one.spec.predictor.uses_training_images and other.spec.predictor.uses_training_images
    same = one.shares == other.shares and one.spec.protocol == other.spec.protocol
    return bool(one.spec.folds) and same and (learn or one.sums == other.sums)


def resources_of(trial: Trial, options: RunSpec, gpus: int) -> dict[str, float]:
    """Return what a trial reserves, on a cluster with so many GPUs."""
    asked = options.gpus_per_trial
    return {"cpu": options.cpus_per_trial, "gpu": float(gpus > 0 and trial.samples) if asked == "auto" else asked}
