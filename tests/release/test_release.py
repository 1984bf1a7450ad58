"""What a release is checked by finds what is wrong: links, reports, workflows, the package's page, the site's pages."""

import gzip
import importlib
import re
import runpy
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.release.__main__ import FORMS, Refused, Release
from tests.release.links import broken
from tests.release.reports import contents, differences

GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SITE = runpy.run_path(str(REPOSITORY / "docs" / "conf.py"))
PACKAGE = runpy.run_path(str(REPOSITORY / "setup.py"), run_name="setup")


def test_links_to_files_and_anchors_that_are_not_there_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "a.html").write_text(
        '<a href="docs/b.html#part">1</a><a href="#own" id="own">2</a><a href="https://example.org/none">3</a>'
        '<a href="docs/b.html#none">4</a><a href="none.html">5</a><img src="none.png"><a href="a%20b.txt">6</a>'
    )
    (tmp_path / "docs" / "b.html").write_text('<h2 id="part">x</h2><a href="../a.html#own">7</a><a href="#none">8</a>')
    (tmp_path / "a b.txt").write_text("")
    assert broken(tmp_path) == [
        "a.html: docs/b.html#none", "a.html: none.html", "a.html: none.png", "docs/b.html: #none",
    ]  # fmt: skip


def made(folder: Path, code: str, number: str = "47.9", time: str = "2026-12-01T07:00:00") -> Path:
    """A report in a folder: a page with packed data, a table, and digests that differ by nature."""
    (folder / "tables").mkdir(parents=True)
    packed = b64encode(gzip.compress(f'{{"code":"{code}","accuracy":{number}}}'.encode())).decode()
    page = f'<p>code {code}, {time}, {folder}</p><script id="data">{packed}</script>'
    (folder / "index.html").write_text(page)
    (folder / "tables" / "main.csv").write_text(f"accuracy\n{number}\n")
    (folder / "made.json").write_text(code)
    return folder


def test_reports_are_compared_without_times_versions_and_places(tmp_path: Path) -> None:
    def read(folder: Path) -> dict[str, list[bytes]]:
        return contents(folder, {"OUT": folder})

    one = read(made(tmp_path / "one", "0.1.0+62ff91e9d42b"))
    assert sorted(one) == ["index.html", "tables/main.csv"]
    other = read(made(tmp_path / "other", "0.2.0+d44a3ff1edc5", time="2026-12-02 11:30:01Z"))
    assert differences(one, other) == []
    third = made(tmp_path / "third", "0.1.0+62ff91e9d42b", number="48.0")
    (third / "tables" / "more.csv").write_text("")
    assert differences(one, read(third)) == ["index.html", "tables/main.csv", "tables/more.csv"]


def test_the_package_page_has_no_link_that_leads_nowhere() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    relative = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not t.startswith("https://")]
    assert len(relative) > 10
    page = PACKAGE["package_page"](text, "")
    assert [t for t in re.findall(r"\]\(([^)\s]+)\)", page) if not t.startswith("https://")] == []
    assert "contributing, security, changes, citation" in page.lower()  # words stay
    assert PACKAGE["project_links"]("") == {}
    address = "https://github.com/someone/icm-bench"
    page, tag = PACKAGE["package_page"](text, address), PACKAGE["TAG"]
    files = re.findall(rf"\]\({re.escape(address)}/(?:blob|raw)/{tag}/([^)#\s]+)", page)
    assert len(files) == len(relative)
    assert [name for name in files if not (REPOSITORY / name).exists()] == []
    assert PACKAGE["project_links"](address)["Source"] == address


def test_the_address_of_the_project_stands_in_one_place() -> None:
    address = PACKAGE["ADDRESS"]
    assert "urls" not in PACKAGE["PROJECT"]["project"]
    if address:
        named = [f for f in REPOSITORY.glob("*.*") if f.is_file() and address in f.read_text(encoding="utf-8")]
        assert named == [REPOSITORY / "pyproject.toml"]


def steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    return list(job["steps"])


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_pin_actions_and_have_few_rights(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    uses = [line.split("uses:")[1].strip() for line in text.splitlines() if "uses:" in line]
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    assert "Not run yet" in text
    content = yaml.safe_load(text)
    assert content["permissions"] == {}
    for job in content["jobs"].values():
        assert set(job["permissions"].items()) <= {("contents", "read"), ("id-token", "write")}
        assert job["timeout-minutes"] <= 90
        for step in steps(job):
            assert "${{" not in step.get("run", "")
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_targets_of_workflows_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    ci = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())
    assert {"lint", "types", "test"} == {*ci["jobs"]["check"]["strategy"]["matrix"]["target"]}
    assert {"lint", "types", "test", "release-check"} <= {*targets}
    assert "run: make release-check" in (GITHUB / "workflows" / "release.yml").read_text()


def test_schemas_and_zizmor_find_nothing(tmp_path: Path) -> None:
    if absent := [n for n in ("zizmor", "check-jsonschema") if not (Path(sys.executable).parent / n).is_file()]:
        pytest.skip(f"{', '.join(absent)}: `make setup` brings it")
    said = Release(tmp_path).workflows()
    assert said == f"{sum(len([*GITHUB.glob(pattern)]) for pattern in FORMS)} files"


def test_forms_ask_for_what_a_fix_needs() -> None:
    forms = {f.stem: yaml.safe_load(f.read_text()) for f in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml")}
    assert {*forms} == {"config", "bug", "wrong_number", "new_method", "new_data_set"}
    for name in ("bug", "wrong_number"):
        [report] = [one for one in forms[name]["body"] if one.get("id") == "report"]
        assert "`icm-bench doctor --report`" in report["attributes"]["label"]
        assert report["validations"]["required"]


def test_a_tag_that_is_not_the_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"the tag v9\.9\.9 is not v"):
        Release(tmp_path, "v9.9.9").archives()


def test_the_site_has_every_page_and_every_public_name_once() -> None:
    pages = [name for names in SITE["NAVIGATION"].values() for name in names]
    there = {f.relative_to(REPOSITORY / "docs").with_suffix("").as_posix() for f in (REPOSITORY / "docs").rglob("*.md")}
    assert sorted(pages) == sorted(there)
    found = SITE["public_names"]()
    described = [getattr(importlib.import_module(m), name) for m, names in found.items() for name in names]
    for module in found:
        for name in importlib.import_module(module).__all__:
            one = getattr(importlib.import_module(module), name)
            assert sum(one is other for other in described) == 1, name
            assert one.__doc__, name


@pytest.mark.long("a docstring or a link that the site's generator refuses")
def test_the_site_is_built_without_a_warning_and_without_a_broken_link(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra `site` brings it")
    assert Release(tmp_path).site(tmp_path / "site").endswith(f"pages in {tmp_path / 'site'}")
    assert (tmp_path / "site" / "index.html").read_bytes() == (tmp_path / "site" / "README.html").read_bytes()


def test_the_source_archive_lists_every_folder() -> None:
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("only a checkout knows its files")
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    manifest = (REPOSITORY / "MANIFEST.in").read_text().split()
    package = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE", "MANIFEST.in", "benchmark", "jobs",
               "reports", "icm_bench.py")  # fmt: skip
    tops = {name.partition("/")[0] for name in tracked.splitlines()}
    assert {top for top in tops if top not in manifest} <= {*package}
