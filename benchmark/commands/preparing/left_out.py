"""What of a recipe a data set under a backbone takes no part in, in a sentence."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from benchmark.recipe.available import names_environments, not_available
from benchmark.recipe.recipe import Recipe

if TYPE_CHECKING:  # reports write records too, and need no Ray
    from benchmark.sweep.subject import Subject


def left_out(recipe: Recipe, subjects: "Sequence[Subject]") -> list[str]:
    """Return a sentence for each subject that takes no part in some of a sweep: why, and in what by name."""
    found = []
    for subject in subjects:
        dataset = subject.manifest.name
        if not recipe.protocols_for(dataset):  # only tested on, as the variants of ImageNet are
            continue
        if words := not_available(recipe, dataset, subject.kinds, subject.facts.texts):
            found.append(f"{subject.key}: {' and '.join(_reasons(recipe, subject))}; left out are {'; '.join(words)}.")
    return found


def nameless(recipe: Recipe) -> list[str]:
    """Return, for each data set with clusters for environments, a sentence on what takes no part there, if any does."""
    named = ", ".join(f"the projection {p.label}" for p in recipe.sweep.all_projections() if names_environments(p))
    sets = [dataset.name for dataset in recipe.datasets if dataset.clusters]
    return [
        f"{name} has clusters for environments, which have no names, so it has no results of what asks for these: "
        f"{named}."
        for name in (sets if named else ())
    ]


def _reasons(recipe: Recipe, subject: "Subject") -> Iterator[str]:
    if subject.facts.texts != "any":
        yield "there are no texts" if subject.facts.texts == "none" else "there are no texts but those of the classes"
    kinds = {kind.label for kind in recipe.kinds_for(subject.manifest.name)}
    if not kinds <= set(subject.kinds):
        yield "not all views were imported"
