"""Packs of drawings: pinned packages, rendering, and the concepts of emoji that several vendors draw.

Drawings of one concept are found by the slug of its CLDR short name; OpenMoji's table lists the names with groups and
tags. If the rendering changes, raise `VERSION` in emoji_styles.py, icons.py and minilit.py (tests/demo/test_golden.py).
"""

import csv
import io
import json
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.places import cache_dir
from benchmark.common.terminal.progress import Progress
from benchmark.common.workers import Workers, cores
from benchmark.demo.packages import INSTALL, npm_package, publish, read_member, read_members

IMAGE_SIZE = 224
_BATCH = 8  # images per call of a process
_MAX_PROCESSES = 8  # more processes would take longer to start than to draw

Drawings = Mapping[str, Mapping[str, Mapping[str, str]]]  # environment -> class -> name -> SVG document


@dataclass(frozen=True)
class Pack:
    """A pinned npm package of drawings."""

    name: str
    version: str
    sha256: str

    def fetch(self) -> Path:
        """Return the cached archive, downloaded if missing; see `packages.npm_package`."""
        return npm_package(self.name, self.version, self.sha256)


@dataclass(frozen=True)
class Concept:
    """One row of OpenMoji's table: the meaning of an emoji, independent of the vendor."""

    slug: str  # name in ASCII, see the function `slug`
    name: str
    group: str  # such as `animals-nature`
    subgroup: str  # such as `animal-bird`
    tags: tuple[str, ...]  # further keywords
    hexcode: str  # code points of the emoji; also the file name of OpenMoji's drawings


@dataclass(frozen=True)
class PretrainingImage:
    """A drawing of a concept for training MiniLiT; its pack is not among the environments of `emoji_styles`."""

    pack: str
    concept: Concept
    svg: str

    @property
    def captions(self) -> tuple[str, ...]:
        """The concept's name, and its name followed by its tags."""
        return self.concept.name, ", ".join((self.concept.name, *self.concept.tags))

    def png(self, size: int = IMAGE_SIZE) -> bytes:
        """Return the drawing as `size` × `size` PNG on white."""
        return draw(self.svg, size)


