"""The pairs of texts that a recipe asks for, with classes and images called as the data set calls them."""

from dataclasses import replace

from benchmark.commands.preparing.text_files import read_text_pairs
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import Manifest
from benchmark.method.evaluation.splits import base_classes
from benchmark.method.interventions.prompt_edits import edited_pairs
from benchmark.method.interventions.text import TextPair, template_pairs
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.sets import TEXT


def text_pairs_of(recipe: Recipe, manifest: Manifest) -> list[TextPair]:
    """Return the pairs of texts of a recipe for one data set: of its file, of templates or edits; none by default.

    Classes are named as in `manifest.classes`, if they are among these.

    Raises:
        IcmBenchError: the file cannot be read, more pairs are asked for than the templates give, or a protocol with
            new classes could not do with them.
    """
    spec = recipe.interventions.text
    if spec is None:
        return []
    spelt = {name.replace("_", " "): name for name in manifest.classes}
    names = {**dict(zip(manifest.prompt_names, manifest.classes, strict=True)), **spelt}
    if spec.pairs:
        read = _with_image_ids(read_text_pairs(spec.pairs, manifest.name), manifest, spec.pairs)
        pairs = [replace(pair, class_name=names.get(pair.class_name or "", pair.class_name)) for pair in read]
        _check_classes(recipe, manifest, pairs, spec.pairs)
        return pairs
    # Two classes of ImageNet are called "missile": their pairs are the same, and are made once. They are of the later
    # class, so that no fit on base classes sees what a new one is called.
    called = list(dict.fromkeys(manifest.prompt_names))
    try:
        if spec.edits:
            made = edited_pairs(called, spec.edits, spec.per_class, spec.seed)
        else:
            made = template_pairs(called, per_class=spec.per_class, seed=spec.seed)
    except ValueError as error:
        raise IcmBenchError(f"interventions.text.per_class: {error}") from error
    return [replace(pair, class_name=names[pair.class_name or ""]) for pair in made]


def _check_classes(recipe: Recipe, manifest: Manifest, pairs: list[TextPair], file: str) -> None:
    """Refuse pairs with which a protocol with new classes cannot do: of nobody knows what, or of new ones alone.

    Pairs that describe images are of the class of these. A class of another data set of the recipe is neither base nor
    new, and is left out.
    """
    opened = next((p for p in recipe.protocols_for(manifest.name) if p.open_class), None)
    unsaid = [pair for pair in pairs if pair.image_id is None]
    if not (opened and unsaid and any(TEXT in chosen.kinds for chosen in recipe.intervention_sets())):
        return
    known = {*manifest.classes, *(pair.class_name for pair in unsaid if len(recipe.datasets) > 1)} - {None}
    if stray := next((pair for pair in unsaid if pair.class_name not in known), None):
        raise IcmBenchError(
            f"{file}: '{opened.name}' must not see new classes, and the pair '{stray.caption:.60}' names no class of "
            f"{manifest.name}; give it a 'class_name'."
        )
    rounding = recipe.sweep.base_classes or opened.rounding
    base = manifest.classes[: base_classes(len(manifest.classes), rounding)]
    if not any(pair.class_name in base for pair in unsaid):
        raise IcmBenchError(
            f"{file}: '{opened.name}' fits on the base classes of {manifest.name} ({base[0]} to {base[-1]}), of which "
            f"no pair is; add some, or leave '{TEXT}' out of the sets."
        )


def _with_image_ids(pairs: list[TextPair], manifest: Manifest, file: str) -> list[TextPair]:
    """Return the pairs with images named by their ids; a path below the data set's folder will do in the file."""
    ids = manifest.table["image_id"].to_pylist()
    by_name = {**dict(zip(manifest.table["path"].to_pylist(), ids, strict=True)), **{i: i for i in ids}}
    described = [pair for pair in pairs if pair.image_id is not None]
    for pair in described:
        if pair.image_id not in by_name:
            raise IcmBenchError(
                f"{file}: '{pair.image_id}' is no image of {manifest.name}; give the path below its folder, or the id."
            )
    if described and len(described) < len(pairs):
        raise IcmBenchError(
            f"{file}: {len(described)} of {len(pairs)} pairs describe single images, which are left out with their "
            f"environment, and the others none; put the two kinds into files of their own."
        )
    return [replace(pair, image_id=by_name[pair.image_id]) if pair.image_id else pair for pair in pairs]
