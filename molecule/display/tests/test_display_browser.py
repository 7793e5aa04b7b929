"""Displays as a student sees and uses them. Each step leaves a screenshot in build/screenshots, to be looked at."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import LAB_MS, Shoot, faultless_page, logged_in
from displays import PAINTED_MS, Display, Displays, Screen
from playwright.sync_api import Browser, BrowserContext, Page, expect
from testing import ACCOUNTS, Browserless, Service, new_kernel, wait_for

#: What the tests have programs write. An earlier run may have left it.
WRITTEN = ("typed.txt", "marked.txt", "pasted.txt", "size.txt", "desktop.txt")


@pytest.fixture(scope="module")
def desk(browser: Browser, service: Service, users: dict[str, Browserless]) -> Iterator[BrowserContext]:
    """Have alice's browser, in her session."""
    users["alice"].ensure()
    for name in WRITTEN:
        users["alice"].api(f"contents/{name}", "DELETE")
    with logged_in(browser, service, "alice", ACCOUNTS["alice"]["password"]) as context:
        # Here a page may do what a student allows by a click.
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield context


@pytest.fixture
def page(desk: BrowserContext) -> Iterator[Page]:
    """Lend a page of alice's; an error in a script of ours fails the test."""
    with faultless_page(desk) as page:
        yield page


def written(alice: Browserless, name: str) -> str:
    """Return what a file in alice's home holds, empty while there is none."""
    answer = alice.api(f"contents/{name}")
    return str(answer.json()["content"]) if answer.status_code == 200 else ""


def test_typing_arrives(page: Page, alice: Browserless, displays: Displays, terminal: Display, shoot: Shoot) -> None:
    screen = Screen(page, terminal)
    window = screen.window()
    screen.click(window)
    screen.type('cd; echo "latin Привет №5 ёЖ" > typed.txt; seq 40\n')
    wait_for("what was typed", lambda: written(alice, "typed.txt") == "latin Привет №5 ёЖ\n")
    shoot(page, "40-display")
    picture = alice.request("GET", f"{displays.path}/displays/{terminal['id']}/thumbnail")
    assert picture.headers["Content-Type"] == "image/png" and picture.content.startswith(b"\x89PNG")
    assert len(picture.content) > 5000
    shoot(page, "40-display").with_name("41-thumbnail.png").write_bytes(picture.content)


SUBSCRIBE = """() => new Promise((resolve, reject) => {
    window.seen = [];
    const socket = new WebSocket("wss://" + location.host + "/user/alice/api/events/subscribe");
    socket.onopen = resolve;
    socket.onerror = reject;
    socket.onmessage = ({ data }) => {
        const { schema_id, action, display } = JSON.parse(data);
        if (schema_id.endsWith("/jupyter_xpra/display/v1"))
            window.seen.push({ action, name: display.name, state: display.state, at: Date.now() / 1000 });
    };
})"""


def test_second_browser_sees_each_change_within_a_second(
    browser: Browser, service: Service, hub: Any, displays: Displays, terminal: Display
) -> None:
    with logged_in(browser, service, "alice", ACCOUNTS["alice"]["password"]) as context:
        page = context.new_page()
        Screen(page, terminal)
        page.evaluate(SUBSCRIBE)

        def seen(action: str, name: str, state: str, answered: float) -> None:
            """Wait for an event, and say when it came too late."""
            find = (
                "([action, name, state]) => window.seen.find("
                "event => event.action === action && event.name === name && event.state === state)"
            )
            event = page.wait_for_function(find, arg=[action, name, state]).json_value()
            assert event["at"] - answered < 1

        second = displays.create(program="geomview", name="Модель 2")
        seen("created", second["name"], "starting", time.time())
        seen("updated", second["name"], "running", time.time())
        assert {one["name"] for one in displays.list()} == {"Terminal", second["name"]}
        displays.ask("PATCH", f"displays/{terminal['id']}", json={"name": "Мой терминал"})
        seen("updated", "Мой терминал", "running", time.time())
        pid = hub.check_output(f"pgrep -u alice -f '^[^ ]*python3? .*/{second['id']}/xpra.sock'")
        hub.check_output(f"kill -9 {pid}")
        seen("updated", second["name"], "failed", time.time())
        displays.delete(terminal)
        seen("removed", "Мой терминал", "ended", time.time())


