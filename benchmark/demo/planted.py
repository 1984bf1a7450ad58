"""Data sets with a planted shift: drawings of `emoji_styles`, dealt to environments and changed by a known amount.

What a method should find in them is known beforehand. Two things are set apart:

- whether interventions cover the shift: `dusk` takes colour and light away and `tint` casts a colour, which
  `color_jitter` and `grayscale` move; `texture` is hatching with dark lines behind the drawing, which neither of these
  puts on or takes off; `none` changes nothing;
- whether the means of the source environments see it: they do where their strengths differ.

A set may have two shifts, each with strengths of its own.

How far kinds cover a shift was measured with MiniLiT at 160 pixels and without any method: v'C_d v / v'C_z v along the
shift v of the means from sources to target, over trace(C_d) / trace(C_z), so that the average direction has 1. Of
`color_jitter` and `grayscale` together the dusk has 4.6 and the hatching 0.2 to 0.4. At strength 1 plain zero-shot
loses 29 of 60 points by the dusk and 30 by the hatching.

Every drawing stands in one environment, and where there are as many styles as environments, every concept in each, in
another style. All environments have as many drawings of each class and style, so they differ by the shift and by which
concept is drawn in which style: by chance.
"""

import hashlib
import json
import math
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from benchmark.common.storage.places import cache_dir
from benchmark.demo import emoji_styles
from benchmark.demo.emoji import IMAGE_SIZE, draw_files
from benchmark.demo.packages import publish

NAME = "planted"
# To be raised whenever the code below deals or draws otherwise.
VERSION = 2

T = TypeVar("T", str, tuple[str, str])
Shift = Literal["dusk", "tint", "texture", "none"]

# Shifts that interventions cover which change colours: `color_jitter` and `grayscale`.
COVERED: frozenset[Shift] = frozenset({"dusk", "tint"})
# Number of different changes of a kind: one for each class.
CHANGES = 10
# Share of the light that a cast of strength 1 takes from the channels that its hue lacks.
TINT = 0.85
# Which tenth of the circle of hues change 0 has: blue, of all casts tried the one that seven kinds move most.
FIRST_HUE = 6
# Grey level of the hatching of strength 1 on white.
INK = 60
# Width of a line of the hatching in pixels of the drawing.
LINE = 6.0
# From the middle of a line of the hatching to the middle of the next, in pixels of the drawing.
SPACING = 30.0
# Share of the light that a dusk of strength 1 takes.
DUSK = 0.9
# Weights of red, green and blue in the grey of a dusk: those of the intervention `grayscale`.
LUMA = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Planted:
    """What determines a planted data set. Checked where a recipe is read: see `DatasetSpec`.

    Attributes:
        styles: environments of `emoji_styles` whose drawings are taken, one or more.
        shifts: kind of change -> environment -> size of the change in it, 0 (the drawing as it is) to 1; the
            environments are those of the data set, of all kinds alike.
        correlation: environment -> share of the images of each class that carry the change of their class, 0 to 1; the
            others carry that of another class. None: all images carry one and the same change, so that environments
            differ by their strengths alone.
        seed: of the deal, of which change belongs to which class and of which images carry it.
    """

    styles: tuple[str, ...]
    shifts: Mapping[Shift, Mapping[str, float]]
    correlation: Mapping[str, float] | None = None
    seed: int = 0

    @property
    def environments(self) -> list[str]:
        """Names of the environments, sorted."""
        return sorted(next(iter(self.shifts.values())))

    @property
    def target(self) -> str | None:
        """The environment whose shifts go beyond those of all others, or is the reverse; None where none's do."""
        if self.correlation:
            return _beyond({name: 1 - share for name, share in self.correlation.items()})
        targets = {_beyond(strength) for shift, strength in self.shifts.items() if shift != "none"}
        return targets.pop() if len(targets) == 1 else None

    @property
    def parts(self) -> tuple[str, ...] | None:
        """What must be found with `target` held out: `interventions`, `environments`, both or neither.

        Interventions where they cover a shift that the means of the sources do not see, the means where they see one
        that interventions do not cover. None, where both see one and the same: either will do, and neither need add to
        the other, which is what a credit asks. Neither where there is a correlation: it pays in all sources, so a rule
        that chooses on these keeps it.
        """
        target = self.target
        if target is None or self.correlation:
            return ()
        found = set()
        for shift, strength in self.shifts.items():
            seen = len({size for name, size in strength.items() if name != target}) > 1
            if seen and shift in COVERED:
                return None
            found |= {"interventions"} if shift in COVERED else {"environments"} if seen else set()
        return tuple(name for name in ("interventions", "environments") if name in found)

    def sizes(self, environment: str) -> dict[Shift, float]:
        """Return which shifts change the drawings of an environment, and how much; none where they stay as they are."""
        sizes = {shift: strength[environment] for shift, strength in self.shifts.items() if shift != "none"}
        return {shift: size for shift, size in sizes.items() if size}


