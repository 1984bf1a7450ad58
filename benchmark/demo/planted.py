"""Data sets with a planted shift: drawings of `emoji_styles`, dealt to environments and changed by a known amount.

What a method should find in them is known beforehand. Two things are set apart:

- whether interventions cover the shift: `fade` takes colour away and `tint` casts one, which `color_jitter` and
  `grayscale` move; `texture` is hatching with broad grey lines behind the drawing, which neither of these puts on or
  takes off; `none` changes nothing;
- whether the means of the source environments see it: they do where their strengths differ.

How far kinds cover a shift was measured with MiniLiT at 160 pixels on 284 untouched drawings of Noto, and without any
method: v'C_d v / v'C_z v along the mean shift v of strength 1, over trace(C_d) / trace(C_z), so that the average
direction has 1. Of `color_jitter` and `grayscale` together the fade has 4.6 (Twemoji: 4.6), the blue cast 1.7, the
hatching 0.5 (0.6). C_d of black and white drawings, where these kinds move brightness and contrast alone, has 0.3 along
the fade and 0.5 along the hatching. Of all seven kinds the blue cast had 1.3 and the hatching 0.5: too close together
for a control, which is why there is a fade and why its recipe has two kinds. At strength 1 plain zero-shot loses 12
points by the blue cast and 16 by the hatching on half of Noto's drawings, and 17 by the fade on all.

A concept stands in one environment only, whatever the styles, and which one depends on the seed alone: sets that differ
in `shift`, `strength`, `correlation` or `styles` have the same concepts in the same environments.
"""

import hashlib
import json
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from benchmark.common.cache import cache_dir
from benchmark.common.progress import Progress
from benchmark.demo import emoji_styles
from benchmark.demo.emoji import IMAGE_SIZE, draw
from benchmark.demo.packages import publish

NAME = "planted"
VERSION = 1
"""To be raised whenever the code below deals or draws otherwise."""

T = TypeVar("T", str, tuple[str, str])
Shift = Literal["fade", "tint", "texture", "none"]

COVERED: frozenset[Shift] = frozenset({"fade", "tint"})
"""Shifts that interventions cover which change colours: `color_jitter` and `grayscale`."""
CHANGES = 10
"""Number of different changes of a kind: one for each class."""
TINT = 0.85
"""Share of the light that a cast of strength 1 takes from the channels that its hue lacks."""
FIRST_HUE = 6
"""Which tenth of the circle of hues change 0 has: blue, of all casts tried the one that seven kinds move most."""
INK = 160
"""Grey level of the hatching: in every photometric view another one than the ground's, posterized or solarized."""
LINE = 14.0
"""Width of a line of the hatching in pixels of the drawing: too broad for a blur to take away."""
COVER = 0.25
"""Share of the ground that the hatching of strength 1 covers."""
LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a faded colour: those of the intervention `grayscale`."""


@dataclass(frozen=True)
class Planted:
    """What determines a planted data set. Checked where a recipe is read: see `DatasetSpec`.

    Attributes:
        styles: environments of `emoji_styles` whose drawings are taken, one or more.
        shift: the kind of change.
        strength: environment -> size of the change in it, 0 (the drawing as it is) to 1; its keys are the environments.
        correlation: environment -> share of the images of each class that carry the change of their class, 0 to 1; the
            others carry that of another class. None: all images carry one and the same change, so that environments
            differ by their strengths alone.
        seed: of the deal, of which change belongs to which class and of which images carry it.
    """

    styles: tuple[str, ...]
    shift: Shift
    strength: Mapping[str, float]
    correlation: Mapping[str, float] | None = None
    seed: int = 0

    @property
    def target(self) -> str | None:
        """The environment whose shift goes beyond that of all others, or is the reverse; None where none's does."""
        sizes = {name: 1 - share for name, share in self.correlation.items()} if self.correlation else self.strength
        second, largest = sorted(sizes, key=lambda name: sizes[name])[-2:]
        return largest if self.shift != "none" and sizes[largest] > sizes[second] else None

    @property
    def parts(self) -> tuple[str, ...]:
        """What must be found with `target` held out: `interventions`, `environments`, both or neither.

        Interventions where they cover the shift, the environments' means where the strengths of the sources differ.
        """
        if self.target is None:
            return ()
        seen = {strength for name, strength in self.strength.items() if name != self.target}
        found = {"interventions": self.shift in COVERED, "environments": len(seen) > 1}
        return tuple(name for name, is_found in found.items() if is_found)