def test_copy(page: Page, desk: BrowserContext, alice: Browserless, terminal: Display, shoot: Shoot) -> None:
    screen = Screen(page, terminal)
    window = screen.window()
    screen.click(window)
    screen.type("clear; printf 'слово\\n%.0s' $(seq 24); echo > marked.txt\n")
    wait_for("the words to be written", lambda: written(alice, "marked.txt") == "\n")
    screen.picture(window)
    y = window["y"] + window["h"] // 2
    page.mouse.move(window["x"] + 3, y)
    page.mouse.down()
    page.mouse.move(window["x"] + 43, y, steps=4)
    page.wait_for_timeout(500)
    page.mouse.up()
    shoot(page, "42-marked")
    # A browser lets only the page in front copy.
    page.wait_for_function("client.localClipboard.text === 'слово'")
    page.wait_for_timeout(1000)
    with_another_page(desk, "async () => { window.copied = await navigator.clipboard.readText(); }", "слово")


def test_paste(page: Page, desk: BrowserContext, alice: Browserless, terminal: Display, shoot: Shoot) -> None:
    lines = "строка №1\nline two €\n"
    screen = Screen(page, terminal)
    screen.click(screen.window())
    screen.type("cat > pasted.txt\n")
    wait_for("cat to read", lambda: alice.api("contents/pasted.txt").status_code == 200)
    with_another_page(desk, f"async () => {{ await navigator.clipboard.writeText({lines!r}); }}")
    page.bring_to_front()
    page.keyboard.press("Shift+Insert")
    try:
        wait_for("what was pasted", lambda: written(alice, "pasted.txt") == lines)
    finally:
        shoot(page, "42-pasted")


def with_another_page(desk: BrowserContext, script: str, copied: str | None = None) -> None:
    """Run a script in another page of the same browser, in front."""
    elsewhere = desk.new_page()
    try:
        elsewhere.goto("/user/alice/api/status")
        elsewhere.bring_to_front()
        elsewhere.evaluate(script)
        assert copied is None or elsewhere.evaluate("window.copied") == copied
    finally:
        elsewhere.close()


