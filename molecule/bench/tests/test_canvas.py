"""What a page is asked about its canvases is true, in Chromium."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from candidates import COLOUR, script
from screens import CHROMIUM

# A picture is made ready elsewhere and copied, as the clients do; what is drawn where nobody sees it is nothing.
PAGE = """data:text/html,<body style="margin: 0">
<canvas id=seen width=600 height=400 style="margin: 10px"></canvas><script>
    const seen = document.getElementById("seen").getContext("2d");
    const [ready, hidden] = [0, 0].map(() => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [600, 400];
        return canvas.getContext("2d");
    });
    function paint(colour, x, y, width, height, copy = true) {
        ready.fillStyle = colour;
        ready.fillRect(x, y, width, height);
        hidden.drawImage(ready.canvas, 0, 0);
        copy && seen.drawImage(ready.canvas, 0, 0);
    }
</script>"""
GREEN = f"rgb{COLOUR}"


@pytest.fixture(scope="module")
def chromium_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.add_init_script(script())
        yield page
        browser.close()


@pytest.fixture
def page(chromium_page: Page) -> Page:
    # The address of the page alone would be no navigation.
    chromium_page.goto("about:blank")
    chromium_page.goto(PAGE.replace("\n", " "))
    return chromium_page


def paint(page: Page, *arguments: str | int | bool) -> None:
    page.evaluate("arguments => paint(...arguments)", list(arguments))


def test_picture_is_more_than_one_colour_that_is_seen(page: Page) -> None:
    paint(page, "black", 0, 0, 600, 400)
    paint(page, "white", 300, 200, 12, 20)
    assert page.evaluate("bench.picture") is None
    paint(page, "white", 0, 0, 300, 400, False)
    assert page.evaluate("bench.picture") is None
    before = time.time() * 1000
    paint(page, "white", 0, 0, 300, 400)
    assert before <= page.evaluate("bench.picture") <= time.time() * 1000
    assert page.evaluate("bench.window") is None


def test_window_is_one_of_its_colour(page: Page) -> None:
    paint(page, "black", 0, 0, 600, 400)
    paint(page, GREEN, 100, 50, 20, 20)
    assert page.evaluate("bench.window") is None
    # Nearly, as lossy pictures have it.
    paint(page, f"rgb({COLOUR[0] + 9} {COLOUR[1] - 9} {COLOUR[2] + 9})", 100, 50, 200, 100)
    assert page.evaluate("bench.window") > 0
    found = page.evaluate("colour => bench.find(colour)", list(COLOUR))
    assert found == {"x": 210, "y": 110, "width": 200, "height": 100}


def test_first_moments_stay(page: Page) -> None:
    paint(page, GREEN, 0, 0, 500, 300)
    first = page.evaluate("[bench.picture, bench.window]")
    page.wait_for_timeout(20)
    paint(page, "white", 0, 0, 300, 200)
    assert page.evaluate("[bench.picture, bench.window]") == first


@pytest.mark.parametrize("delay_ms", [0, 150])
def test_latency_is_from_the_key_to_what_changes(page: Page, delay_ms: int) -> None:
    paint(page, GREEN, 0, 0, 500, 300)
    page.evaluate(
        """delay => addEventListener("keydown", () => setTimeout(() => {
        paint("black", 550, 350, 5, 5);
        setTimeout(paint, delay, "white", 20, 20, 6, 13);
    }))""",
        delay_ms,
    )
    assert page.evaluate("colour => bench.arm(colour)", list(COLOUR))
    page.keyboard.press("a")
    latency = page.wait_for_function("() => bench.latency").json_value()
    assert delay_ms <= latency < delay_ms + 1000


def test_change_without_a_key_is_none(page: Page) -> None:
    paint(page, GREEN, 0, 0, 500, 300)
    assert page.evaluate("colour => bench.arm(colour)", list(COLOUR))
    paint(page, "white", 20, 20, 6, 13)
    assert page.evaluate("bench.latency") is None
    page.keyboard.press("a")
    paint(page, "white", 40, 20, 6, 13)
    assert page.evaluate("bench.latency") > 0


def test_nothing_is_waited_for_without_the_window(page: Page) -> None:
    assert not page.evaluate("colour => bench.arm(colour)", list(COLOUR))


@pytest.mark.parametrize(("each_ms", "least", "most"), [(100, 3, 10), (1, 12, 61)])
def test_changed_frames_are_counted(page: Page, each_ms: int, least: float, most: float) -> None:
    page.evaluate(
        """milliseconds => setInterval(() => {
        for (let x = 0; x < 600; x += 60)
            paint(`hsl(${performance.now()} 50% 50%)`, x, 0, 60, 400);
    }, milliseconds)""",
        each_ms,
    )
    assert least <= page.evaluate("bench.count(2)") <= most


def test_rest_is_no_frame(page: Page) -> None:
    paint(page, "white", 0, 0, 300, 400)
    page.evaluate("setInterval(paint, 20, 'black', 0, 0, 600, 400, false)")
    assert page.evaluate("bench.count(0.5)") == 0
