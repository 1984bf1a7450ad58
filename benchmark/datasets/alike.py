"""Names that look alike and are two: of classes, environments and groups, which nobody tells apart in a table."""

import unicodedata
from collections.abc import Callable, Iterable

# Cyrillic and Greek letters, and the Latin ones that they look like.
_LETTERS = str.maketrans(
    "аеорсухіјѕԁһкмтвнАВЕКМНОРСТХІЈЅοανιρυκΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeopcyxijsdhkmtbhABEKMHOPCTXIJSoavipukABEZHIKMNOPTYX"
)


def look(name: str) -> str:
    """Return what is seen of a name: without what has no shape, and whatever script its letters are of."""
    signs = (sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign)[0] != "C")
    return " ".join("".join(signs).translate(_LETTERS).split())


def spoken(name: str) -> str:
    """Return what a prompt says of a class, for text towers that do not see capitals."""
    return look(name.replace("_", " ")).casefold()


def alike(names: Iterable[str], seen: Callable[[str], str] = look) -> list[tuple[str, str]]:
    """Return two names of each look that several names have; `seen` is what is seen of a name."""
    first: dict[str, str] = {}
    pairs: dict[str, tuple[str, str]] = {}
    for name in sorted(set(names)):
        if (known := first.setdefault(seen(name), name)) != name:
            pairs.setdefault(known, (known, name))
    return list(pairs.values())


def by_number(name: str) -> str:
    """Return a name with all signs beyond printable ASCII by their numbers: `cU+0430t`."""
    return "".join(sign if " " <= sign <= "~" else f"U+{ord(sign):04X}" for sign in name)
