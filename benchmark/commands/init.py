"""`icm-bench init`: a recipe to start with, of the images that lie in a folder."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmark.commands.interchange.files import check_absent, write_new
from benchmark.commands.preparing.checks import check_held_out, check_protocols
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.secrets import public
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.escaping import one_line
from benchmark.datasets.catalog import CATALOG
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.datasets.readers import READERS
from benchmark.datasets.spec import DatasetSpec
from benchmark.recipe.loading import parse_recipe

WIDTH = 110  # of a line of comments
_HEAD = """\
# {what}
#
#   command   icm-bench run {file}
#   before    icm-bench plan {file}, for what it costs
#   keys      docs/recipe.md explains all of them; `icm-bench recipes` lists recipes to learn from
name: {name}
datasets:
"""
_BACKBONE = """\
# The encoder of the demo: small, built in the cache from packages at first use, good enough to try everything. Real
# numbers come from a real encoder, as {name: ViT-B-32, pretrained: openai}, whose weights are downloaded, or one on
# this disk: {name: mine, folder: /models/mine}. Several may stand here, each with a line of its own.
backbones:
  - {name: MiniLiT, image_size: 160}
# Each image is embedded once as it is and once under each intervention. Without this block all seven are taken.
interventions:
"""
_SWEEP = """\
# Each environment is held out in turn: it is tested by what is fitted on the others.
sweep:
  folds: 5                    # every image is tested once; without this line, DomainBed's 80/20 splits
  seeds: [0]                  # of folds or splits; three are usual: [0, 1, 2]
  predictors: [zero_shot]     # add linear_probe for trained heads, which take some twenty times as long
  # lambdas: [0.3, 1, 3, 10]  # weights of the interventions; without, a grid
  # ranks: [16, 64, 256]      # directions kept; without, a grid up to the width of the embeddings
"""


@dataclass(frozen=True)
class StartedSet:
    """One data set of a recipe to start with."""

    name: str
    layout: str  # how its images lie, as `DatasetSpec.layout` calls it
    environments: dict[str, int]  # each with the number of its images
    classes: list[str]


@dataclass(frozen=True)
class StartedRecipe:
    """A recipe to start with."""

    recipe: str  # its file
    datasets: list[StartedSet]
    notes: list[str]  # what a user should know of the images

    def text(self) -> str:
        """Return what was found, and what comes next, in some lines."""
        lines = [
            f"{one.name}: {sum(one.environments.values())} images of {len(one.classes)} classes in "
            f"{len(one.environments)} environments, layout {one.layout}"
            for one in self.datasets
        ]
        return "\n".join([*lines, f"{self.recipe}: a recipe to start with", f"Next: icm-bench run {self.recipe}"])


def init_recipe(folder: str, out: Path) -> StartedRecipe:
    """Write a commented recipe of the images in a folder.

    Args:
        folder: a data set, or a folder that holds sets of the catalog; a path or URI.
        out: file of the recipe; one that is there is not overwritten.

    Raises:
        IcmBenchError: no folder, no data set that a sweep could take, or the recipe's file is there or not writable.
    """
    check_absent(out, "--out")
    found = [(spec, read_manifest(spec)) for spec in _specs(folder)]
    text = _text(found, out)
    recipe = parse_recipe(yaml.safe_load(text), "the recipe to start with")
    for _, manifest in found:
        check_protocols(recipe, manifest)
    if not write_new(out, text, "--out"):
        check_absent(out, "--out")
    return StartedRecipe(
        str(out),
        [StartedSet(spec.name, _layout(m), m.counts, m.classes) for spec, m in found],
        [note for _, manifest in found for note in manifest.notes()],
    )


def _specs(folder: str) -> list[DatasetSpec]:
    """Return the sets of the catalog that a folder holds, by their folders; else the folder itself as a data set."""
    root = folder if "://" in folder else str(Path(folder).expanduser().absolute())
    storage = Storage(root)
    if not storage.is_folder():
        raise IcmBenchError(f"{public(root)} does not exist or is no folder; give the folder of a data set.")
    inside = {Path(info.name).name for info in storage.listing() if info.is_folder}
    if known := [facts.name for facts in CATALOG.values() if facts.folder in inside]:
        return [DatasetSpec(name=name, root=root) for name in known]
    here = Path(public(root)).name or "images"
    name = next((facts.name for facts in CATALOG.values() if facts.folder == here), here)
    is_planted = DatasetSpec.model_construct(name=name).is_planted
    return [DatasetSpec(name=f"my-{name}" if is_planted else name, root=root)]


def _layout(manifest: Manifest) -> str:
    return READERS.implementation(type(manifest.reader))


def _text(found: Sequence[tuple[DatasetSpec, Manifest]], out: Path) -> str:
    """Return the recipe as YAML with comments."""
    names = [spec.name for spec, _ in found]
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(names)).strip("-") or "images"
    file = str(out) if str(out).isprintable() else ascii(str(out))
    text = _HEAD.format(what=f"A recipe to start with, of {' and '.join(names)}.", file=file, name=_scalar(slug))
    for spec, manifest in found:
        keys = {"root": spec.root, "layout": _layout(manifest)}
        lines = [f"  - name: {_scalar(spec.name)}", *(f"    {key}: {_scalar(value)}" for key, value in keys.items())]
        try:
            check_held_out(manifest)
        except IcmBenchError:
            if len(manifest.environments) > 1:
                lines.append("    classes_differ: true   # some environments lack some classes")
        shown = [f"{name} ({count} images)" for name, count in manifest.counts.items()]
        for what, listed in {"environments": shown, "classes": manifest.prompt_names}.items():
            comment = f"{len(listed)} {what}: {some([one_line(name) for name in listed])}"
            lines += textwrap.wrap(comment, WIDTH, initial_indent="    # ", subsequent_indent="    #   ")
        text += "\n".join(lines) + "\n"
    kinds = parse_recipe({"name": slug, "datasets": ["PACS"], "backbones": ["MiniLiT"]}).interventions.kinds
    return f"{text}{_BACKBONE}  kinds: [{', '.join(kind.name for kind in kinds)}]\n{_SWEEP}"


def _scalar(text: str | None) -> str:
    """Return a text as YAML has it, in one line."""
    return str(yaml.safe_dump(text, allow_unicode=True, width=10_000)).removesuffix("...\n").strip()