def _beyond(sizes: Mapping[str, float]) -> str | None:
    """Return the one whose size is above all others'; None where two have it."""
    second, largest = sorted(sizes, key=lambda name: sizes[name])[-2:]
    return largest if sizes[largest] > sizes[second] else None


@dataclass(frozen=True)
class PlantedImage:
    """One image of a planted data set."""

    environment: str
    class_name: str
    concept: str  # what it shows, which is also its group
    style: str  # whose drawing it is
    change: int  # which of the `CHANGES` it carries, 0 to 9

    @property
    def path(self) -> str:
        """Where it lies in the data set's folder."""
        return f"{self.environment}/{self.class_name}/{self.concept}-{self.style}.png"


def build(planted: Planted) -> Path:
    """Draw a planted data set once and return its folder; a later call returns at once."""
    root = cache_dir() / "datasets" / f"{NAME}-{content_hash(planted)}"
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    drawings = emoji_styles.drawings()
    images = contents(planted, {name: sorted(svgs) for name, svgs in drawings[planted.styles[0]].items()})
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{NAME}-") as scratch:
        folder = Path(scratch) / "root"
        documents = {
            folder / image.path: changed(
                drawings[image.style][image.class_name][image.concept], planted.sizes(image.environment), image.change
            )
            for image in images
        }
        draw_files(documents, f"drawing {NAME} ({', '.join(planted.shifts)})")
        if len(planted.styles) > 1:
            emoji_styles.write_groups(folder, [(image.path, image.concept) for image in images])
        publish(folder, root)
    return root


def content_hash(planted: Planted) -> str:
    """Return 12 hex digits that stand for all that determines the content of a planted data set."""
    shifts = sorted((shift, sorted(strength.items())) for shift, strength in planted.shifts.items())
    spec = [planted.styles, shifts, planted.seed]
    correlation = None if planted.correlation is None else sorted(planted.correlation.items())
    drawing = [VERSION, IMAGE_SIZE, CHANGES, DUSK, TINT, FIRST_HUE, INK, LINE, SPACING, emoji_styles.content_hash()]
    return hashlib.sha256(json.dumps([drawing, spec, correlation]).encode()).hexdigest()[:12]


def contents(planted: Planted, classes: Mapping[str, Sequence[str]]) -> list[PlantedImage]:
    """Return the images of a planted data set and the change that each carries, sorted by path. Nothing is drawn."""
    environment = deal(classes, planted.styles, planted.environments, planted.seed)
    images = []
    for place in planted.environments:
        # Class by class, and of each class in an order that says who carries its change.
        drawings = [
            (name, concept, style)
            for name in sorted(classes)
            for concept, style in _shuffled(
                [(c, s) for c in classes[name] for s in planted.styles if environment[c, s] == place],
                planted.seed,
                "carries",
            )
        ]
        own = changes_of_classes({name for name, _, _ in drawings}, planted.seed)
        for number, (name, concept, style) in enumerate(drawings):
            change = 0
            if planted.correlation is not None:
                # Of all drawings the share carries the change of its class up to half a one, of every run up to one.
                share, others = planted.correlation[place], sorted(own[other] for other in own if other != name)
                carries = math.floor(share * (number + 1) + 0.5) > math.floor(share * number + 0.5)
                drawn = others[_digest(planted.seed, "other", concept, style) % len(others)]
                change = own[name] if carries else drawn
            images.append(PlantedImage(place, name, concept, style, change))
    return sorted(images, key=lambda image: image.path)


def deal(
    classes: Mapping[str, Sequence[str]], styles: Sequence[str], environments: Sequence[str], seed: int
) -> dict[tuple[str, str], str]:
    """Return (concept, style) -> environment.

    In turn: the drawings of a concept stand in as many environments as can be, and environments have equally many of
    every class, of every style, and of every class in every style, up to one of each style.
    """
    concepts = [concept for name in sorted(classes) for concept in _shuffled(classes[name], seed, "deal")]
    return {
        (concept, style): environments[(place + turn) % len(environments)]
        for place, concept in enumerate(concepts)
        for turn, style in enumerate(_shuffled(styles, seed, "styles"))
    }


