r"""Text as LaTeX prints it: no package, whatever the encoding of the fonts."""

import unicodedata
from functools import lru_cache
from itertools import groupby

from benchmark.common.terminal.escaping import one_line

_WORD = 14  # letters: a longer word may be broken there, and behind the signs that part its own words
_BREAKABLE = "_/,.:+"
_LIGATURES = "-'`,"  # two of them print as another sign
_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "—": "---", "–": "--", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "÷": r"$\div$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "…": r"\ldots{}", "‘": "`{}", "’": "'{}", "“": "``", "”": "''", "„": ",,",
    "·": r"$\cdot$", "•": r"$\bullet$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "≈": r"$\approx$",
    "→": r"$\rightarrow$", "←": r"$\leftarrow$", "∞": r"$\infty$", "°": r"$^\circ$", "§": r"\S{}", "¶": r"\P{}",
    "©": r"\copyright{}", "®": r"\textregistered{}", "£": r"\pounds{}", "€": "EUR", "«": r"$\ll$", "»": r"$\gg$",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th",
    "\u2044": "/", "\u2010": "-", "\u2011": "-", "\u00a0": "~", "µ": r"$\mu$",
    **{chr(ord("α") + i): rf"$\{name}$" for i, name in enumerate(_GREEK)},
    **{sign: rf"$\{_GREEK[ord(sign) - ord('Α')].title()}$" for sign in "ΓΔΘΛΞΠΣΥΦΨΩ"},
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True)),
}  # fmt: skip
_ACCENTS = {
    "\u0300": r"\`", "\u0301": r"\'", "\u0302": r"\^", "\u0303": r"\~", "\u0304": r"\=", "\u0306": r"\u",
    "\u0307": r"\.", "\u0308": r"\"", "\u030a": r"\r", "\u030b": r"\H", "\u030c": r"\v", "\u0327": r"\c",
    "\u0323": r"\d", "\u0331": r"\b",
}  # fmt: skip


@lru_cache(maxsize=8192)
def spelled(text: str) -> str:
    """Return a text in signs that LaTeX has: what Computer Modern lacks is transliterated or written as U+4E2D."""
    written: list[str] = []
    for sign in unicodedata.normalize("NFC", one_line(text)):
        own = _transliterated(sign)
        apart = own.startswith("U+") and written and written[-1].startswith(("U+", " U+"))
        written.append(f" {own}" if apart else own)
    return "".join(written)


@lru_cache(maxsize=8192)
def latex_escape(text: str, breaks: bool = False) -> str:
    r"""Return text that LaTeX prints as it is, `spelled` where it has to be.

    Args:
        text: a name or a sentence.
        breaks: whether a long word may be broken, behind `_`, `/`, `.` and the like or else after 14 signs.
    """
    written: list[str] = []
    quoted = False
    for is_blank, run in groupby(spelled(text), key=lambda sign: sign == " "):
        signs = list(run)
        long = breaks and not is_blank and len(signs) > _WORD
        before, since = "", 0
        for sign in signs:
            tex = _tex(sign)
            if tex == '"':
                quoted, tex = not quoted, "''" if quoted else "``"
            parted = (before == tex and tex in _LIGATURES) or (tex == "`" and before in ("?", "!"))
            written.append(f"{{}}{tex}" if parted else tex)
            before, since = tex, since + 1
            if long and (since >= _WORD or (since > 2 and sign in _BREAKABLE)):
                written.append(r"\allowbreak{}")
                since = 0
            since = 0 if sign == "-" else since  # LaTeX breaks there
    return "".join(written)


def _is_known(sign: str) -> bool:
    return sign in _LATEX or (sign.isascii() and sign.isprintable())


@lru_cache(maxsize=8192)
def _transliterated(sign: str) -> str:
    """Return a sign that LaTeX has, or its accent, as it is; else without one, signs that look alike, or its number."""
    base, *marks = list(unicodedata.normalize("NFD", sign))
    is_letter = bool(marks) and base.isascii() and base.isalpha()
    if _is_known(sign) or (is_letter and not _ACCENTS.keys().isdisjoint(marks)):
        return sign
    if is_letter or base in _LATEX:
        return base
    alike = [s for s in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(s)]
    return "".join(alike) if alike and all(map(_is_known, alike)) else f"U+{ord(sign):04X}"


def _tex(sign: str) -> str:
    """Return the LaTeX of one sign of `spelled` text; of two accents the first."""
    if _is_known(sign):
        return _LATEX.get(sign, sign)
    base, *marks = list(unicodedata.normalize("NFD", sign))
    return f"{next(_ACCENTS[mark] for mark in marks if mark in _ACCENTS)}{{{base}}}"
