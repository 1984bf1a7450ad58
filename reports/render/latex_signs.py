r"""Text as LaTeX has it, and how wide it is: no package, whatever the encoding of the fonts.

Widths are those of Computer Modern, or a little more: what is said to fit fits.
"""

import unicodedata
from functools import lru_cache
from itertools import groupby

from benchmark.common.visible import one_line

# Of cmr10 from the blank between words to the tilde, in thousandths of the size.
_WIDTHS = (
    340, 278, 500, 833, 500, 833, 778, 278, 389, 389, 500, 778, 278, 333, 278, 500, 500, 500, 500, 500, 500, 500, 500,
    500, 500, 500, 278, 278, 778, 778, 778, 472, 778, 750, 708, 722, 764, 681, 653, 785, 750, 361, 514, 778, 625, 917,
    750, 778, 681, 778, 736, 556, 722, 750, 750, 1028, 750, 750, 611, 278, 500, 278, 611, 500, 500, 500, 556, 444, 556,
    444, 306, 500, 556, 278, 306, 528, 278, 833, 556, 500, 556, 528, 392, 394, 389, 556, 528, 722, 528, 528, 444, 500,
    278, 500, 500,
)  # fmt: skip
# Fonts of small sizes are wider for their size than that of ten points; a fiftieth more for signs that stand apart.
_WIDER = {10: 1.02, 9: 1.05, 8: 1.085, 7: 1.165, 6: 1.25}
_BOLD, _ITALIC = 1.18, 1.07
_WORD = 14  # letters: a longer word may be broken there, and behind the signs that part its own words
_BREAKABLE = "_/,.:+"
_LIGATURES = "-'`,"  # two of them print as another sign
_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}",
}  # fmt: skip
# Sign -> its LaTeX, and as many ASCII letters as are as wide.
_OTHERS = {
    "—": ("---", "mm"), "–": ("--", "n"), "−": ("$-$", "="), "±": (r"$\pm$", "="), "×": (r"$\times$", "="),
    "÷": (r"$\div$", "="), "†": (r"\dag{}", "n"), "‡": (r"\ddag{}", "n"), "…": (r"\ldots{}", "mm"),
    "‘": ("`{}", "n"), "’": ("'{}", "n"), "“": ("``", "n"), "”": ("''", "n"), "„": (",,", "n"), "·": (r"$\cdot$", "n"),
    "•": (r"$\bullet$", "n"), "≤": (r"$\leq$", "="), "≥": (r"$\geq$", "="), "≠": (r"$\neq$", "="),
    "≈": (r"$\approx$", "="), "→": (r"$\rightarrow$", "M"), "←": (r"$\leftarrow$", "M"), "∞": (r"$\infty$", "M"),
    "°": (r"$^\circ$", "n"), "§": (r"\S{}", "n"), "¶": (r"\P{}", "m"), "©": (r"\copyright{}", "M"),
    "®": (r"\textregistered{}", "M"), "£": (r"\pounds{}", "m"), "€": ("EUR", "EUR"), "«": (r"$\ll$", "M"),
    "»": (r"$\gg$", "M"), "ß": (r"\ss{}", "n"), "æ": (r"\ae{}", "m"), "Æ": (r"\AE{}", "M"), "œ": (r"\oe{}", "m"),
    "Œ": (r"\OE{}", "W"), "ø": (r"\o{}", "n"), "Ø": (r"\O{}", "M"), "ł": (r"\l{}", "i"), "Ł": (r"\L{}", "H"),
    "ı": (r"\i{}", "i"), "đ": ("d", "d"), "Đ": ("D", "D"), "ð": ("d", "d"), "Ð": ("D", "D"), "þ": ("th", "th"),
    "Þ": ("Th", "Th"), "\u2044": ("/", "/"), "\u2010": ("-", "-"), "\u2011": ("-", "-"), "\u00a0": ("~", " "),
    "µ": (r"$\mu$", "m"),
}  # fmt: skip
_ACCENTS = {
    "\u0300": r"\`", "\u0301": r"\'", "\u0302": r"\^", "\u0303": r"\~", "\u0304": r"\=", "\u0306": r"\u",
    "\u0307": r"\.", "\u0308": r"\"", "\u030a": r"\r", "\u030b": r"\H", "\u030c": r"\v", "\u0327": r"\c",
    "\u0323": r"\d", "\u0331": r"\b",
}  # fmt: skip
_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_UPPER = {"Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon",
          "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega"}  # fmt: skip
