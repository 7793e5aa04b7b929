"""How fast displays and desktops are there, how fast they answer, and what they cost: the rows of bench.json."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from candidates import (
    COLOUR,
    DIRECT_PORT,
    MODEL_COLOUR,
    PEER_HUB_PORT,
    PEER_PORT,
    TERMINAL,
    Agent,
    Desktop,
    Direct,
    Hub,
    OurDesktop,
    Ours,
    Peer,
    PeerDesktop,
    Way,
    wait_for,
    when,
)
from rows import Row
from vm import LOGS, Vm, VmError

CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
KEYS = 30
# What the first keys find for the first time is not what typing feels like.
WARM_UP_KEYS = 5
# From the first picture of a program until it is at its own speed, and how long it is watched then.
SETTLE_S = 4.0
WATCH_S = 6.0
# Xfce's programs start one after the other, long after the first picture in a VM without virtualisation hardware.
REST_S = 30.0
LINE_MBIT_S = 10
LINE_MS = 50
MOVING = ("scrolling", "gears", "model")


@dataclass
class Found:
    """What the runs of one way gave; of programs by their name.

    Parameters
    ----------
    cold_s, warm_s
        Until the first display of a server is seen in a browser that has none of its pages, and until another one is.
    key_ms, key_p95_ms
        From a key to what it changes: the median of a run, and what 95 % of its keys do not exceed.
    updates, mbit_s
        Changed frames a second, and what is sent for them.
    memory_mib
        Of one display.
    """

    cold_s: list[float] = field(default_factory=list)
    warm_s: list[float] = field(default_factory=list)
    key_ms: list[float] = field(default_factory=list)
    key_p95_ms: list[float] = field(default_factory=list)
    updates: dict[str, list[float]] = field(default_factory=dict)
    mbit_s: dict[str, list[float]] = field(default_factory=dict)
    memory_mib: list[float] = field(default_factory=list)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that so many percent of them do not exceed (nearest rank).

    Raises
    ------
    ValueError
        There are no values.
    """
    if not values:
        raise ValueError("There are no values.")
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def display_rows(ours: Found, peer: Found, direct: Found | None, suffix: str = "") -> list[Row]:
    """Compare our displays with the peer's, and with Xpra alone (`…_direct`) where that was measured."""

    def row(name: str, unit: str, values: Sequence[float], baselines: Sequence[float]) -> Row:
        return Row(name + suffix, unit, tuple(values), tuple(baselines))

    rows = [row("display_ready_cold", "s", ours.cold_s, peer.cold_s)]
    others = {"": peer}
    if direct:
        rows.append(row("display_ready_warm_direct", "s", ours.warm_s, direct.warm_s))
        others["_direct"] = direct
    for kind, other in others.items():
        rows += [
            row(f"key_to_pixel{kind}", "ms", ours.key_ms, other.key_ms),
            row(f"key_to_pixel_p95{kind}", "ms", ours.key_p95_ms, other.key_p95_ms),
        ]
    for program in MOVING:
        for kind, other in others.items():
            rows += [
                row(f"frames_{program}{kind}", "1/s", ours.updates[program], other.updates[program]),
                row(f"frames_{program}_sent{kind}", "Mbit/s", ours.mbit_s[program], other.mbit_s[program]),
            ]
    return rows


def measure_displays(machine: Vm, url: str, password: str, runs: int, say: Callable[[str], None]) -> list[Row]:
    """Open, use and weigh displays on all ways in turn, over the VM's own network and over a narrow line.

    Parameters
    ----------
    machine
        Where our hub and the peer run.
    url, password
        Of our hub.
    runs
        How often.
    say
        Called with how far it is.

    Raises
    ------
    VmError
        Something was not shown, or not in time.
    """
    rows: list[Row] = []
    with _chromium() as browser, Agent(machine) as agent:
        ways: dict[str, Way] = {
            "ours": Ours(agent, browser, Hub(url, password)),
            "Xpra alone": Direct(agent, browser, machine.port(DIRECT_PORT)),
            "peer": Peer(agent, browser, machine.port(PEER_PORT)),
        }
        for suffix, mbit_s, delay_ms in (("", 0, 0), ("_line", LINE_MBIT_S, LINE_MS)):
            # Over the line, displays have to beat the peer alone.
            found = {name: Found() for name in ways if not suffix or name != "Xpra alone"}
            for _ in range(runs):
                for name, of_way in found.items():
                    say(f"display{suffix}, {name} …")
                    _use(agent, ways[name], of_way, mbit_s, delay_ms)
                    say(f"display{suffix}, {name}: {_summary(of_way)}")
            rows += display_rows(found["ours"], found["peer"], found.get("Xpra alone"), suffix)
            if not suffix:
                ours, peer = found["ours"], found["peer"]
                rows.append(Row("display_memory", "MiB", tuple(ours.memory_mib), tuple(peer.memory_mib)))
    return rows


