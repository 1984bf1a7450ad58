"""Formats of image files that are decoded. Pillow detects the format by content, not by file name."""

from collections.abc import Sequence

# MPO is a JPEG file with further frames; JPEG's decoder recognizes it, and the first frame is used. A further format
# also needs a word in `ImagesSpec.formats` (recipe/specs.py), and an import of Pillow's plugin in embedding/opening.py.
# It also needs a new `STORE_VERSION` (store/embeddings.py), since stored parts list its images as unreadable.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
NAMES = ", ".join([*FORMATS, "MPO"])
NEVER = {
    "EPS": "it is a program that Ghostscript runs",
    "FPX": "it is a container of other files",
    "IPTC": "it is a container of files of any format",
    "MIC": "it is a container of other files",
    "WMF": "it is a list of drawing commands for Windows",
}
"""Format -> why no recipe may enable it: its decoder starts other programs, or opens files inside the file."""


def further_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Return the formats in `names` that are not decoded by default, by Pillow's names, sorted and distinct.

    Args:
        names: names of formats in the recipe, in upper or lower case.

    Raises:
        ValueError: Pillow has no decoder with this name, or the format is in `NEVER`.
    """
    from PIL import Image  # slow: imported only for recipes that name formats

    from benchmark.common.errors import nearest

    Image.init()
    known = [name for name in Image.OPEN if name not in NEVER]
    wanted = sorted({name.upper() for name in names} - {*FORMATS, "MPO"})
    for name in wanted:
        if name in NEVER:
            raise ValueError(f"'{name}' is never decoded: {NEVER[name]}; convert the files to PNG.")
        if name not in known:
            raise ValueError(f"unknown format '{name}': {nearest(name, known)}")
    return tuple(wanted)