@dataclass(frozen=True)
class PlantedImage:
    """One image of a planted data set.

    Attributes:
        environment: in which it stands.
        class_name: of what it shows.
        concept: what it shows, which is also its group.
        style: whose drawing it is.
        change: which of the `CHANGES` it carries, 0 to 9.
    """

    environment: str
    class_name: str
    concept: str
    style: str
    change: int

    @property
    def path(self) -> str:
        """Where it lies in the data set's folder."""
        return f"{self.environment}/{self.class_name}/{self.concept}-{self.style}.png"


def build(planted: Planted) -> Path:
    """Draw a planted data set once and return its folder; a later call returns at once.

    Returns:
        The folder, below `cache_dir()/datasets`, its name holding a hash of all that determines the content:
        `<environment>/<class>/<concept>-<style>.png`, 224 × 224 pixels, 284 images for each style. With several styles
        `groups.csv` beside the environments names the concept of every image, for the drawings of one concept belong
        together. With one style there is none: each concept is one image, and stands in one environment.

    Raises:
        IcmBenchError: a package cannot be fetched, or `resvg-py` is missing.
    """
    root = cache_dir() / "datasets" / f"{NAME}-{content_hash(planted)}"
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    drawings = emoji_styles.drawings()
    images = contents(planted, {name: sorted(svgs) for name, svgs in drawings[planted.styles[0]].items()})
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{NAME}-") as scratch:
        folder = Path(scratch) / "root"
        progress = Progress(f"drawing {NAME} ({planted.shift})", len(images), "images")
        for image in images:
            svg = drawings[image.style][image.class_name][image.concept]
            file = folder / image.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(draw(changed(svg, planted.shift, image.change, planted.strength[image.environment])))
            progress.update(note=image.environment)
        progress.close()
        if len(planted.styles) > 1:
            emoji_styles.write_groups(folder, [(image.path, image.concept) for image in images])
        publish(folder, root)
    return root


def content_hash(planted: Planted) -> str:
    """Return 12 hex digits that stand for all that determines the content of a planted data set."""
    spec = [planted.styles, planted.shift, sorted(planted.strength.items()), planted.seed]
    correlation = None if planted.correlation is None else sorted(planted.correlation.items())
    drawing = [VERSION, IMAGE_SIZE, CHANGES, TINT, FIRST_HUE, INK, LINE, COVER, emoji_styles.content_hash()]
    return hashlib.sha256(json.dumps([drawing, spec, correlation]).encode()).hexdigest()[:12]


def contents(planted: Planted, classes: Mapping[str, Sequence[str]]) -> list[PlantedImage]:
    """Return the images of a planted data set and the change that each carries, sorted by path. Nothing is drawn.

    Args:
        planted: the data set.
        classes: class -> its concepts, in any order; at most `CHANGES` classes, no concept twice.
    """
    environment = deal(classes, sorted(planted.strength), planted.seed)
    images = []
    for place in planted.strength:
        # Class by class, and of each class in an order that says who carries its change.
        drawings = [
            (name, concept, style)
            for name in sorted(classes)
            for concept, style in _shuffled(
                [(c, s) for c in classes[name] if environment[c] == place for s in planted.styles],
                planted.seed,
                "carries",
            )
        ]
        changes = _changes(planted, place, drawings)
        images += [PlantedImage(place, *d, change) for d, change in zip(drawings, changes, strict=True)]
    return sorted(images, key=lambda image: image.path)


def _changes(planted: Planted, environment: str, drawings: Sequence[tuple[str, str, str]]) -> list[int]:
    """Return the change of each (class, concept, style) of an environment, given class by class."""
    if planted.correlation is None:
        return [0] * len(drawings)
    own = changes_of_classes({name for name, _, _ in drawings}, planted.seed)
    changes = []
    for (name, concept, style), carries in zip(
        drawings, _spread(planted.correlation[environment], len(drawings)), strict=True
    ):
        others = sorted(change for other, change in own.items() if other != name)
        drawn = others[_digest(planted.seed, "other", concept, style) % len(others)]
        changes.append(own[name] if carries else drawn)
    return changes


def deal(classes: Mapping[str, Sequence[str]], environments: Sequence[str], seed: int) -> dict[str, str]:
    """Return concept -> environment: of every class, and over all, environments get equally many, up to one.

    Args:
        classes: class -> its concepts, in any order; no concept twice.
        environments: names of the environments.
        seed: another seed is another deal.
    """
    order = [concept for name in sorted(classes) for concept in _shuffled(classes[name], seed, "deal")]
    return {concept: environments[place % len(environments)] for place, concept in enumerate(order)}


