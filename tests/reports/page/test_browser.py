"""The page in a browser. All rows are synthetic. Skipped where there is no Chromium."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageColor

from benchmark.common.errors import IcmBenchError
from benchmark.demo.packages import npm_package, read_member
from reports.page import Thumbnails
from reports.text.headline import headline
from tests.reports.page.example import HOSTILE, described, made
from tests.reports.page.standin import FORMS, answer
from tests.reports.synthetic import row

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

AXE = ("axe-core", "4.14.1", "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745")
SIZES = {"desk": (1440, 900), "phone": (390, 844)}
COLORS = ("red", "lime", "blue", "white", "black")
DRILL = "#view=each&cell=3.1"  # CLIP-ICM with zero-shot in the second environment
VIEWS = ("", DRILL, "#rule=training_domain&view=each", "#rule=oracle&show=difference&view=each&cell=3.1")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("page") / "index.html"
    written.write_bytes(made(described()))
    return written


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """A page that was opened, and what it said and asked for."""

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
        """Return what axe, which the page has been given, finds against the rules; all that it passes is not told."""
        of_page = "tags => axe.run({runOnly: tags, resultTypes: ['violations']}).then(found => found.violations)"
        found = self.page.evaluate(of_page, ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"])
        return [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found]

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("size", SIZES)
def test_it_says_nothing_asks_for_nothing_and_fits(browser: Any, file: Path, size: str) -> None:
    for fragment in ("", DRILL, "#rule=oracle&view=each&cell=3.4&show=difference"):
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


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("phone", "dark")])
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


def test_a_heading_sorts_within_its_block(browser: Any, file: Path) -> None:
    with Opened(browser, file, "#view=each") as opened:
        column = "#table-view tbody:nth-of-type(1) tr:not(.block) td:nth-of-type(1)"

        def numbers() -> list[float]:
            return [float(words.split()[0]) for words in opened.page.locator(column).all_inner_texts()]

        before = numbers()
        opened.page.get_by_role("button", name="a_b%").first.click()
        assert numbers() == sorted(before, reverse=True)
        opened.page.get_by_role("button", name="a_b%").first.click()
        assert numbers() == sorted(before)


def test_what_is_copied_is_the_file(browser: Any, file: Path) -> None:
    with Opened(browser, file, permissions=["clipboard-read", "clipboard-write"]) as opened:
        for kind, text in FORMS["main"].items():
            opened.page.locator(f"#table-view [data-copy={kind}]").click()
            opened.page.wait_for_selector(".saved")
            assert opened.page.evaluate("navigator.clipboard.readText()") == text


def test_a_cell_is_reached_and_opened_by_keyboard(browser: Any, file: Path) -> None:
    with Opened(browser, file, "#view=each") as opened:
        cells = opened.page.locator("#table-view td button")
        assert [cells.nth(k).get_attribute("tabindex") for k in range(cells.count())].count("0") == 1
        cells.first.focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown"):
            opened.page.keyboard.press(key)
        opened.page.keyboard.press("Enter")
        opened.page.wait_for_selector("#drill:not([hidden])")
        assert "CLIP-ICM (largest) + zero-shot on art" in opened.page.locator("#drill").inner_text()
        _address(opened, "cell=3.1")


def test_numbers_are_rounded_as_the_printed_tables_are(browser: Any, tmp_path: Path) -> None:
    right = (5, 15, 25, 35, 41, 59)  # of 80: four of them end in 25 or 75
    environments = [f"e{k}" for k in range(len(right))]
    lines = [row(held_out=e, target=[n / 80], n_test=80) for e, n in zip(environments, right, strict=True)]
    (tmp_path / "index.html").write_bytes(made(described(lines), predictions=None))
    with Opened(browser, tmp_path / "index.html", "#view=each") as opened:
        shown = [words.split()[0] for words in opened.page.locator("#table-view td").all_inner_texts()]
    assert shown[:-1] == [f"{100 * n / 80:.1f}" for n in right]


def test_a_number_of_a_printed_table_opens_its_setting(browser: Any, file: Path) -> None:
    with Opened(browser, file, "#view=environments-1") as opened:
        opened.page.locator("#table-view tbody tr:nth-child(5) td button").nth(1).click()
        opened.page.wait_for_selector("#drill:not([hidden])")
        assert "CLIP-ICM (largest) + zero-shot on art" in opened.page.locator("#drill").inner_text()
        _address(opened, "set=1")


def test_the_arrow_moves_the_slider_and_all_that_follows_it(browser: Any, file: Path) -> None:
    with Opened(browser, file, "#lam=0&rank=0") as opened:
        opened.page.locator("#rank").focus()
        opened.page.keyboard.press("ArrowRight")
        assert opened.page.locator("#explorer .lead").inner_text().startswith("λ 1, rank 2: ")
        marked = opened.page.locator("#maps button.on")
        assert [marked.nth(k).get_attribute("aria-label").split(":")[0] for k in range(2)] == ["λ 1 rank 2"] * 2
        _address(opened, "rank=1")


def test_the_address_restores_a_view(browser: Any, file: Path) -> None:
    with Opened(browser, file) as opened:
        opened.page.get_by_role("button", name="training domain").click()
        opened.page.get_by_role("button", name="Theme: auto").click()
        opened.page.get_by_role("button", name="Theme: light").click()
        opened.page.get_by_role("button", name="difference to plain").click()
        address = _address(opened, "rule=training_domain", "theme=dark", "show=difference")
        ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    with Opened(browser, file, address) as again:
        pressed = again.page.locator("button[aria-pressed=true]").all_inner_texts()
        assert "training domain" in pressed
        assert "difference to plain" in pressed
        assert again.page.locator("#theme").inner_text() == "Theme: dark"
        assert again.page.evaluate("getComputedStyle(document.body).backgroundColor") == ground


def test_the_average_comes_first_on_a_phone(browser: Any, file: Path) -> None:
    for size, place in (("phone", 1), ("desk", -1)):
        with Opened(browser, file, "#view=each", size) as opened:
            headings = opened.page.locator("#table-view thead th").all_inner_texts()
            assert headings[place].strip() == "average"


def test_a_cell_of_the_confusions_filters_the_images(browser: Any, file: Path) -> None:
    with Opened(browser, file, DRILL) as opened:
        before = opened.page.locator("#drill .images li").count()
        opened.page.locator("#drill .cm td.wrong button").first.click()
        assert 0 < opened.page.locator("#drill .images li").count() < before


def test_thumbnails_stand_beside_the_names_of_images(browser: Any, tmp_path: Path) -> None:
    places = {f"{HOSTILE}{k}": k for k in range(5)}  # the sixth has none
    thumbnails = Thumbnails(40, 3, places, (sprite("red", "lime", "blue"), sprite("white", "black")))
    (tmp_path / "index.html").write_bytes(made(described(), thumbnails=thumbnails))
    with Opened(browser, tmp_path / "index.html", DRILL) as opened:
        opened.page.eval_on_selector_all("#drill details", "all => all.forEach(one => { one.open = true; })")
        lines, colors = opened.page.locator("#drill .images li"), set()
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
        assert opened.page.locator("h1").inner_text() == headline(answer(described()))
        assert opened.page.locator(".forest circle").first.is_visible()
        assert opened.page.locator("#table-view td").first.is_visible()
        assert not opened.page.locator("#explore").is_visible()


def test_it_prints(browser: Any, file: Path) -> None:
    with Opened(browser, file, DRILL, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        assert not opened.page.locator(".top").is_visible()
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 251)"
        assert opened.page.pdf().startswith(b"%PDF")


def _address(opened: Opened, *held: str) -> str:
    """Return the end of the address, once it holds what the last clicks put there."""
    opened.page.wait_for_function("held => held.every(one => location.hash.includes(one))", arg=list(held))
    return str(opened.page.evaluate("location.hash"))
