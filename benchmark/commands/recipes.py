"""`icm-bench recipes`: lists, prints and copies packaged recipes, the files in jobs/recipes/.

A new recipe must be named in docs/reproducing.md; `python -m tests.docs.generate` writes the counts in its head. If its
line `compare` has published numbers, tests/reports/analysis/test_published.py needs them too.
"""

from importlib.resources import files
from pathlib import Path

from benchmark.commands.interchange.files import check_absent, write_new
from benchmark.common.errors import IcmBenchError, nearest

DEMO = "demo"


def packaged_recipes() -> dict[str, Path]:
    """Return the file of each packaged recipe by name, in alphabetical order."""
    folder = Path(str(files("jobs") / "recipes"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def packaged_recipe(name: str) -> Path:
    """Return the file of a packaged recipe.

    Raises:
        IcmBenchError: the name is unknown.
    """
    recipes = packaged_recipes()
    if name not in recipes:
        raise IcmBenchError(f"Unknown recipe '{name}': {nearest(name, [*recipes])}")
    return recipes[name]


def about_recipes() -> dict[str, str]:
    """Return the description of each packaged recipe by name: the first line of its file."""
    texts = {name: file.read_text(encoding="utf-8") for name, file in packaged_recipes().items()}
    return {name: text.partition("\n")[0].lstrip("# ") for name, text in texts.items()}


def copy_recipe(name: str, out: Path) -> None:
    """Copy a packaged recipe.

    Args:
        name: name of the recipe.
        out: file of the copy.

    Raises:
        IcmBenchError: the name is unknown, or the file exists or cannot be written.
    """
    text = packaged_recipe(name).read_text(encoding="utf-8")
    if not write_new(out, text, "--out"):
        check_absent(out, "--out")