OPENMOJI = Pack("openmoji", "17.0.0", "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68")
PRETRAINING_PACKS = (
    Pack("@iconify-json/emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
    Pack("@iconify-json/emojione-v1", "1.2.3", "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3"),
    Pack("@iconify-json/noto-v1", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"),
    Pack("@iconify-json/fxemoji", "1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"),
)
OBJECT_GROUPS = frozenset({"animals-nature", "food-drink", "activities", "objects", "travel-places"})


def slug(name: str) -> str:
    """Return `name` in ASCII, lower case, words joined by hyphens: `woman’s hat` becomes `womans-hat`."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name.replace("'", "")).strip("-")


def concepts() -> dict[str, Concept]:
    """Return the concepts of OpenMoji's table by slug, without skin tones and without OpenMoji's own extras."""
    table = read_member(OPENMOJI.fetch(), "package/data/openmoji.csv").decode("utf-8")
    by_slug: dict[str, Concept] = {}
    for row in csv.DictReader(io.StringIO(table)):
        if not row["skintone"] and not row["group"].startswith("extras"):
            name, tags = row["annotation"], tuple(tag.strip() for tag in row["tags"].split(",") if tag.strip())
            concept = Concept(slug(name), name, row["group"], row["subgroups"], tags, row["hexcode"])
            by_slug.setdefault(concept.slug, concept)
    return by_slug


def iconify_svgs(pack: Pack) -> dict[str, str]:
    """Return the SVG document of each icon of an Iconify package by name, without aliases.

    An alias may have the name of another concept: in the old packs `cricket` is the game.
    """
    content = json.loads(read_member(pack.fetch(), "package/icons.json"))
    default_width, default_height = content.get("width", 16), content.get("height", 16)
    documents = {}
    for name, icon in content["icons"].items():
        width, height = float(icon.get("width", default_width)), float(icon.get("height", default_height))
        side = max(width, height)
        documents[name] = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{(width - side) / 2:g} {(height - side) / 2:g} {side:g} {side:g}">{icon["body"]}</svg>'
        )
    return documents


def openmoji_svgs(style: str, wanted: Iterable[Concept]) -> dict[str, str]:
    """Return OpenMoji's SVG documents of the concepts in `wanted` by slug; `style` is `color` or `black`."""
    members = {concept.slug: f"package/{style}/svg/{concept.hexcode}.svg" for concept in wanted}
    contents = read_members(OPENMOJI.fetch(), members.values())
    return {name: contents[member].decode("utf-8") for name, member in members.items()}


def draw(svg: str, size: int = IMAGE_SIZE) -> bytes:
    """Render an SVG document as a `size` × `size` PNG on white, deterministically."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise IcmBenchError(f"Drawing the demo's images needs resvg-py; {INSTALL}.") from error
    return svg_to_bytes(svg_string=svg, width=size, height=size, background="#ffffff", skip_system_fonts=True)


def build_set(
    name: str, content_hash: str, drawings: Callable[[], Drawings], group: Callable[[str], str] = str
) -> Path:
    """Render a data set into the cache, unless it is there, and return its parent folder.

    It has the images `NAME/ENVIRONMENT/CLASS/DRAWING.png` and `NAME/groups.csv`; `group` returns a drawing's group.
    """
    root = cache_dir() / "datasets" / f"{name}-{content_hash}"
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    images = {
        f"{environment}/{class_name}/{drawing}.png": (group(drawing), svg)
        for environment, classes in drawings().items()
        for class_name, svgs in classes.items()
        for drawing, svg in sorted(svgs.items())
    }
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{name}-") as scratch:
        folder = Path(scratch) / "root" / name
        draw_files({folder / path: svg for path, (_, svg) in images.items()}, f"drawing {name}")
        write_groups(folder, [(path, of_image) for path, (of_image, _) in images.items()])
        publish(folder.parent, root)
    return root


def write_groups(folder: Path, groups: list[tuple[str, str]]) -> None:
    """Write `groups.csv` into the folder of a data set, from (relative path, group) of each image."""
    with (folder / "groups.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("path", "group"), *groups])


def draw_files(documents: Mapping[Path, str], description: str) -> None:
    """Render SVG documents into their files; folders are created.

    One core stays free: usually an encoder is built or loaded at the same time, and takes longer than the drawings.
    """
    for folder in {file.parent for file in documents}:
        folder.mkdir(parents=True, exist_ok=True)
    files = list(documents.items())
    batches = [files[start : start + _BATCH] for start in range(0, len(files), _BATCH)]
    progress = Progress(description, len(files), "images")
    with Workers(min(cores() - 1, len(batches), _MAX_PROCESSES), __name__) as workers:
        for _, drawn in workers.call_all(_draw_files, ((batch,) for batch in batches)):
            progress.update(note=drawn.parent.parent.name)
    progress.close()


def _draw_files(documents: Sequence[tuple[Path, str]]) -> Iterator[Path]:
    """Render documents into their files and yield each file."""
    for file, svg in documents:
        file.write_bytes(draw(svg))
        yield file


def pretraining_images() -> list[PretrainingImage]:
    """Return the drawings of objects (no faces, people, symbols, flags) in the four pretraining packs, in pack order.

    The demo encoder is trained on these drawings; no environment of `emoji_styles` has drawings of these packs.
    """
    things = {name: concept for name, concept in concepts().items() if concept.group in OBJECT_GROUPS}
    images: list[PretrainingImage] = []
    for pack in PRETRAINING_PACKS:
        dropped = "-" if pack.name.endswith("/fxemoji") else ""  # hyphens in this pack differ from CLDR
        named = {name.replace(dropped, ""): concept for name, concept in things.items()}
        images += [
            PretrainingImage(pack.name, named[key], svg)
            for name, svg in iconify_svgs(pack).items()
            if (key := name.replace(dropped, "")) in named
        ]
    return images
