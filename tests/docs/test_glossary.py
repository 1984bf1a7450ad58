"""The glossary has the words of the code, and no page has a word that was retired."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

GLOSSARY = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^\| (?!term)([^|`]+) \| `(\w+)` \| ([^|]+) \|$", GLOSSARY, flags=re.MULTILINE)
RETIRED = {  # word -> the one that stands in its place
    "judging images": "validation images",
    "judging split": "validation split",
    "patience": "timeout, or how long a call is tried again",
    "fewest": "minimum",
    "captioner": "caption model",
    "level within": "equivalent within",
    "cluster environments": "pseudo-environments",
}


def identifiers(code: str) -> set[str]:
    """Every name of a module: definitions, arguments, variables, attributes, fields and imported modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.arg(arg=name) | ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
            case ast.ImportFrom(module=str(module)):
                found |= set(module.split("."))
    return found


def test_it_has_25_terms_in_alphabetical_order() -> None:
    terms = [term for term, _, _ in TERMS]
    assert len(terms) == 25
    assert len(terms) == len([line for line in GLOSSARY.splitlines() if line.startswith("| ")]) - 1  # the head
    assert terms == sorted(set(terms), key=str.lower)


def test_every_term_is_one_of_the_code() -> None:
    files = [file for folder in ("benchmark", "reports") for file in (REPOSITORY / folder).rglob("*.py")]
    known = set().union(*(identifiers(file.read_text(encoding="utf-8")) for file in files))
    assert [name for _, name, _ in TERMS if name not in known] == []


def test_a_word_in_a_comment_a_docstring_or_a_text_is_no_identifier() -> None:
    assert identifiers('"""patience"""\nf("fold")  # rank\n') == {"f"}


@pytest.mark.parametrize(("term", "meaning"), [(term, meaning) for term, _, meaning in TERMS])
def test_a_meaning_is_one_sentence_or_two(term: str, meaning: str) -> None:
    assert re.fullmatch(r"[A-Z][^.]*\.( [A-Z][^.]*\.)?", meaning), term


@pytest.mark.parametrize(
    "page",
    sorted([*(f for f in REPOSITORY.glob("*.md") if f.name != "CHANGELOG.md"), *(REPOSITORY / "docs").glob("*.md")]),
    ids=lambda page: page.name,
)
def test_no_retired_word_stands_in_a_page(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").lower().split())
    found = {(page.name, word) for word in RETIRED if re.search(rf"\b{word}\b", text)}
    assert found == set(), {word: RETIRED[word] for _, word in found}
