"""The file of the page: what stands in it as it is, its size, its bytes. All rows are synthetic."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from reports.analysis.chosen import Selections
from reports.analysis.options import Options
from reports.analysis.settings import Setting
from reports.analysis.verdicts import Answer, LeftOut
from reports.page import Thumbnails, build, page
from reports.text.headline import headline
from tests.reports.page.example import HELD_OUTS, HOSTILE, described, made, rows
from tests.reports.page.standin import answer

Parts = list[tuple[Setting, Selections]]
THUMBNAILS = Thumbnails(40, 2, {f"{HOSTILE}0": 2, f"{HOSTILE}3": 0}, (b"one", b"two"))


class Text(HTMLParser):
    """The elements of a page, and the text of those that are read."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.of: dict[str, list[str]] = {}
        self._inside: list[str] = []
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, words: str) -> None:
        for tag in set(self._inside):
            self.of.setdefault(tag, []).append(words)


@pytest.fixture(scope="module")
def parts() -> Parts:
    return described()


@pytest.fixture(scope="module")
def content(parts: Parts) -> bytes:
    return made(parts)


def blobs(content: bytes) -> dict[str, Any]:
    found = re.findall(r'id="data-([\w-]+)">([^<]*)<', content.decode())
    return {key: json.loads(gzip.decompress(base64.b64decode(blob))) for key, blob in found}


def test_equal_input_gives_equal_bytes(content: bytes) -> None:
    assert made(described()) == content


def test_headline_forest_and_table_stand_in_the_file_itself(content: bytes) -> None:
    text = Text(content)
    assert "".join(text.of["h1"]) == headline(answer(described()))
    assert sum(tag == "circle" for tag, _ in text.tags) == 2 * 2 * 3  # settings, predictors, baselines
    cells = "".join(text.of["td"])
    assert re.search(r"\d\d\.\d", cells)
    headings = [words.strip() for words in text.of["th"]]
    assert all(name in headings for name in (*HELD_OUTS, "Average"))


def test_names_stay_text(content: bytes) -> None:
    text = Text(content)
    assert sum(tag == "script" for tag, _ in text.tags) == 2 + len(blobs(content))  # head, code and data
    assert "A <report>" in "".join(text.of["b"])
    assert "two cores <b>" in "".join(text.of["dd"])
    assert b"<script>alert" not in content


def test_only_the_page_s_own_code_and_style_may_run(content: bytes) -> None:
    policy = next(a["content"] for tag, a in Text(content).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    for tag in ("style", "script"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", content.decode(), re.S)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r'(src|href)="(?!#|data:)', content.decode())
    assert " style=" not in content.decode()


def test_code_and_style_are_small() -> None:
    assert sum(len(build._squeezed(name).encode()) for name in ("page.css", "page.js")) <= 60_000


def test_data_stand_by_setting(content: bytes) -> None:
    found = blobs(content)
    own = [f"{kind}-{k}" for kind in ("classes", "core", "grids") for k in (0, 1)]
    assert sorted(found) == sorted([*own, "details-0", "shared"])
    assert found["shared"]["forms"]["main"]["tex"].startswith("\\begin{table}")


def test_what_is_too_large_is_left_out_in_order_and_named(
    parts: Parts, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MAX_BYTES", len(content) - 10)
    smaller = made(parts)
    assert len(smaller) <= len(content) - 10
    assert "details-0" not in blobs(smaller)
    assert "predictions of single images" in smaller.decode()
    monkeypatch.setattr(build, "MAX_BYTES", 0)
    least = made(parts)
    assert sorted(blobs(least)) == ["shared"]
    assert [*blobs(least)["shared"]["forms"]["main"]] == ["tex", "csv", "md"]
    words = least.decode().partition("Left out, so")[2].partition("</details>")[0]
    assert words.count("<li>") == 1 + 3 * 2  # the details of one setting, three parts of both; no list, no copies


def test_copies_of_tables_whose_files_lie_beside_it_are_left_out_before_the_explorer(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).bytes(20_000).hex()  # which no compression makes small
    forms = {name: {form: f"{form} {noise}" for form in ("tex", "csv", "md")} for name in ("main", "environments-0")}
    whole = made(parts, forms=forms)
    for spared, left in ((10, ["tex", "md"]), (len(whole), [])):
        monkeypatch.setattr(build, "MAX_BYTES", max(0, len(whole) - spared))
        smaller = made(parts, forms=forms)
        found = blobs(smaller)["shared"]["forms"]
        assert [[*found[name]] for name in ("main", "environments-0")] == [["tex", "csv", "md"], left]
        assert "CSV to be copied of all tables but the main one; the files in tables/ have it." in smaller.decode()
        assert ("LaTeX and Markdown to be copied" in smaller.decode()) == (not left)
        assert ("details-0" in blobs(smaller)) == bool(left)


def test_the_list_of_all_comparisons_is_left_out_late(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.page.forest.MANY", 0)
    every = "All comparisons, with PCA, random projections and placebos"
    assert every in made(parts).decode()
    monkeypatch.setattr(build, "MAX_BYTES", 0)
    least = made(parts).decode()
    assert every not in least
    assert "the list of all comparisons; their tables have it." in least


def test_thumbnails_stand_in_it_only_where_they_are_given(parts: Parts, content: bytes) -> None:
    found = blobs(made(parts, thumbnails=THUMBNAILS))
    assert found["thumbs"] == {"size": 40, "rows": 2, "webp": [base64.b64encode(b"one").decode(), "dHdv"]}
    assert found["details-0"]["predictions"]["thumbs"] == [2, -1, -1, 0, -1, -1] * len(HELD_OUTS)
    assert "thumbs" not in blobs(content)
    assert "thumbs" not in blobs(content)["details-0"]["predictions"]


def test_thumbnails_are_left_out_first(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(parts, thumbnails=THUMBNAILS)
    monkeypatch.setattr(build, "MAX_BYTES", len(whole) - 1)
    smaller = made(parts, thumbnails=THUMBNAILS)
    assert set(blobs(whole)) - set(blobs(smaller)) == {"thumbs"}
    assert "thumbnails of images." in smaller.decode()


def test_many_settings_stay_small() -> None:
    parts = described(*(rows(f"set {k}") for k in range(4)))
    assert len(made(parts, predictions=None)) < 4 * 40_000 + 80_000


def test_random_weights_are_named_first() -> None:
    text = Text(made(described(rows(random_weights=True))))
    assert "".join(text.of["title"]).startswith("RANDOM WEIGHTS, NOT A RESULT: ")
    assert "RANDOM WEIGHTS, NOT A RESULT." in "".join(text.of["p"])


@pytest.mark.parametrize(
    "kept",
    [
        lambda r: r["seed"] == 0,
        lambda r: r["held_out"] == "art",
        lambda r: r["projection"] == "identity",
        lambda r: r["projection"] == "icm",
        lambda r: r["held_out"] == "art" and r["seed"] == 0 and r["projection"] == "pca",
    ],
)
def test_few_rows_give_a_page_without_nan(kept: Any) -> None:
    parts = described([r for r in rows() if kept(r)])
    written = made(parts, predictions=None)
    assert not re.search(r"\bnan\b", re.sub(r'">[A-Za-z0-9+/=]+</script>', "", written.decode()))
    assert "NaN" not in json.dumps(blobs(written))


def test_nothing_to_compare_is_a_page_too() -> None:
    parts = described([r for r in rows() if r["projection"] == "identity"])
    left = Answer((), (LeftOut(parts[0][0]),))
    text = Text(page("x", left, parts, [], Options()))
    assert "no method to be judged; no accuracy under a rule" in "".join(text.of["p"])
