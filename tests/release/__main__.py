"""`python -m tests.release` checks a release; `make release-check` starts it. About ten minutes on two cores.

    python -m tests.release [STEP ...] [--archives FOLDER] [--tag v0.2.0]

Steps, all by default: `archives` builds the wheel and the source archive from the files of the working tree; `wheel`
runs the demo from the wheel, and compares its report with that of the checkout; `source` runs tests from the unpacked
source archive; `workflows` checks .github; `site` builds the pages. Each archive has an environment of its own outside
the checkout. The checkout's demo uses the store of `make demo`, so rows that are there are not computed again.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.release.links import broken
from tests.release.reports import contents, differences

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAX_WHEEL, MAX_SOURCE = 1.5e6, 8e6  # bytes
MAX_SECONDS, MAX_EXAMPLE_SECONDS = 720, 20
ROOMS = ("tests/method", "tests/recipe", "tests/store")
FORMS = {"workflows/*.yml": "github-workflows", "ISSUE_TEMPLATE/[!c]*.yml": "github-issue-forms",
         "ISSUE_TEMPLATE/config.yml": "github-issue-config"}  # fmt: skip
MADE = re.compile(r"(PKG-INFO|setup\.cfg|icm_bench\.egg-info/.*)")  # by setuptools, in a source archive


class Refused(Exception):
    """A release that must not be made; the message says why."""


class Release:
    """The steps of a check; `work` is a folder outside the checkout, and has the output of each program."""

    def __init__(self, work: Path, tag: str | None = None) -> None:
        self.work, self.tag = work, tag
        self.dist = work / "dist"

    def archives(self) -> str:
        """Build both archives, and check their sizes, files and descriptions."""
        if self.tag not in (None, f"v{PROJECT['version']}"):
            raise Refused(f"the tag {self.tag} is not v{PROJECT['version']}, the version in pyproject.toml")
        copy = self.work / "tree"
        tracked = self.run("git", "ls-files", "-co", "--exclude-standard", cwd=REPOSITORY).splitlines()
        tracked = [name for name in tracked if (REPOSITORY / name).is_file()]
        for name in tracked:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, copy / name)
        self.run(sys.executable, "-m", "build", "--outdir", str(self.dist), cwd=copy)
        wheel, source = self.wheel_file, self.source_file
        for file, limit in ((wheel, MAX_WHEEL), (source, MAX_SOURCE)):
            if file.stat().st_size > limit:
                raise Refused(f"{file.name} has {file.stat().st_size:,} bytes, more than {limit:,.0f}")
        with tarfile.open(source) as archive:
            inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
        if wrong := sorted({*tracked} ^ {name for name in inside if not MADE.fullmatch(name)}):
            raise Refused(f"{source.name} and the working tree differ in {', '.join(wrong[:9])}; see MANIFEST.in")
        with zipfile.ZipFile(wheel) as archive:
            [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            page = archive.read(metadata).decode()
        if targets := [t for t in re.findall(r"\]\(([^)\s]+)\)", page) if not re.match(r"https?:", t)]:
            raise Refused(f"the package's page has links that lead nowhere: {', '.join(targets)}")
        return f"{wheel.name} {wheel.stat().st_size:,} bytes, {source.name} {source.stat().st_size:,} bytes"

    @property
    def wheel_file(self) -> Path:
        """The wheel."""
        return next(self.dist.glob("*.whl"))

    @property
    def source_file(self) -> Path:
        """The source archive."""
        return next(self.dist.glob("*.tar.gz"))

    def wheel(self) -> str:
        """Run the demo and README's Python from the wheel, and compare the demo's report with the checkout's."""
        python = self._environment("of-wheel", f"{self.wheel_file}[cpu,demo]")
        empty = self.work / "empty"
        empty.mkdir()
        home = self.run(str(python), "-P", "-c", "import benchmark; print(benchmark.__file__)", cwd=empty).strip()
        if not Path(home).is_relative_to(python.parents[1]):
            raise Refused(f"the wheel's environment imports {home}")
        began = time.monotonic()
        examples = [code for code in _python_of(REPOSITORY / "README.md") if "import icm_bench" in code]
        for code in examples:
            self.run(str(python), "-P", "-c", code, cwd=empty, timeout=MAX_EXAMPLE_SECONDS)
        example = f"README's Python {time.monotonic() - began:.0f} s; " if examples else ""
        outs = self.work / "from-wheel", self.work / "from-checkout"
        store = self.work / "store"
        self.run(str(python.parent / "icm-bench"), "demo", "--out", str(outs[0]), "--store", str(store), cwd=empty)
        self.run(str(Path(sys.executable).parent / "icm-bench"), "demo", "--out", str(outs[1]), cwd=REPOSITORY)
        shared = {"WORK": self.work, "CHECKOUT": REPOSITORY}
        reports = [contents(out, {"OUT": out, **shared}) for out in outs]
        if wrong := differences(*reports):
            raise Refused(f"the reports of wheel and checkout differ in {', '.join(wrong[:9])}, see {self.work}")
        return f"{example}the demo's report equals the checkout's in {len(reports[0])} files"

    def source(self) -> str:
        """Run tests from the unpacked source archive."""
        python = self._environment("of-source", f"{self.source_file}[cpu,demo,dev]")
        with tarfile.open(self.source_file) as archive:
            archive.extractall(self.work / "unpacked", filter="data")
        [root] = (self.work / "unpacked").iterdir()
        # Two processes, as in `make test`; tests may take longer, since the demo runs beside.
        options = ["-q", "-n", "2", "--dist", "loadscope", "--max-worker-restart=0", "-o", "timeout=400"]
        printed = self.run(str(python), "-m", "pytest", *options, "-m", "not long", *ROOMS, cwd=root)
        return f"{' '.join(ROOMS)}: {printed.strip().splitlines()[-1].strip('= ')}"

    def workflows(self) -> str:
        """Check workflows and forms of .github against their schemas, and workflows for weaknesses."""
        folder, tools = REPOSITORY / ".github", Path(sys.executable).parent
        count = 0
        for pattern, schema in FORMS.items():
            files = sorted(map(str, folder.glob(pattern)))
            self.run(str(tools / "check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *files, cwd=REPOSITORY)
            count += len(files)
        self.run(str(tools / "zizmor"), "--offline", "--no-progress", "--pedantic", str(folder), cwd=REPOSITORY)
        return f"{count} files"

    def site(self, to: Path | None = None) -> str:
        """Build the site; a warning or a broken link ends it."""
        to = to or self.work / "site"
        shutil.rmtree(to, ignore_errors=True)
        words = ("-W", "--keep-going", "-q", "-d", str(self.work / "doctrees"), "-c", "docs", ".", str(to))
        self.run(sys.executable, "-m", "sphinx", *words, cwd=REPOSITORY)
        if wrong := broken(to):
            raise Refused(f"{len(wrong)} broken links: {'; '.join(wrong[:9])}")
        return f"{len([*to.rglob('*.html')])} pages in {to}"

    def _environment(self, name: str, requirement: str) -> Path:
        """Create a virtual environment with a package, and return its Python."""
        folder = self.work / name
        self.run(sys.executable, "-m", "venv", str(folder), cwd=self.work)
        python = folder / "bin" / "python"
        options = ("--quiet", "--no-compile", "-c", str(REPOSITORY / "constraints.txt"))
        self.run(str(python), "-m", "pip", "install", *options, requirement, cwd=self.work)
        return python

    def run(self, *words: str, cwd: Path, timeout: float | None = None) -> str:
        """Run a program without the checkout on its path, and return what it prints; refuse one that fails."""
        variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "RAY_ADDRESS")}
        variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        what = " ".join(words)[:200]
        try:
            done = subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Refused(f"`{what}` took more than {timeout:.0f} s") from None
        if done.returncode:
            raise Refused(f"`{what}` ended with {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
        return done.stdout


def _python_of(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _told(name: str, step: Callable[[], str]) -> bool:
    """Run a step and print its result; return whether it passed."""
    began = time.monotonic()
    try:
        said, passed = step(), True
    except Refused as error:
        said, passed = f"REFUSED: {error}", False
    print(f"{name} ({time.monotonic() - began:.0f} s): {said}", flush=True)
    return passed


def main(words: Sequence[str] | None = None) -> int:
    """Run steps; return 0 if all passed, else 1."""
    steps = ("archives", "wheel", "source", "workflows", "site")
    parser = argparse.ArgumentParser(prog="python -m tests.release", description="Check a release.")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(steps)}; default: all")
    parser.add_argument("--archives", type=Path, metavar="FOLDER", help="copy the archives there if all steps pass")
    parser.add_argument("--site", type=Path, metavar="FOLDER", help="build the site there, and keep it")
    parser.add_argument("--tag", help="tag of the release, which must be that of the version")
    args = parser.parse_args(words)
    asked = [name for name in steps if name in (args.steps or steps)]
    if unknown := {*args.steps} - {*steps}:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    if {"wheel", "source"} & {*asked} and "archives" not in asked:
        asked.insert(0, "archives")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="icm-bench-release-") as folder:
        release = Release(Path(folder), args.tag)
        made: dict[str, Callable[[], str]] = {name: getattr(release, name) for name in asked}
        if "site" in made:
            made["site"] = lambda: release.site(args.site)
        first = [_told("archives", made.pop("archives"))] if "archives" in made else [True]
        if not all(first):
            return 1
        lanes = [[name for name in made if name == "wheel"], [name for name in made if name != "wheel"]]  # side by side
        with ThreadPoolExecutor(len(lanes)) as pool:
            passed = pool.map(lambda lane: [_told(name, made[name]) for name in lane], lanes)
            right = all(one for lane in passed for one in lane)
        if right and args.archives:
            shutil.copytree(release.dist, args.archives, dirs_exist_ok=True)
    seconds = time.monotonic() - began
    print(f"{'passed' if right else 'refused'} in {seconds:.0f} s (at most {MAX_SECONDS} on two idle cores)")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
