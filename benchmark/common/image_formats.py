"""Which formats of image files are decoded. Pillow tells formats by content: the name of a file says nothing."""

from collections.abc import Sequence

# MPO is a JPEG with further frames behind it, and is told apart by JPEG's decoder; its first frame is taken.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
NAMES = ", ".join([*FORMATS, "MPO"])
NEVER = {
    "EPS": "it is a program that Ghostscript runs",
    "FPX": "it is a container of other files",
    "IPTC": "it is a container of files of any format",
    "MIC": "it is a container of other files",
    "WMF": "it is a list of drawing commands for Windows",
}
"""Formats that no recipe can ask for, and why: their decoders start other programs or open what they find inside."""


def further_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Return formats beside the usual ones as Pillow names them, sorted, each once.

    Args:
        names: as a recipe has them, in any case.

    Raises:
        ValueError: Pillow has no decoder of that name, or one that is never used.
    """
    from PIL import Image  # only recipes that ask for formats pay for all of Pillow

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
