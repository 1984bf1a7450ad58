"""Data sets with a planted shift: drawings of `emoji_styles`, assigned to environments and changed by a known amount.

The correct result of a method is therefore known. Two properties of a shift are varied independently:

- whether interventions cover it: `dusk` reduces colour and light, `tint` adds a colour cast, and `color_jitter` and
  `grayscale` vary both. `texture` adds dark hatching behind the drawing, which these two do not vary. `none` changes
  nothing.
- whether the means of the source environments show it: they do if the sources have different strengths.

A data set may have two shifts with separate strengths.

Coverage was measured with MiniLiT at 160 pixels, without any method. It is the ratio v'C_d v / v'C_z v, divided by
trace(C_d) / trace(C_z). Here v is the difference of the means of target and sources, C_z the second moment of
embeddings, and C_d the second moment of their changes under interventions; an average direction has coverage 1. With
`color_jitter` and `grayscale`, the coverage of the dusk is 4.6, and that of the hatching is 0.2 to 0.4. At strength 1,
plain zero-shot loses 29 of 60 points to the dusk and 30 to the hatching.

Every drawing is in one environment. With as many styles as environments, every concept is in each environment, in
different styles. All environments have equally many drawings of each class and style, so they differ only by the shift
and by the random assignment of styles to concepts.
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
from benchmark.demo.emoji import IMAGE_SIZE, draw_files, write_groups
from benchmark.demo.packages import publish

NAME = "planted"
# Increase it if a change of the code below changes the assignment or the drawings, and write the new values into
# tests/demo/test_planted.py.
VERSION = 2

T = TypeVar("T", str, tuple[str, str])
# A new shift also goes into `ShiftName` in benchmark/datasets/spec.py; `changed` must draw it, and `content_hash` must
# include its constants.
Shift = Literal["dusk", "tint", "texture", "none"]

# Shifts covered by the colour interventions `color_jitter` and `grayscale`.
COVERED: frozenset[Shift] = frozenset({"dusk", "tint"})
# Number of variants of a shift: one per class.
CHANGES = 10
# Share by which a tint of strength 1 darkens the channels that its hue lacks.
TINT = 0.85
# Hue of change 0 in tenths of the circle: blue. Of all hues tried, the seven interventions vary it most.
FIRST_HUE = 6
# Grey level of the hatching of strength 1 on white.
INK = 60
# Width of a line of the hatching in pixels of the drawing.
LINE = 6.0
# Distance between the centres of neighbouring lines of the hatching in pixels of the drawing.
SPACING = 30.0
# Share by which a dusk of strength 1 darkens the image.
DUSK = 0.9
# Weights of red, green and blue in the grey of a dusk; the intervention `grayscale` has the same.
LUMA = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Planted:
    """Specification of a planted data set. `DatasetSpec` checks it when a recipe is read.

    Attributes:
        styles: environments of `emoji_styles` whose drawings are used, one or more.
        shifts: strength of each shift in each environment, 0 (drawing unchanged) to 1; all shifts must have the same
            environments.
        correlation: environment -> share of the images of each class, 0 to 1, that have the change of their own class;
            the others have the change of another class. A change is a variant of the shift, such as a hue. None
            (default): all images have the same change, so environments differ only by strength.
        seed: seed of three draws: environment of each drawing, change of each class, and images that have this change.
            Default 0.
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
        """The environment with the strongest shift, or the weakest correlation; None if there is no unique one."""
        if self.correlation:
            return _unique_largest({name: 1 - share for name, share in self.correlation.items()})
        targets = {_unique_largest(strength) for shift, strength in self.shifts.items() if shift != "none"}
        return targets.pop() if len(targets) == 1 else None

    @property
    def parts(self) -> tuple[str, ...] | None:
        """Parts of shrinkage to be credited with `target` held out: `interventions`, `environments`, both or neither.

        `interventions` is credited if interventions cover a shift that the means of the sources do not show;
        `environments` is credited if the means show a shift that interventions do not cover. None if both find the same
        shift: a part is credited only if it adds to the other one, but here either is enough. Empty without a target,
        and with a correlation: the correlation helps in all sources, so a rule that selects on sources keeps it.
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
        """Return the strength of each shift in an environment; shifts of strength 0 are left out."""
        sizes = {shift: strength[environment] for shift, strength in self.shifts.items() if shift != "none"}
        return {shift: size for shift, size in sizes.items() if size}


def _unique_largest(sizes: Mapping[str, float]) -> str | None:
    """Return the name with the largest size; None on a tie."""
    second, largest = sorted(sizes, key=lambda name: sizes[name])[-2:]
    return largest if sizes[largest] > sizes[second] else None


@dataclass(frozen=True)
class PlantedImage:
    """One image of a planted data set."""

    environment: str
    class_name: str
    concept: str  # also the group of the image in splits
    style: str  # environment of `emoji_styles` from which the drawing is taken
    change: int  # number of the variant of the shift, 0 to `CHANGES` - 1

    @property
    def path(self) -> str:
        """Path of the image in the folder of the data set."""
        return f"{self.environment}/{self.class_name}/{self.concept}-{self.style}.png"


def build(planted: Planted) -> Path:
    """Render a planted data set into the cache, unless it is there, and return its folder."""
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
            write_groups(folder, [(image.path, image.concept) for image in images])
        publish(folder, root)
    return root


def content_hash(planted: Planted) -> str:
    """Return a hash, 12 hex digits, of everything that determines the content of a planted data set."""
    shifts = sorted((shift, sorted(strength.items())) for shift, strength in planted.shifts.items())
    spec = [planted.styles, shifts, planted.seed]
    correlation = None if planted.correlation is None else sorted(planted.correlation.items())
    drawing = [VERSION, IMAGE_SIZE, CHANGES, DUSK, TINT, FIRST_HUE, INK, LINE, SPACING, emoji_styles.content_hash()]
    return hashlib.sha256(json.dumps([drawing, spec, correlation]).encode()).hexdigest()[:12]


def contents(planted: Planted, classes: Mapping[str, Sequence[str]]) -> list[PlantedImage]:
    """Return the images of a planted data set, sorted by path, without rendering them.

    `classes` has the concepts of each class.
    """
    environment = deal(classes, planted.styles, planted.environments, planted.seed)
    images = []
    for place in planted.environments:
        # Sorted by class. The order within a class decides which drawings have the change of their class.
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
                # The number of drawings with their class's change is exact up to 0.5 overall, and up to 1 in any run.
                share, others = planted.correlation[place], sorted(own[other] for other in own if other != name)
                carries = math.floor(share * (number + 1) + 0.5) > math.floor(share * number + 0.5)
                drawn = others[_digest(planted.seed, "other", concept, style) % len(others)]
                change = own[name] if carries else drawn
            images.append(PlantedImage(place, name, concept, style, change))
    return sorted(images, key=lambda image: image.path)


def deal(
    classes: Mapping[str, Sequence[str]], styles: Sequence[str], environments: Sequence[str], seed: int
) -> dict[tuple[str, str], str]:
    """Return the environment of each drawing, a pair (concept, style). Environments are assigned in rotation.

    The drawings of a concept are spread over as many environments as possible. All environments have the same number of
    drawings of each class, of each style, and of each class in each style, up to a difference of one per style.
    """
    concepts = [concept for name in sorted(classes) for concept in _shuffled(classes[name], seed, "deal")]
    return {
        (concept, style): environments[(place + turn) % len(environments)]
        for place, concept in enumerate(concepts)
        for turn, style in enumerate(_shuffled(styles, seed, "styles"))
    }


def changes_of_classes(classes: Iterable[str], seed: int) -> dict[str, int]:
    """Return the number of each class's change under a correlation; numbers are distinct, 0 to `CHANGES` - 1."""
    return {name: change for change, name in enumerate(_shuffled(classes, seed, "change"))}