def measure_desktops(machine: Vm, url: str, password: str, runs: int, say: Callable[[str], None]) -> list[Row]:
    """Start desktops from our hub and from the peer's in turn.

    Parameters
    ----------
    machine
        Where both hubs run.
    url, password
        Of our hub; the peer's has the same accounts.
    runs
        How often.
    say
        Called with how far it is.

    Raises
    ------
    VmError
        One was not shown in time.
    """
    ready: dict[str, list[float]] = {"ours": [], "peer": []}
    memory: dict[str, list[float]] = {"ours": [], "peer": []}
    with _chromium() as browser, Agent(machine) as agent:
        peer_url = f"http://127.0.0.1:{machine.port(PEER_HUB_PORT)}"
        agent.ask("unit", "start", "peer-hub.service")
        desktops: dict[str, Desktop] = {
            "ours": OurDesktop(agent, browser, Hub(url, password)),
            "peer": PeerDesktop(agent, browser, Hub(peer_url, password)),
        }
        for _ in range(runs):
            for name, desktop in desktops.items():
                seconds, mib = desktop.measure(REST_S)
                ready[name].append(seconds)
                memory[name].append(mib)
                say(f"desktop, {name}: {seconds:.1f} s, {mib:.0f} MiB")
        agent.ask("unit", "stop", "peer-hub.service")
    return [
        Row("desktop_ready", "s", tuple(ready["ours"]), tuple(ready["peer"])),
        Row("desktop_memory", "MiB", tuple(memory["ours"]), tuple(memory["peer"])),
    ]


@contextlib.contextmanager
def _chromium() -> Iterator[Browser]:
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
            yield browser
            browser.close()
    except PlaywrightError as error:
        raise VmError(f"In Chromium: {error}") from error


def _use(agent: Agent, way: Way, found: Found, mbit_s: float, delay_ms: float) -> None:
    """Do on one way all that is measured."""
    try:
        # A server's start is not what the line is about.
        way.renew()
        agent.ask("narrow", mbit_s, delay_ms)
        found.cold_s.append(_seen_s(way))
        latencies = _type(way)
        found.key_ms.append(median(latencies))
        found.key_p95_ms.append(percentile(latencies, 95))
        found.memory_mib.append(way.memory_mib())
        for program in MOVING:
            updates, mbit_s_sent = _watch(agent, way, program)
            found.updates.setdefault(program, []).append(updates)
            found.mbit_s.setdefault(program, []).append(mbit_s_sent)
        found.warm_s.append(_seen_s(way))
    except PlaywrightError as error:
        raise VmError(f"{error} {_photograph(way.page)}") from error
    finally:
        agent.ask("narrow", 0, 0)
        way.close()


def _photograph(page: Page | None) -> str:
    """Keep what a page shows; return a sentence that says where."""
    if not page:
        return ""
    path = LOGS / "failed.png"
    page.screenshot(path=path)
    return f"What the page showed is in {path}."


def _seen_s(way: Way) -> float:
    begin = way.show(TERMINAL)
    assert way.page
    return (when(way.page, "window") - begin) / 1000


def _type(way: Way) -> list[float]:
    """Type letters into the terminal; return how many milliseconds each took to be seen, but for the first ones."""
    page = way.page
    assert page
    place = wait_for("the terminal", lambda: page.evaluate("colour => bench.find(colour)", list(COLOUR)))
    page.mouse.click(place["x"], place["y"])
    latencies = []
    for number in range(WARM_UP_KEYS + KEYS):
        if not page.evaluate("colour => bench.arm(colour)", list(COLOUR)):
            raise VmError("The terminal is not seen any more, or never rests.")
        page.keyboard.press("abcdefghijklmnopqrstuvwxyz"[number % 26])
        latency = page.wait_for_function("() => bench.latency").json_value()
        latencies.append(float(latency))
    return latencies[WARM_UP_KEYS:]


def _watch(agent: Agent, way: Way, program: str) -> tuple[float, float]:
    """Show a program that moves; return the changed frames of a second, and the Mbit that are sent in it."""
    way.show(program)
    page = way.page
    assert page
    when(page, "picture")
    if program == "model":
        place = wait_for("the model", lambda: page.evaluate("colour => bench.find(colour)", list(MODEL_COLOUR)))
    else:
        wait_for(f"{program} to move", lambda: page.evaluate("() => bench.count(2)") > 0.9)
    time.sleep(SETTLE_S)
    sent, begin = agent.ask("sent_bytes"), time.monotonic()
    page.evaluate("seconds => { bench.counting = bench.count(seconds); }", WATCH_S)
    if program == "model":
        _turn(way, place["x"], place["y"], WATCH_S)
    updates = float(page.evaluate("() => bench.counting"))
    mbit = (agent.ask("sent_bytes") - sent) * 8 / 1e6
    return updates, mbit / (time.monotonic() - begin)


def _turn(way: Way, x: float, y: float, seconds: float) -> None:
    """Turn the model by the mouse, which goes round in it thirty times a second as a hand's does."""
    assert way.page
    mouse, begin, step = way.page.mouse, time.monotonic(), 1 / 30
    mouse.move(x + 60, y)
    mouse.down()
    while (elapsed := time.monotonic() - begin) < seconds:
        angle = elapsed * math.pi
        mouse.move(x + 60 * math.cos(angle), y + 60 * math.sin(angle))
        time.sleep(max(0.0, step - (time.monotonic() - begin - elapsed)))
    mouse.up()


def _summary(found: Found) -> str:
    frames = ", ".join(f"{program} {values[-1]:.0f}/s" for program, values in found.updates.items())
    return (
        f"{found.cold_s[-1]:.2f} s, then {found.warm_s[-1]:.2f} s; a key {found.key_ms[-1]:.0f} ms;"
        f" {frames}; {found.memory_mib[-1]:.0f} MiB"
    )
