"""The page in a browser. All rows are synthetic. Skipped without Chromium."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageColor

from benchmark.common.errors import IcmBenchError
from benchmark.demo.packages import npm_package, read_member
from reports.analysis.selections import Selections
from reports.analysis.settings import Setting
from reports.page.build import with_minus
from reports.page.data import Thumbnails
from reports.text.verdicts import headline
from tests.reports.page.example import HOSTILE, made, results_of, rows
from tests.reports.page.standin import FORMATS, answer
from tests.reports.synthetic import row

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

AXE = ("axe-core", "4.14.1", "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745")
SIZES = {"desk": (1440, 900), "phone": (390, 844)}
COLORS = ("red", "lime", "blue", "white", "black")
DRILL = "#cell=3.1"  # CLIP-ICM with zero-shot in the second environment
EVERY = "trust.terms.classes.explore.tables.protocol"
VIEWS = ("", f"#open={EVERY}&cell=3.1", f"#rule=training_domain&show=difference&open={EVERY}&cell=3.4&set=1")
FOCUSABLE = "a[href], button:not([tabindex='-1']), select, summary, input, [tabindex='0']"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("page") / "index.html"
    written.write_bytes(made(results_of()))
    return written


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """An opened page with its console messages and requests."""

    def __init__(self, browser: Any, file: Path, fragment: str = "", size: str = "desk", **context: Any) -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(viewport={"width": width, "height": height}, **context)
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri() + fragment)
        if context.get("java_script_enabled", True):
            self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("html[data-ready]")

    def violations(self) -> list[Any]:
        """Return the violations found by axe, which was injected into the page."""
        of_page = "tags => axe.run({runOnly: tags, resultTypes: ['violations']}).then(found => found.violations)"
        found = self.page.evaluate(of_page, ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"])
        return [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found]

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("size", SIZES)
def test_it_has_no_messages_or_requests_and_fits(browser: Any, file: Path, size: str) -> None:
    for fragment in VIEWS:
        with Opened(browser, file, fragment, size) as opened:
            assert opened.messages == []
            assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
            assert opened.page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
            sizes = "all => all.map(t => parseFloat(getComputedStyle(t).fontSize))"
            assert min(opened.page.eval_on_selector_all("svg text", sizes)) >= 11


@pytest.fixture(scope="module")
def axe() -> str:
    try:
        return read_member(npm_package(*AXE), "package/axe.min.js").decode()
    except IcmBenchError as error:
        pytest.skip(f"axe-core is not at hand: {error}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_accessible(browser: Any, file: Path, axe: str, size: str, scheme: str) -> None:
    with Opened(browser, file, "", size, color_scheme=scheme) as opened:
        opened.page.evaluate(axe)
        for fragment in VIEWS:
            turn = opened.page.locator("html").get_attribute("data-ready")
            if fragment:
                opened.page.evaluate("to => { location.hash = to; }", fragment)
                opened.page.wait_for_selector(f"html[data-ready]:not([data-ready='{turn}'])")
                opened.page.eval_on_selector_all("main details", "all => all.forEach(one => { one.open = true; })")
            assert opened.violations() == []


@pytest.mark.parametrize(("size", "tallest"), [("desk", 3000), ("phone", 6000)])
def test_folded_it_is_short_and_nothing_is_built(browser: Any, file: Path, size: str, tallest: int) -> None:
    with Opened(browser, file, "", size) as opened:
        assert opened.page.evaluate("document.documentElement.scrollHeight") <= tallest
        all_focusable = "all => all.filter(one => one.checkVisibility()).length"
        assert 5 < opened.page.eval_on_selector_all(FOCUSABLE, all_focusable) <= 60
        assert set(opened.page.locator(".inside").evaluate_all("all => all.map(one => one.innerHTML.trim())")) == {""}


@pytest.mark.parametrize("parts", [rows(), [*rows(), *rows("other")]], ids=["one", "two"])
def test_the_first_screen_has_headline_forest_and_table(
    browser: Any, tmp_path: Path, parts: list[dict[str, Any]]
) -> None:
    (tmp_path / "index.html").write_bytes(made(results_of(parts), predictions={}))
    with Opened(browser, tmp_path / "index.html") as opened:
        for what in ("h1", ".trust", ".forest", ".numbers.first"):
            box = opened.page.locator(what).first.bounding_box()
            assert box["y"] + box["height"] <= SIZES["desk"][1], what


def test_the_rule_changes_all_that_depends_on_it(browser: Any, file: Path) -> None:
    what = (
        "h1",
        ".forest",
        ".numbers.first",
        "#sentences",
        "#drill-title + button",
        "#classes .drill p",
        "#explore .lead",
    )
    with Opened(browser, file, f"#open={EVERY}&cell=3.4") as opened:
        before = [opened.page.locator(one).first.inner_text() for one in what]
        assert "planned" not in opened.page.locator("#answer").inner_text()
        opened.page.locator("#rule").select_option("training_domain")
        opened.page.wait_for_selector("#answer .warning")
        opened.page.wait_for_selector("html[data-ready='2']")
        after = [opened.page.locator(one).first.inner_text() for one in what]
        changed = [one for one, a, b in zip(what, before, after, strict=True) if a != b]
        assert set(what) - set(changed) <= {"h1", "#drill-title + button"}
        assert opened.page.locator("h1").inner_text() == with_minus(headline(answer(judged("training_domain"))))
        assert "The preregistered rule is lodo_1se" in opened.page.locator("#answer").inner_text()
        assert "training_domain picked" in opened.page.locator("#classes .drill").inner_text()
        _address(opened, "rule=training_domain")
        opened.page.locator("#rule").select_option("lodo")
        opened.page.wait_for_selector("html[data-ready='3']")
        assert [opened.page.locator(one).first.inner_text() for one in what] == before


def judged(rule: str) -> list[tuple[Setting, Selections]]:
    return [(setting, selections.judged_by(rule)) for setting, selections in results_of()]


@pytest.mark.parametrize("given", ["#protocol", "#open=protocol"])
def test_an_address_opens_its_fold_alone(browser: Any, file: Path, given: str) -> None:
    with Opened(browser, file, given) as opened:
        assert opened.page.locator("details.fold[open]").evaluate_all("all => all.map(one => one.id)") == ["protocol"]
        assert "ViT-B-32" in opened.page.locator("#protocol .inside").inner_text()


def test_a_heading_sorts_within_its_block(browser: Any, file: Path) -> None:
    with Opened(browser, file, "#open=classes") as opened:
        column = "#classes .numbers tbody:nth-of-type(1) tr:not(.block) td:nth-of-type(1)"

        def numbers() -> list[float]:
            return [float(words.split()[0]) for words in opened.page.locator(column).all_inner_texts()]

        before = numbers()
        opened.page.get_by_role("button", name="a_b%").first.click()
        assert numbers() == sorted(before, reverse=True)
        opened.page.get_by_role("button", name="a_b%").first.click()
        assert numbers() == sorted(before)


def test_copied_text_equals_the_file(browser: Any, file: Path) -> None:
    with Opened(browser, file, "#open=tables", permissions=["clipboard-read", "clipboard-write"]) as opened:
        for kind, text in FORMATS["main"].items():
            button = opened.page.locator(f"#tables [data-copy={kind}]")
            button.click()
            # The message of the kind copied before may still be shown.
            opened.page.wait_for_selector(f".saved:text-is('{button.inner_text().removeprefix('Copy ')} copied')")
            assert opened.page.evaluate("navigator.clipboard.readText()") == text


def test_a_cell_is_reached_and_opened_by_keyboard(browser: Any, file: Path) -> None:
    with Opened(browser, file, "#open=classes") as opened:
        cells = opened.page.locator("#classes td button")
        assert [cells.nth(k).get_attribute("tabindex") for k in range(cells.count())].count("0") == 1
        cells.first.focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown"):
            opened.page.keyboard.press(key)
        opened.page.keyboard.press("Enter")
        opened.page.wait_for_selector("#classes .drill:not([hidden])")
        assert "CLIP-ICM + zero-shot on art" in opened.page.locator("#classes .drill").inner_text()
        _address(opened, "cell=3.1")


def test_numbers_are_rounded_as_the_printed_tables_are(browser: Any, tmp_path: Path) -> None:
    right = (5, 15, 25, 35, 41, 59)  # of 80: four of them end in 25 or 75
    environments = [f"e{k}" for k in range(len(right))]
    lines = [row(held_out=e, target=[n / 80], n_test=80) for e, n in zip(environments, right, strict=True)]
    (tmp_path / "index.html").write_bytes(made(results_of(lines), predictions={}))
    with Opened(browser, tmp_path / "index.html", "#open=classes") as opened:
        shown = [words.split()[0] for words in opened.page.locator("#classes td").all_inner_texts()]
    assert shown[:-1] == [f"{100 * n / 80:.1f}" for n in right]


def test_a_number_of_a_printed_table_opens_its_setting(browser: Any, file: Path) -> None:
    with Opened(browser, file, "#table=environments-1") as opened:
        opened.page.locator("#tables tbody tr:nth-child(5) td button").nth(1).click()
        opened.page.wait_for_selector("#classes .drill:not([hidden])")
        assert "CLIP-ICM + zero-shot on art" in opened.page.locator("#classes .drill").inner_text()
        _address(opened, "set=1")


def test_the_arrow_moves_the_slider_and_all_that_follows_it(browser: Any, file: Path) -> None:
    with Opened(browser, file, "#lam=0&rank=0") as opened:
        opened.page.locator("#rank").focus()
        opened.page.keyboard.press("ArrowRight")
        assert opened.page.locator("#explore .lead").inner_text().startswith("λ 1, rank 2: ")
        marked = opened.page.locator("#maps button.on")
        assert [marked.nth(k).get_attribute("aria-label").split(":")[0] for k in range(2)] == ["λ 1 rank 2"] * 2
        _address(opened, "rank=1")


def test_the_address_restores_a_view(browser: Any, file: Path) -> None:
    with Opened(browser, file) as opened:
        opened.page.locator("#rule").select_option("training_domain")
        opened.page.locator("#classes > summary").click()
        opened.page.get_by_role("button", name="Theme: auto").click()
        opened.page.get_by_role("button", name="Theme: light").click()
        opened.page.get_by_role("button", name="difference to plain").click()
        address = _address(opened, "rule=training_domain", "theme=dark", "show=difference", "open=classes")
        ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    with Opened(browser, file, address) as again:
        pressed = again.page.locator("button[aria-pressed=true]").all_inner_texts()
        assert pressed[0] == "difference to plain"
        assert again.page.locator("#rule").input_value() == "training_domain"
        assert again.page.locator("#theme").inner_text() == "Theme: dark"
        assert again.page.evaluate("getComputedStyle(document.body).backgroundColor") == ground


def test_the_average_comes_first_on_a_phone(browser: Any, file: Path) -> None:
    for size, place in (("phone", 1), ("desk", -1)):
        with Opened(browser, file, "#open=classes", size) as opened:
            headings = opened.page.locator("#classes .numbers thead th").all_inner_texts()
            assert headings[place].strip() == "average"


def test_a_cell_of_the_confusions_filters_the_images(browser: Any, file: Path) -> None:
    with Opened(browser, file, DRILL) as opened:
        before = opened.page.locator("#classes .drill .images li").count()
        opened.page.locator("#classes .drill .cm td.wrong button").first.click()
        assert 0 < opened.page.locator("#classes .drill .images li").count() < before


def test_thumbnails_stand_beside_the_names_of_images(browser: Any, tmp_path: Path) -> None:
    places = {f"{HOSTILE}{k}": k for k in range(5)}  # the sixth has none
    thumbnails = Thumbnails(40, 3, places, (sprite("red", "lime", "blue"), sprite("white", "black")))
    (tmp_path / "index.html").write_bytes(made(results_of(), thumbnails=thumbnails))
    with Opened(browser, tmp_path / "index.html", DRILL) as opened:
        opened.page.eval_on_selector_all("#classes .drill details", "all => all.forEach(one => { one.open = true; })")
        lines, colors = opened.page.locator("#classes .drill .images li"), set()
        for k in range(lines.count()):
            thumb, words = lines.nth(k).locator(".thumb"), lines.nth(k).inner_text()
            number = int(words.removeprefix(f"{HOSTILE}/").partition(".jpg")[0])
            assert thumb.count() == (number < 5)
            if number < 5:
                assert thumb.get_attribute("aria-hidden") == "true"
                shown = Image.open(io.BytesIO(thumb.screenshot())).convert("RGB").getpixel((20, 20))
                assert shown == pytest.approx(ImageColor.getrgb(COLORS[number]), abs=8)
                colors.add(number)
        assert len(colors) > 1
        assert opened.messages == []
        assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []


def sprite(*colors: str) -> bytes:
    strip, file = Image.new("RGB", (40, 40 * len(colors))), io.BytesIO()
    for k, color in enumerate(colors):
        strip.paste(color, (0, 40 * k, 40, 40 * k + 40))
    strip.save(file, "WEBP", lossless=True)
    return file.getvalue()


def test_without_javascript_it_can_be_read(browser: Any, file: Path) -> None:
    with Opened(browser, file, size="phone", java_script_enabled=False) as opened:
        assert opened.page.locator("h1").inner_text() == with_minus(headline(answer(results_of())))
        assert opened.page.locator(".forest circle").first.is_visible()
        assert opened.page.locator(".numbers.first td").nth(1).is_visible()
        opened.page.locator("#trust > summary").click()
        assert opened.page.locator("#sentences li").first.is_visible()
        assert not opened.page.locator("#rule").is_visible()


def test_it_prints(browser: Any, file: Path) -> None:
    with Opened(browser, file, DRILL, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        assert not opened.page.locator(".top").is_visible()
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 251)"
        assert opened.page.pdf().startswith(b"%PDF")


def _address(opened: Opened, *held: str) -> str:
    """Return the fragment of the address, after it contains the given parts."""
    opened.page.wait_for_function("held => held.every(one => location.hash.includes(one))", arg=list(held))
    return str(opened.page.evaluate("location.hash"))