def changes_of_classes(classes: Iterable[str], seed: int) -> dict[str, int]:
    """Return class -> the change that is its own where there is a correlation, 0 to `CHANGES` - 1, no two the same."""
    return {name: change for change, name in enumerate(_shuffled(classes, seed, "change"))}


def changed(svg: str, shift: Shift, change: int, strength: float) -> str:
    """Return a drawing with a change.

    `fade` takes the share `strength` of their colour from all pixels, whatever the change: at 1 the drawing is what the
    intervention `grayscale` makes of it, but for rounding.
    `tint` multiplies all of the image, the white ground included, channel by channel with
    1 - strength × TINT × (1 - hue's channel), where the hues are spread evenly over the circle, from
    blue (216 degrees) on. `texture` lays grey lines behind the drawing, LINE wide, LINE / (COVER × strength) from
    middle to middle, turned by change × 18 degrees.

    Args:
        svg: an SVG document with a square `viewBox`.
        shift: the kind of change.
        change: which of the changes of that kind, 0 to `CHANGES` - 1.
        strength: its size, 0 to 1; at 0 the very document is returned.
    """
    if shift == "none" or strength == 0:
        return svg
    opening = re.search(r'<svg[^>]*\bviewBox="([^"]*)"[^>]*>', svg)
    assert opening is not None, "every drawing has a viewBox"
    x, y, width, _ = map(float, opening[1].split())
    if shift == "fade":
        end = svg.rindex("</svg>")
        return (
            f'{svg[: opening.end()]}{_fading(strength)}<g filter="url(#fade)">{svg[opening.end() : end]}</g>{svg[end:]}'
        )
    place = f'transform="translate({x:g} {y:g}) scale({width / IMAGE_SIZE:.9g})"'
    if shift == "tint":
        at, layer = svg.rindex("</svg>"), f'<g style="mix-blend-mode:multiply" {place}>{_tint(change, strength)}</g>'
    else:
        at, layer = opening.end(), f"<g {place}>{_hatching(change, strength)}</g>"
    return svg[:at] + layer + svg[at:]


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


def _tint(change: int, strength: float) -> str:
    """Return a rectangle over the whole image in the colour of a cast, as SVG."""
    sixth = 6 * ((change + FIRST_HUE) % CHANGES) / CHANGES  # of the circle of hues: red 0, green 2, blue 4
    distances = (min(abs(sixth - centre), 6 - abs(sixth - centre)) for centre in (0, 2, 4))
    channels = (min(max(2 - distance, 0), 1) for distance in distances)
    red, green, blue = (round(255 * (1 - strength * TINT * (1 - channel))) for channel in channels)
    return f'<rect width="{IMAGE_SIZE}" height="{IMAGE_SIZE}" fill="#{red:02x}{green:02x}{blue:02x}"/>'


def _hatching(change: int, strength: float) -> str:
    """Return parallel lines over the whole image, none of them through its centre, as SVG."""
    middle, spacing = IMAGE_SIZE / 2, LINE / (COVER * strength)
    reach = math.ceil(IMAGE_SIZE / spacing)  # enough for the diagonal, half of which is 0.71 of a side
    places = (middle + (line + 0.5) * spacing for line in range(-reach, reach))
    lines = "".join(f"M{place:.3f} {-IMAGE_SIZE}V{2 * IMAGE_SIZE}" for place in places)
    turn = f"rotate({180 * change / CHANGES:g} {middle:g} {middle:g})"
    return f'<path d="{lines}" stroke="#{INK:02x}{INK:02x}{INK:02x}" stroke-width="{LINE:g}" transform="{turn}"/>'


def _spread(share: float, count: int) -> Iterator[bool]:
    """Yield `count` answers: of all of them `share` are yes up to half an answer, of every run of them up to one."""
    return (_whole(share * (place + 1)) > _whole(share * place) for place in range(count))


def _whole(number: float) -> int:
    return math.floor(number + 0.5)


def _shuffled(items: Iterable[T], seed: int, purpose: str) -> list[T]:
    """Return the items in an order that depends on seed, purpose and each item alone."""
    return sorted(items, key=lambda item: _digest(seed, purpose, json.dumps(item)))


def _digest(seed: int, *words: str) -> int:
    """Return a number of 64 bits that seed and words determine, in every version of Python alike."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *words]).encode()).digest()[:8], "big")