_AS_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))


def latex_escape(text: str, breaks: bool = False) -> str:
    r"""Return text that LaTeX prints as it is; what Computer Modern lacks is transliterated or written as U+4E2D.

    Args:
        text: a name or a sentence.
        breaks: whether a long word may be broken, behind `_`, `/`, `.` and the like or else after 14 signs.
    """
    written: list[str] = []
    quoted = False
    for is_blank, run in groupby(_signs(text), key=lambda sign: sign[1] == " "):
        signs = list(run)
        long = breaks and not is_blank and sum(len(shown) for _, shown in signs) > _WORD
        before, since = "", 0
        for tex, shown in signs:
            if tex == '"':
                quoted, tex = not quoted, "''" if quoted else "``"
            parted = (before == tex and tex in _LIGATURES) or (tex == "`" and before in ("?", "!"))
            written.append(f"{{}}{tex}" if parted else tex)
            before, since = tex, since + len(shown)
            if long and (since >= _WORD or (since > 2 and shown in _BREAKABLE)):
                written.append(r"\allowbreak{}")
                since = 0
    return "".join(written)


@lru_cache(maxsize=32768)
def latex_width(text: str, points: float, bold: bool = False, italic: bool = False) -> float:
    """Return how wide a text is in points, or a little more.

    Args:
        text: as it is given to `latex_escape`.
        points: size of the font: 10, 9, 8, 7 or 6.
        bold: whether it is bold.
        italic: whether it is in italics.
    """
    thousandths = sum(_WIDTHS[ord(sign) - 32] for _, shown in _signs(text) for sign in shown)
    return thousandths / 1000 * points * _WIDER[int(points)] * (_BOLD if bold else _ITALIC if italic else 1)


@lru_cache(maxsize=8192)  # a table is measured at several sizes
def _signs(text: str) -> tuple[tuple[str, str], ...]:
    """Return the LaTeX of each sign of a text with ASCII letters that are as wide."""
    signs: list[tuple[str, str]] = []
    for sign in unicodedata.normalize("NFC", one_line(text)):
        signs += _sign(sign, after_number=bool(signs) and signs[-1][0].startswith("U+"))
    return tuple(signs)


def _sign(sign: str, after_number: bool) -> list[tuple[str, str]]:
    if sign in _SIGNS or (sign.isascii() and sign.isprintable()):
        return [(_SIGNS.get(sign, sign), sign)]
    if sign in _OTHERS:
        return [_OTHERS[sign]]
    base, *marks = list(unicodedata.normalize("NFD", sign))
    if (greek := _greek(base)) is not None:
        return [greek]
    if marks and base.isascii() and base.isalpha():
        accents = [_ACCENTS[mark] for mark in marks if mark in _ACCENTS][:1]  # two accents: the first one
        return [(f"{accents[0]}{{{base}}}" if accents else base, base)]
    alike = [s for s in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(s)]
    if alike != [sign] and alike and all(s in _OTHERS or (s.isascii() and s.isprintable()) for s in alike):
        return [one for s in alike for one in _sign(s, False)]
    number = f"U+{ord(sign):04X}"
    return [(" ", " "), (number, number)] if after_number else [(number, number)]


def _greek(sign: str) -> tuple[str, str] | None:
    if sign in _AS_LATIN:
        return _AS_LATIN[sign], _AS_LATIN[sign]
    if sign in _UPPER:
        return rf"$\{_UPPER[sign]}$", "M"
    if "α" <= sign <= "ω":
        return rf"$\{_GREEK[ord(sign) - ord('α')]}$", "m"
    return None
