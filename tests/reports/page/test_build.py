"""The file of the page: static content, size, bytes. All rows are synthetic."""

import base64
import gzip
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest

from reports.analysis.selections import Selections
from reports.analysis.settings import Options, Setting
from reports.analysis.verdicts import Answer
from reports.page import build
from reports.page.build import PageContent, leading, page, with_minus
from reports.page.data import Thumbnails
from reports.render.formats import squeezed
from reports.tables import environments
from reports.text.sentences import Origin
from reports.text.verdicts import headline, sentence
from tests.reports.analysis.test_verdicts import world
from tests.reports.page.example import HELD_OUTS, HOSTILE, made, results_of, rows
from tests.reports.page.standin import answer
from tests.reports.tables.rows import table_of

Parts = list[tuple[Setting, Selections]]
THUMBNAILS = Thumbnails(40, 2, {f"{HOSTILE}0": 2, f"{HOSTILE}3": 0}, (b"one", b"two"))


class Text(HTMLParser):
    """Elements of a page, and their visible text."""

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
    return results_of()


@pytest.fixture(scope="module")
def content(parts: Parts) -> bytes:
    return made(parts)


def blobs(content: bytes) -> dict[str, Any]:
    found = re.findall(r'id="data-([\w-]+)">([^<]*)<', content.decode())
    return {key: json.loads(gzip.decompress(base64.b64decode(blob))) for key, blob in found}


def test_equal_input_gives_equal_bytes(content: bytes) -> None:
    assert made(results_of()) == content


def test_headline_forest_table_and_sentences_stand_in_the_file_itself() -> None:
    for parts, lines in ((results_of(rows()), HELD_OUTS), (results_of(), ("other, zero-shot", "synthetic, zero-shot"))):
        text, made_of = Text(made(parts)), answer(parts)
        assert "".join(text.of["h1"]) == with_minus(headline(made_of))
        assert 1 < sum(tag == "line" and a["class"] == "span" for tag, a in text.tags) <= 5
        assert all(name in [words.strip() for words in text.of["th"]] for name in lines)
        said = "".join(text.of["li"])
        assert all(with_minus(sentence(one)) in said for one in made_of.verdicts)


def test_a_negative_number_has_a_minus_sign_and_a_name_its_hyphen() -> None:
    text = Text(made(results_of(world((0.4, 0.4))), predictions={}))
    assert "(\u221210.0 points, \u221210.9 to \u22129.1)" in "".join(text.of["h1"])
    shown = " ".join(words for tag in ("h1", "p", "td", "li", "span") for words in text.of.get(tag, []))
    assert "ViT-B-32" in shown
    assert not re.search(r"(?<![\w-])-\d", shown)


def test_each_rule_has_the_answer_of_its_own_selections(parts: Parts, content: bytes) -> None:
    found = {key.removeprefix("rule-"): blob for key, blob in blobs(content).items() if key.startswith("rule-")}
    assert list(found) == ["lodo", "training_domain"]  # SYNTHETIC rows have no standard errors
    for rule, blob in found.items():
        known = [(setting, selections.judged_by(rule)) for setting, selections in parts]
        own, text = answer(known), Text(blob["answer"].encode())
        assert "".join(text.of["h1"]) == with_minus(headline(own))
        listed = "".join(Text(blob["sentences"].encode()).of["li"])
        assert all(with_minus(sentence(one)) in listed for one in own.verdicts)
        assert ("preregistered" in "".join(text.of["p"])) == (rule != "lodo")
        assert sum(tag == "circle" for tag, _ in Text(blob["every"].encode()).tags) == sum(
            len([one.gain, *one.others]) for one in own.verdicts
        )


def test_numbers_of_the_first_screen_equal_the_data(parts: Parts) -> None:
    """The table by environment equals the drill-down under each rule, and the printed table."""
    parts = results_of(rows())
    written = blobs(made(parts))
    core = written["core-0"]
    for rule, results in core["results"].items():
        known = [(setting, selections.judged_by(rule)) for setting, selections in parts]
        lines = table_lines(written[f"rule-{rule}"]["answer"])
        names = {method.name: method.label for method in leading(answer(known).standings[0])}
        columns = [names.get(name, "Zero-shot") for name in lines.pop("Held out")]
        of = {method["label"]: one for method, one in zip(core["methods"], results, strict=True)}
        for name in (*HELD_OUTS, "Mean over environments"):
            place = core["environments"].index(name) if name in core["environments"] else -1
            cells = [of[label]["cells"][place] for label in columns]
            assert [shown.split()[0] for shown in lines[name]] == [f"{cell['v']:.1f}" for cell in cells]
        if rule == "lodo":
            printed = table_of(environments.TABLE, known)
            assert printed is not None
            plain = dict(zip((c.name for c in printed.columns), printed.blocks[0].lines[0].cells, strict=True))
            assert [lines[name][0] for name in HELD_OUTS] == [f"{plain[name].value:.1f}" for name in HELD_OUTS]


