"""The README and the pages are true: commands exist, recipes are valid, Python runs, files are there, links lead somewhere."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.command_line import command_parser
from benchmark.datasets.readers import READERS
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import RULES
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.recipe.loading import load_recipe, parse_recipe
from tests.conftest import REPOSITORY
from tests.docs.generate import PAGES

README = REPOSITORY / "README.md"
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
ALL = [README, *DOCS, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "SECURITY.md", REPOSITORY / "CHANGELOG.md"]
# What a person starts by hand, and ten minutes are too long for: everything else stands in .ci/run.
BY_HAND = {"make bench", "make docs", "make fuzz", "make help", "make release-check", "make site"}
# Of docs/places.md, which says what of them was run and what was only checked: no cloud is at hand.
OF_CLUSTERS = {"ray up", "ray down", "ray dashboard", "docker build", "kubectl create", "kubectl apply", "kubectl logs",
               "kubectl delete", "sbatch --nodes=4", "squeue --me", "scancel --me"}  # fmt: skip
SMALLEST = {"name": "fragment", "datasets": ["PACS"], "backbones": [{"name": "ViT-B-32", "pretrained": "random"}]}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


TESTS = [
    file.read_text(encoding="utf-8") for file in (REPOSITORY / "tests").rglob("test_*.py") if file.parent.name != "docs"
]
COMMANDS = sorted(
    {line.split(" #")[0].strip() for page in ALL for block in blocks(page, "sh") for line in block.splitlines()} - {""}
)
CODED = [page for page in ALL if page.name != "adding.md"]  # whose examples tests/docs/test_adding.py runs
FRAGMENTS = [
    pytest.param(block, id=f"{page.name}-{i}") for page in CODED for i, block in enumerate(blocks(page, "yaml"))
]
PYTHON = [  # tests/commands/test_in_memory.py runs the README's
    pytest.param(block, id=f"{page.name}-{i}")
    for page in CODED
    for i, block in enumerate(blocks(page, "python"))
    if page != README
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_a_test_or_ci_runs(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert command in (REPOSITORY / ".ci" / "run").read_text()
    elif words == ["icm-bench", "--help"]:
        pass  # tests/test_architecture.py runs it
    elif words[0] == "icm-bench":
        assert command_parser().parse_args(words[1:]).command is not None
        assert any(f'"{words[1]}",' in test or f'["{words[1]}"]' in test for test in TESTS), f"no test runs {words[1]}"
    elif " ".join(words[:2]) in OF_CLUSTERS:
        assert command in (REPOSITORY / "docs" / "places.md").read_text()
    elif words[0] == "source":
        assert words[1] == ".venv/bin/activate"
        assert "VENV := .venv\n" in (REPOSITORY / "Makefile").read_text()
    else:  # tests/jobs/test_submit.py runs these with ports and a token of its own
        submit = (REPOSITORY / "tests" / "jobs" / "test_submit.py").read_text()
        verbs = [w for w in words if re.fullmatch(r"[a-z-]+", w) and w not in ("ray", "python")]
        assert verbs
        assert all(f'"{verb}"' in submit for verb in verbs)


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_every_make_target_and_command_within_a_sentence_exists(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    ci = (REPOSITORY / ".ci" / "run").read_text()
    for words in re.findall(r"`(make [a-z-]+)[^`]*`", page.read_text()):
        assert words.split()[1] in targets
        assert words in ci or words in BY_HAND | {"make setup", "make docs"}, words
    for words in re.findall(r"`icm-bench ([^`]+)`", page.read_text()):
        command = shlex.split(words)
        if len(command) > 1:  # else it is the name of a command
            assert command_parser().parse_args(command).command is not None


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_every_recipe_is_valid(fragment: str) -> None:
    content: dict[str, Any] = yaml.safe_load(fragment)
    assert parse_recipe(SMALLEST | content).name == content.get("name", "fragment")


@pytest.mark.parametrize("code", PYTHON)
def test_all_python_runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout == "(1000, 32)\n(1000, 64) (7, 64)\n"


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_every_file_it_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:benchmark|jobs|docs|reports|tests)/[\w/]+\.(?:py|yaml|png|md|json)", text):
        assert (REPOSITORY / name).is_file(), name
    for name in re.findall(r"`((?:benchmark|jobs|reports|tests)/[\w/]*)`", text):
        assert (REPOSITORY / name).exists(), name


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            place = page.parent / path if path else page
            assert place.exists(), target
            assert not anchor or anchor in headings(place), target


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_reached_from_the_readme() -> None:
    assert {page for page in DOCS if f"docs/{page.name}" not in README.read_text()} == set()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_not_stale(name: str) -> None:
    assert (REPOSITORY / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("comparisons.md", [*PROJECTIONS.names(), *PREDICTORS.names(), *PROTOCOLS.names(), *RULES]),
        ("data.md", READERS.names()),
    ],
)
def test_every_name_that_a_recipe_may_use_is_explained(page: str, names: list[str]) -> None:
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_citation_names_this_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert f"## {version}" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_a_constraint_stands_for_every_dependency() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {_normal(line.split("==")[0]) for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line)}
    assert [line for line in lines if not line.startswith("#") and _normal(line.split("==")[0]) not in pinned] == []
    for requirement in (
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ):
        assert _normal(re.match(r"[\w.-]+", requirement)[0]) in pinned  # type: ignore[index]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_shipped_recipe_is_valid_and_says_how_to_run_it() -> None:
    recipes = sorted((REPOSITORY / "jobs" / "recipes").glob("*.yaml"))
    assert recipes
    for file in recipes:
        assert load_recipe(file).name == file.stem
        assert "#   command   icm-bench" in file.read_text()
        assert f"`{file.stem}`" in (REPOSITORY / "docs" / "reproducing.md").read_text()
