"""A small font for figures: Matplotlib's own DejaVu Sans with the letters that names are mostly made of.

Each PDF embeds the letters that it uses, and to take them out of the whole font is a third of all the time that figures
cost. Letters that the small font lacks come from the whole one. The file lies in a temporary folder while Python runs.
"""

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib import font_manager

WHOLE, SMALL = "DejaVu Sans", "DejaVu Sans for figures"
_FAMILY, _FULL = 1, 4  # numbers of names in a font
_LETTERS = (
    *range(0x20, 0x180), *range(0x370, 0x460), *range(0x2010, 0x2030), *range(0x2070, 0x2090), 0x2212, 0x2264, 0x2265,
)  # fmt: skip
_SHAPING = ("GSUB", "GPOS", "GDEF", "FFTM")  # pairs of letters are set by the older table `kern`


@lru_cache(maxsize=1)
def family() -> list[str]:
    """Return the names of the fonts of figures, the small one first; it is made at the first call."""
    font = TTFont(font_manager.findfont(WHOLE), recalcTimestamp=False, lazy=True)
    for table in _SHAPING:
        if table in font:
            del font[table]
    options = subset.Options(glyph_names=True, notdef_outline=True, layout_features=[], hinting=False)
    options.drop_tables = [table for table in options.drop_tables if table != "kern"]
    taken = subset.Subsetter(options)
    taken.populate(unicodes=_LETTERS)
    taken.subset(font)
    for record in font["name"].names:
        if record.nameID in (_FAMILY, _FULL):
            record.string = SMALL
    folder = tempfile.mkdtemp(prefix="icm-bench-font-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "figures.ttf"
    font.save(str(path))
    font_manager.fontManager.addfont(str(path))
    return [SMALL, WHOLE]


def named(svg: bytes) -> bytes:
    """Return an SVG that asks for the whole font alone: a viewer has no small one."""
    return svg.replace(f"'{SMALL}', ".encode(), b"")