def table_lines(page_of: str) -> dict[str, list[str]]:
    """Return heading of a line -> its cells, in the table of the first screen."""
    found = {}
    for line in re.findall(r"<tr[^>]*>(.*?)</tr>", page_of.rpartition("<table")[2], re.S):
        name, *cells = (
            unescape(re.sub(r"<[^>]+>", " ", one)).strip() for one in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", line, re.S)
        )
        found[name] = cells
    return found


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
    code = files("reports.page").joinpath("page.js").read_text(encoding="utf-8")
    assert len(code) <= 45_000
    assert max(map(len, code.splitlines())) <= 120
    assert sum(len(squeezed(form, ("reports.page", f"page.{form}"))[form].encode()) for form in ("css", "js")) <= 60_000


def test_data_stand_by_setting(content: bytes) -> None:
    found = blobs(content)
    own = [f"{kind}-{k}" for kind in ("classes", "core", "grids") for k in (0, 1)]
    copies = [f"copies-{form}" for form in ("csv", "md", "tex")]
    assert sorted(found) == sorted([*own, *copies, "images-0", "rule-lodo", "rule-training_domain", "tables"])
    assert found["copies-tex"]["main"].startswith("\\begin{table}")


def test_cells_of_tables_have_the_key_of_their_setting(parts: Parts, content: bytes) -> None:
    for one, (setting, selections) in zip(blobs(content)["tables"][1:], parts, strict=True):
        assert one["key"]["dataset"] == setting.dataset
        assert [column.get("held_out") for column in one["columns"]][: len(HELD_OUTS) + 1] == [*sorted(HELD_OUTS), ""]
        labels = {method.label for method in selections.parts}
        assert {line["method"] for line in one["lines"]} == labels
        assert one["html"].count("<tr") == 1 + 2 + len(one["lines"]) + one["html"].count("<tfoot>")


def test_data_that_do_not_fit_are_dropped_in_order_and_named(
    parts: Parts, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = [key for key, _ in build._droppable({**dict.fromkeys(blobs(content), ""), "thumbs": ""}, ["a", "b"])]
    assert order == [
        "thumbs", "copies-csv", "images-0", "grids-0", "grids-1", "classes-0", "classes-1", "copies-tex", "copies-md",
        "rule-lodo", "rule-training_domain", "core-0", "core-1",
    ]  # fmt: skip
    monkeypatch.setattr(build, "MAX_BYTES", len(content) - 10)
    smaller = made(parts)
    assert len(smaller) <= len(content) - 10
    assert {"copies-csv"} <= set(blobs(content)) - set(blobs(smaller)) <= {"copies-csv", "images-0"}
    monkeypatch.setattr(build, "MAX_BYTES", 0)
    least = made(parts)
    assert sorted(blobs(least)) == ["rule-lodo", "tables"]
    words = least.decode().partition("Left out, so")[2].partition("</ul>")[0]
    assert words.count("<li>") == len(order) - 2  # neither thumbnails nor another rule than the report's
    assert "predictions of single images" in words


def test_thumbnails_stand_in_it_only_where_they_are_given(parts: Parts, content: bytes) -> None:
    found = blobs(made(parts, thumbnails=THUMBNAILS))
    assert found["thumbs"] == {"size": 40, "rows": 2, "webp": [base64.b64encode(b"one").decode(), "dHdv"]}
    assert found["images-0"]["thumbs"] == [2, -1, -1, 0, -1, -1] * len(HELD_OUTS)
    assert "thumbs" not in blobs(content)
    assert "thumbs" not in blobs(content)["images-0"]


def test_many_settings_stay_small() -> None:
    parts = results_of(*(rows(f"set {k}") for k in range(4)))
    assert len(made(parts, predictions={})) < 4 * 40_000 + 80_000


def test_random_weights_are_named_first() -> None:
    text = Text(made(results_of(rows(random_weights=True))))
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
    parts = results_of([r for r in rows() if kept(r)])
    written = made(parts, predictions={})
    assert not re.search(r"\bnan\b", re.sub(r'">[A-Za-z0-9+/=]+</script>', "", written.decode()))
    assert "NaN" not in json.dumps(blobs(written))


def test_nothing_to_compare_is_a_page_too() -> None:
    parts = results_of([r for r in rows() if r["projection"] == "identity"])
    left = Answer((), ((parts[0][0], None),))
    text = Text(page(PageContent(Origin("x"), left, parts, [], Options(), {})))
    assert "there is no method to be judged" in "".join(text.of["li"])