def changes_of_classes(classes: Iterable[str], seed: int) -> dict[str, int]:
    """Return class -> the change that is its own where there is a correlation, 0 to `CHANGES` - 1, no two the same."""
    return {name: change for change, name in enumerate(_shuffled(classes, seed, "change"))}


def changed(svg: str, sizes: Mapping[Shift, float], change: int) -> str:
    """Return a drawing with changes.

    `texture` lays dark lines behind the drawing, LINE wide, SPACING from middle to middle, of the opacity `size`,
    turned by change × 18 degrees. `dusk`, whatever the change, takes the share `size` of their colour from all pixels,
    and of the light of the whole image, the white ground included, DUSK × size. `tint` multiplies all of the image too,
    channel by channel with 1 - size × TINT × (1 - hue's channel), where the hues are spread evenly over the circle,
    from blue (216 degrees) on.
    """
    if not sizes:
        return svg
    opening = re.search(r'<svg[^>]*\bviewBox="([^"]*)"[^>]*>', svg)
    assert opening is not None, "every drawing has a viewBox"
    x, y, width, _ = map(float, opening[1].split())
    place = f'transform="translate({x:g} {y:g}) scale({width / IMAGE_SIZE:.9g})"'
    end = svg.rindex("</svg>")
    drawing = svg[opening.end() : end]
    if size := sizes.get("texture"):
        drawing = f"<g {place}>{_hatching(change, size)}</g>{drawing}"
    if size := sizes.get("dusk"):
        light = round(255 * (1 - DUSK * size))
        drawing = f'{_fading(size)}<g filter="url(#fade)">{drawing}</g>{_multiplied(place, (light,) * 3)}'
    if size := sizes.get("tint"):
        sixth = 6 * ((change + FIRST_HUE) % CHANGES) / CHANGES  # of the circle of hues: red 0, green 2, blue 4
        distances = (min(abs(sixth - centre), 6 - abs(sixth - centre)) for centre in (0, 2, 4))
        channels = (min(max(2 - distance, 0), 1) for distance in distances)
        drawing += _multiplied(place, tuple(round(255 * (1 - size * TINT * (1 - channel))) for channel in channels))
    return svg[: opening.end()] + drawing + svg[end:]


def _multiplied(place: str, colour: tuple[int, ...]) -> str:
    """Return a rectangle that multiplies all below it, the white ground too, with a colour of 0 to 255, as SVG."""
    red, green, blue = colour
    rect = f'<rect width="{IMAGE_SIZE}" height="{IMAGE_SIZE}" fill="#{red:02x}{green:02x}{blue:02x}"/>'
    return f'<g style="mix-blend-mode:multiply" {place}>{rect}</g>'


def _fading(strength: float) -> str:
    """Return a filter called `fade` that takes a share of their colour from all that it is put on, as SVG."""
    rows = [
        [strength * weight + (1 - strength) * (row == column) for column, weight in enumerate(LUMA)] for row in range(3)
    ]
    values = " ".join(f"{a:.6g} {b:.6g} {c:.6g} 0 0" for a, b, c in rows) + " 0 0 0 1 0"
    return (
        '<filter id="fade" filterUnits="userSpaceOnUse" x="-100%" y="-100%" width="300%" height="300%" '
        f'color-interpolation-filters="sRGB"><feColorMatrix type="matrix" values="{values}"/></filter>'
    )


def _hatching(change: int, strength: float) -> str:
    """Return parallel lines over the whole image, none of them through its centre, as SVG."""
    middle = IMAGE_SIZE / 2
    reach = math.ceil(IMAGE_SIZE / SPACING)  # enough for the diagonal, half of which is 0.71 of a side
    places = (middle + (line + 0.5) * SPACING for line in range(-reach, reach))
    lines = "".join(f"M{place:.3f} {-IMAGE_SIZE}V{2 * IMAGE_SIZE}" for place in places)
    turn = f"rotate({180 * change / CHANGES:g} {middle:g} {middle:g})"
    stroke = f'stroke="#{INK:02x}{INK:02x}{INK:02x}" stroke-opacity="{strength:g}" stroke-width="{LINE:g}"'
    return f'<path d="{lines}" {stroke} transform="{turn}"/>'


def _shuffled(items: Iterable[T], seed: int, purpose: str) -> list[T]:
    """Return the items in an order that depends on seed, purpose and each item alone."""
    return sorted(items, key=lambda item: _digest(seed, purpose, json.dumps(item)))


def _digest(seed: int, *words: str) -> int:
    """Return a number of 64 bits that seed and words determine, in every version of Python alike."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *words]).encode()).digest()[:8], "big")
