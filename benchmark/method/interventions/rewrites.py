"""Whether a language model's rewrite of a caption is an intervention: the object stays, what surrounds it changes.

A rewrite is left out if it is empty, cut off, a refusal or the caption itself, or if it changes the class, by this
rule: where the caption names its class, the rewrite must name it too; where it does not (it may say "puppy" for a dog),
the rewrite must not bring in another class. A name is named by all of its words, in singular or plural.
"""

import re
from collections.abc import Collection

_APOSTROPHES = str.maketrans("’‘`", "'''")
_REFUSAL = re.compile(
    r"(i'?m|i am) (really |very |so )?(sorry|afraid|unable|not able)|(i'?m |we'?re )?sorry\b|(my )?apologies|"
    r"i (can'?t|can ?not|could not|couldn'?t|won'?t|will not|must decline|am not able|do not feel|don'?t feel)\b|"
    r"as an? (ai|language model)\b|unfortunately,? i\b"
)
_IRREGULAR = {
    "people": "person", "persons": "person", "men": "man", "women": "woman", "children": "child", "feet": "foot",
    "teeth": "tooth", "geese": "goose", "mice": "mouse", "knives": "knife", "wolves": "wolf", "leaves": "leaf",
    "calves": "calf", "shelves": "shelf", "loaves": "loaf", "scarves": "scarf", "oxen": "ox",
}  # fmt: skip
_QUOTES = "\"“”«»'‘’"


def cleaned(text: str) -> str:
    """Return a text of a model on one line, without quotation marks around it and in characters that can be stored."""
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").split())
    while len(line) > 1 and line[0] in _QUOTES and line[-1] in _QUOTES:
        line = line[1:-1].strip()
    return line


def why_left_out(
    caption: str,
    rewrite: str,
    class_name: str,
    classes: Collection[str] = (),
    finish: str = "stop",
    refused: bool = False,
) -> str | None:
    """Return why a rewrite cannot stand, or None if it can.

    Args:
        caption: what was rewritten.
        rewrite: as `cleaned` gives it.
        class_name: the class of the object, in words.
        classes: all classes, in words. Default: none are known.
        finish: why the model stopped, as OpenAI's protocol has it. Default `stop`.
        refused: whether the endpoint says that the model refused. Default False.
    """
    if refused or finish == "content_filter" or _REFUSAL.match(rewrite.translate(_APOSTROPHES).casefold()):
        return "refused"
    if not _words(rewrite):
        return "empty"
    if finish == "length":
        return "cut off"
    if _words(caption) == _words(rewrite):
        return "identical"
    before, after = set(_words(caption)), set(_words(rewrite))
    own = set(_words(class_name))
    if own <= after:
        return None
    if own <= before:
        return f"changes the class: '{class_name}' is gone"
    brought = (other for other in classes if (words := set(_words(other))) and words <= after and not words <= before)
    return next((f"changes the class: '{other}' comes in" for other in brought), None)


def _words(text: str) -> list[str]:
    """Return the words of a text in lower case, with one form for singular and plural as far as spelling tells."""
    return [_singular(word) for word in re.findall(r"[^\W_]+", text.casefold())]


def _singular(word: str) -> str:
    """Return what singular and plural of a word share: "horse" and "horses", "box" and "boxes", "sky" and "skies"."""
    word = _IRREGULAR.get(word, word)
    if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 2 and word.endswith("e"):
        word = word[:-1]
    return f"{word[:-1]}i" if word.endswith("y") else word
