"""`icm-bench init`: writes a first recipe for the images in a folder."""

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

WIDTH = 110  # characters in a line of comments
# A recipe key that is renamed must be renamed in these three texts too: `init_recipe` parses the result.
_HEAD = """\
# {what}
#
#   command   icm-bench run {file}
#   before    icm-bench plan {file} estimates hours and memory
#   keys      docs/recipe.md explains all keys; `icm-bench recipes` lists examples
name: {name}
datasets:
"""
_BACKBONE = """\
# The encoder of the demo: small, and built in the cache at first use. For results, use a pretrained encoder, such as
# {name: ViT-B-32, pretrained: openai}, whose weights are downloaded, or one on this disk:
# {name: mine, folder: /models/mine}. List several on separate lines.
backbones:
  - {name: MiniLiT, image_size: 160}
# Each image is embedded once unchanged and once under each intervention. Default: all seven.
interventions:
"""
_SWEEP = """\
# Each environment is held out in turn: the test set for fits on the others.
sweep:
  folds: 5                    # every image is tested once; default: DomainBed's 80/20 splits
  normalize: [before]         # embeddings at unit length, as in zero-shot prediction; default: none, as released
  seeds: [0]                  # seeds of folds or splits; usually three: [0, 1, 2]
  predictors: [zero_shot]     # add linear_probe for trained heads, about twenty times slower
  # lambdas: [0.3, 1, 3, 10]  # weights of the consistency term; default: a grid
  # ranks: [16, 64, 256]      # directions kept; default: a grid up to the embedding width
"""


@dataclass(frozen=True)
class StartedSet:
    """One data set of the written recipe."""

    name: str
    layout: str  # see `DatasetSpec.layout`
    environments: dict[str, int]  # environment -> number of images
    classes: list[str]


@dataclass(frozen=True)
class StartedRecipe:
    """The written recipe and its data sets."""

    recipe: str  # path of its file
    datasets: list[StartedSet]
    notes: list[str]  # remarks about the images

    def text(self) -> str:
        """Return a summary of the data sets, and the next command."""
        lines = [
            f"{one.name}: {sum(one.environments.values())} images of {len(one.classes)} classes in "
            f"{len(one.environments)} environments, layout {one.layout}"
            for one in self.datasets
        ]
        return "\n".join([*lines, f"{self.recipe}: a first recipe", f"Next: icm-bench run {self.recipe}"])


def init_recipe(folder: str, out: Path) -> StartedRecipe:
    """Write a commented recipe for the images in a folder.

    Args:
        folder: folder of a data set, or of several data sets of the catalog; a path or URI.
        out: file of the recipe, which is never overwritten.

    Raises:
        IcmBenchError: the folder does not exist, a data set is not fit for a sweep, or the recipe's file exists or is
            not writable.
    """
    check_absent(out, "--out")
    found = [(spec, read_manifest(spec)) for spec in _specs(folder)]
    text = _text(found, out)
    recipe = parse_recipe(yaml.safe_load(text), "the first recipe")
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
    """Return the catalog's data sets whose folders are in a folder; if there are none, the folder as one data set."""
    root = folder if "://" in folder else str(Path(folder).expanduser().absolute())
    storage = Storage(root)
    if not storage.is_folder():
        raise IcmBenchError(f"{public(root)} does not exist or is not a folder; give the folder of a data set.")
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
    text = _HEAD.format(what=f"A first recipe for {' and '.join(names)}.", file=file, name=_scalar(slug))
    for spec, manifest in found:
        keys = {"root": spec.root, "layout": _layout(manifest)}
        lines = [f"  - name: {_scalar(spec.name)}", *(f"    {key}: {_scalar(value)}" for key, value in keys.items())]
        try:
            check_held_out(manifest)
        except IcmBenchError:
            if len(manifest.environments) > 1:
                lines.append("    classes_differ: true   # some environments lack classes")
        shown = [f"{name} ({count} images)" for name, count in manifest.counts.items()]
        for what, listed in {"environments": shown, "classes": manifest.prompt_names}.items():
            comment = f"{len(listed)} {what}: {some([one_line(name) for name in listed])}"
            lines += textwrap.wrap(comment, WIDTH, initial_indent="    # ", subsequent_indent="    #   ")
        text += "\n".join(lines) + "\n"
    kinds = parse_recipe({"name": slug, "datasets": ["PACS"], "backbones": ["MiniLiT"]}).interventions.kinds
    return f"{text}{_BACKBONE}  kinds: [{', '.join(kind.name for kind in kinds)}]\n{_SWEEP}"


def _scalar(text: str | None) -> str:
    """Return a text as a YAML scalar in one line."""
    return str(yaml.safe_dump(text, allow_unicode=True, width=10_000)).removesuffix("...\n").strip()
