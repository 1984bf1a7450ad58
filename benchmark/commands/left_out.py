"""What of a recipe a data set under a backbone takes no part in, in a sentence."""

from collections.abc import Iterator, Sequence

from benchmark.recipe.available import not_available
from benchmark.recipe.recipe import Recipe
from benchmark.sweep.subject import Subject


def left_out(recipe: Recipe, subjects: Sequence[Subject]) -> list[str]:
    """Return a sentence for each subject that takes no part in some of a sweep: why, and in what by name."""
    found = []
    for subject in subjects:
        dataset = subject.manifest.name
        if not recipe.protocols_for(dataset):  # only tested on, as the variants of ImageNet are
            continue
        if words := not_available(recipe, dataset, subject.kinds, subject.facts.texts):
            found.append(f"{subject.key}: {' and '.join(_reasons(recipe, subject))}; left out are {'; '.join(words)}.")
    return found


def _reasons(recipe: Recipe, subject: Subject) -> Iterator[str]:
    if subject.facts.texts != "any":
        yield "there are no texts" if subject.facts.texts == "none" else "there are no texts but those of the classes"
    kinds = {kind.label for kind in recipe.kinds_for(subject.manifest.name)}
    if not kinds <= set(subject.kinds):
        yield "not all views were imported"
