"""What the tests of displays share: the REST API as a student's page uses it, and what a page shows of a display."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page
from testing import Browserless, wait_for

Display = dict[str, Any]

# A VM without virtualisation hardware starts a display in some seconds.
START_SECONDS = 120
PAINTED_MS = 120_000

#: In the page, when keys have a window to go to; the client of Xpra 6 calls it otherwise.
READY = "typeof client === 'object' && client?.connected && (client.focused_wid ?? client.topwindow)"
WINDOWS = "Object.values(client.id_to_window).map(({wid, title, x, y, w, h}) => ({wid, title, x, y, w, h}))"
#: What is painted of a window: how many colours, and a number that tells one picture from another.
PICTURE = """wid => {
    const canvas = document.querySelector(`#${CSS.escape(String(wid))} canvas`);
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    const data = new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return [new Set(data).size, data.reduce((digest, pixel) => (digest * 31 + pixel) | 0, 0)];
}"""


class Displays:
    """The displays of a student whose session runs."""

    def __init__(self, user: Browserless) -> None:
        self.user = user
        self.path = f"{user.base()}xpra/api"

    def ask(self, method: str, path: str, **kwargs: Any) -> Any:
        """Send a request that must succeed; return what the answer holds."""
        answer = self.user.request(method, f"{self.path}/{path}", timeout=START_SECONDS, **kwargs)
        assert answer.ok, f"{answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def create(self, **wish: Any) -> Display:
        """Start a display."""
        display: Display = self.ask("POST", "displays", json=wish)
        return display

    def list(self) -> list[Display]:
        """Return all of them."""
        displays: list[Display] = self.ask("GET", "displays")["displays"]
        return displays

    def delete(self, display: Display) -> None:
        """Stop one, and take it from the list."""
        self.ask("DELETE", f"displays/{display['id']}")

    def delete_all(self) -> None:
        """Stop what there is."""
        for display in self.list():
            self.delete(display)

    def wait_state(self, display: Display, state: str, seconds: float = 60) -> Display:
        """Wait until a display is in a state; return it."""

        def found() -> Display | None:
            return next((one for one in self.list() if one["id"] == display["id"] and one["state"] == state), None)

        return wait_for(f"the display to be {state}", found, seconds)


class Screen:
    """A display in a page.

    Parameters
    ----------
    page
        Of a browser that is logged in.
    """

    def __init__(self, page: Page, display: Display) -> None:
        self.page = page
        page.goto(display["url"])
        page.wait_for_function(READY, timeout=PAINTED_MS)

    def windows(self) -> list[dict[str, Any]]:
        """Return id, title, place and size of the windows."""
        windows: list[dict[str, Any]] = self.page.evaluate(WINDOWS)
        return windows

    def window(self, title: str = "") -> dict[str, Any]:
        """Wait for the window whose title begins so, painted: more than a canvas of one colour.

        Shells give terminals titles of their own.
        """

        def found() -> dict[str, Any] | None:
            window = next((window for window in self.windows() if window["title"].startswith(title)), None)
            return window if window and self.colours(window) > 1 else None

        return wait_for(f"the window {title!r} to be painted", found, PAINTED_MS / 1000)

    def colours(self, window: dict[str, Any]) -> int:
        """Return how many colours a window shows."""
        colours: int = self.page.evaluate(PICTURE, window["wid"])[0]
        return colours

    def picture(self, window: dict[str, Any]) -> int:
        """Return a number that tells what a window shows, once that rests."""
        last = [self.page.evaluate(PICTURE, window["wid"])[1]]

        def rests() -> bool:
            last.append(self.page.evaluate(PICTURE, window["wid"])[1])
            return last[-1] == last[-2]

        wait_for("the picture to rest", rests, pause=2)
        return last[-1]

    def drag(self, window: dict[str, Any], dx: int, dy: int, steps: int = 12) -> None:
        """Pull with the mouse, from the middle of a window, and rest before the button is released."""
        x, y = window["x"] + window["w"] // 2, window["y"] + window["h"] // 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for step in range(1, steps + 1):
            self.page.mouse.move(x + dx * step // steps, y + dy * step // steps)
            self.page.wait_for_timeout(60)
        self.page.wait_for_timeout(500)
        self.page.mouse.up()

    def click(self, window: dict[str, Any]) -> None:
        """Click into a window."""
        self.page.mouse.click(window["x"] + window["w"] // 2, window["y"] + window["h"] // 2)

    def type(self, text: str) -> None:
        """Type, a new line with the key Enter."""
        for index, line in enumerate(text.split("\n")):
            if index:
                self.page.keyboard.press("Enter")
            self.page.keyboard.type(line, delay=20)