def test_window_follows_the_tab(page: Page, alice: Browserless, terminal: Display, shoot: Shoot) -> None:
    screen = Screen(page, terminal)
    window = screen.window()
    page.locator(".windowbuttons .maximize, [id^=maximize]").first.click()
    for width, height in (1000, 600), (1400, 900):
        page.set_viewport_size({"width": width, "height": height})
        wait_for("the window to be as wide", lambda: abs(screen.windows()[0]["w"] - width) < 20)  # noqa: B023
    screen.click(window)
    screen.type("stty size > size.txt\n")
    # Characters of some 8 pixels.
    wait_for("the terminal to know", lambda: int((written(alice, "size.txt") or "0 0").split()[1]) > 1400 // 9)
    screen.window()
    shoot(page, "43-larger-tab")


def test_desktop_is_used_by_its_panel(page: Page, alice: Browserless, displays: Displays, shoot: Shoot) -> None:
    screen = Screen(page, displays.create(kind="desktop"))
    (desktop,) = screen.windows()

    def opened() -> bool:
        # Xfce's terminal, the second from the left of the panel in the middle of the lower edge.
        page.mouse.click(desktop["x"] + desktop["w"] / 2 - 72, desktop["y"] + desktop["h"] - 28)
        page.wait_for_timeout(8000)
        screen.type("echo arrived > ~/desktop.txt\n")
        page.wait_for_timeout(2000)
        return written(alice, "desktop.txt") == "arrived\n"

    try:
        wait_for("a terminal to be typed into", opened, 240)
    finally:
        shoot(page, "44-desktop")


def test_from_the_launcher_to_its_end(page: Page, alice: Browserless, displays: Displays, shoot: Shoot) -> None:
    """In JupyterLab alone: started, typed into, renamed, and stopped."""
    alice.api("contents/launched.txt", "DELETE")
    page.goto(f"{alice.base()}lab?reset")
    # JupyterLab has a terminal of its own.
    section = page.locator(".jp-Launcher-section", has=page.get_by_role("heading", name="Displays"))
    card = section.locator(".jp-LauncherCard", has_text="Terminal")
    expect(card).to_be_visible(timeout=LAB_MS)
    shoot(page, "50-launcher")
    card.click()
    frame = page.locator(".jp-Display:not(.lm-mod-hidden) iframe").content_frame
    expect(frame.locator("canvas").first).to_be_visible(timeout=PAINTED_MS)

    def typed() -> bool:
        page.keyboard.type("echo arrived > ~/launched.txt\n")
        page.wait_for_timeout(3000)
        return written(alice, "launched.txt") == "arrived\n"

    # It has the keys without a click, as soon as there is a window.
    wait_for("the terminal to be typed into", typed)
    shoot(page, "51-tab")
    page.locator('.lm-TabBar-tab[data-id="jp-running-sessions"]').click()
    item = page.locator(".jp-Displays-item")
    expect(item).to_contain_text(re.compile(r"xterm.* · \d+ MB"))
    item.click(button="right")
    page.get_by_text("Rename Display…").click()
    page.get_by_label("Name", exact=True).fill("Мой терминал")
    page.keyboard.press("Enter")
    expect(page.locator(".lm-TabBar-tab", has_text="Мой терминал")).to_be_visible()
    shoot(page, "52-running")
    item.hover()
    item.get_by_title("Stop", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.locator(".lm-TabBar-tab", has_text="Мой терминал")).to_have_count(0)
    assert displays.list() == []


# -- programs that people use ---------------------------------------------------------------------------------------


def test_model_is_turned_by_the_mouse(page: Page, displays: Displays, shoot: Shoot) -> None:
    screen = Screen(page, displays.create(program="geomview"))
    camera = screen.window("Camera")
    before = screen.picture(camera)
    shoot(page, "45-geomview")
    screen.drag(camera, 90, 40)
    assert screen.picture(camera) != before
    shoot(page, "46-geomview-turned")
    # By the keyboard it is put back: letters are its commands.
    screen.type("W")
    wait_for("the model to be as before", lambda: screen.picture(camera) == before)


def test_plot_of_gnuplot_is_turned_by_the_mouse(page: Page, displays: Displays, shoot: Shoot) -> None:
    screen = Screen(page, displays.create(program="gnuplot"))
    screen.click(screen.window("gnuplot"))
    screen.type("set term qt; splot x*y\n")
    plot = screen.window("Gnuplot window 0")
    before = screen.picture(plot)
    screen.drag(plot, 90, 40)
    assert screen.picture(plot) != before
    shoot(page, "47-gnuplot")


def test_figure_of_a_notebook_cell(page: Page, alice: Browserless, displays: Displays, shoot: Shoot) -> None:
    with new_kernel(alice) as kernel:
        assert "Windows open on the display" in kernel.output("%display")
        kernel.output("%matplotlib tk\nimport matplotlib.pyplot as plt\nplt.plot([1, 4, 2, 8])\nplt.show(block=False)")
        (display,) = displays.list()
        screen = Screen(page, display)
        figure = screen.window("Figure 1")
        before = screen.picture(figure)
        # `p` pans: the kernel runs the window between the cells.
        screen.click(figure)
        screen.type("p")
        screen.drag(figure, 100, 50)
        assert screen.picture(figure) != before
        shoot(page, "48-matplotlib")
        assert kernel.output("print(6 * 7)") == "42"