def changed(svg: str, sizes: Mapping[Shift, float], change: int) -> str:
    """Return an SVG drawing after the shifts in `sizes` (shift -> strength), in the variant number `change`.

    `texture` adds dark lines behind the drawing: LINE wide, SPACING apart, with opacity `size` (the strength), rotated
    by change × 18 degrees. `dusk`, independent of the change, desaturates all pixels by `size` and darkens the whole
    image, including the white background, by DUSK × size. `tint` multiplies each channel of the whole image by a
    factor: 1 - size × TINT × (1 - c), where c is the value of this channel in the hue, 0 to 1. Each change has its own
    hue; hues are spaced evenly on the circle, starting at blue (216 degrees).
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
        drawing = f'{_fade_filter(size)}<g filter="url(#fade)">{drawing}</g>{_multiply_layer(place, (light,) * 3)}'
    if size := sizes.get("tint"):
        sixth = 6 * ((change + FIRST_HUE) % CHANGES) / CHANGES  # hue in sixths of the circle: red 0, green 2, blue 4
        distances = (min(abs(sixth - centre), 6 - abs(sixth - centre)) for centre in (0, 2, 4))
        channels = (min(max(2 - distance, 0), 1) for distance in distances)
        drawing += _multiply_layer(place, tuple(round(255 * (1 - size * TINT * (1 - channel))) for channel in channels))
    return svg[: opening.end()] + drawing + svg[end:]


def _multiply_layer(place: str, colour: tuple[int, ...]) -> str:
    """Return an SVG rectangle that multiplies everything below it, including the background, by a colour (0 to 255)."""
    red, green, blue = colour
    rect = f'<rect width="{IMAGE_SIZE}" height="{IMAGE_SIZE}" fill="#{red:02x}{green:02x}{blue:02x}"/>'
    return f'<g style="mix-blend-mode:multiply" {place}>{rect}</g>'


def _fade_filter(strength: float) -> str:
    """Return an SVG filter with the id `fade` that desaturates by `strength`."""
    rows = [
        [strength * weight + (1 - strength) * (row == column) for column, weight in enumerate(LUMA)] for row in range(3)
    ]
    values = " ".join(f"{a:.6g} {b:.6g} {c:.6g} 0 0" for a, b, c in rows) + " 0 0 0 1 0"
    return (
        '<filter id="fade" filterUnits="userSpaceOnUse" x="-100%" y="-100%" width="300%" height="300%" '
        f'color-interpolation-filters="sRGB"><feColorMatrix type="matrix" values="{values}"/></filter>'
    )


def _hatching(change: int, strength: float) -> str:
    """Return parallel SVG lines over the whole image, none through its centre."""
    middle = IMAGE_SIZE / 2
    reach = math.ceil(IMAGE_SIZE / SPACING)  # covers half the diagonal, 0.71 of a side
    places = (middle + (line + 0.5) * SPACING for line in range(-reach, reach))
    lines = "".join(f"M{place:.3f} {-IMAGE_SIZE}V{2 * IMAGE_SIZE}" for place in places)
    turn = f"rotate({180 * change / CHANGES:g} {middle:g} {middle:g})"
    stroke = f'stroke="#{INK:02x}{INK:02x}{INK:02x}" stroke-opacity="{strength:g}" stroke-width="{LINE:g}"'
    return f'<path d="{lines}" {stroke} transform="{turn}"/>'


def _shuffled(items: Iterable[T], seed: int, purpose: str) -> list[T]:
    """Return the items ordered by a hash of seed, purpose and item."""
    return sorted(items, key=lambda item: _digest(seed, purpose, json.dumps(item)))


def _digest(seed: int, *words: str) -> int:
    """Return a 64-bit hash of seed and words, the same in every version of Python."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *words]).encode()).digest()[:8], "big")
