"""Notices in a session: when there is one, and how the page shows it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from jupyterhub_sessions import announcements, notices, tickets
from jupyterhub_sessions.tickets import Ticket

LABEXTENSION = Path(notices.__file__).parents[1] / "labextension"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age_min", "left_min", "renewable_days", "said"),
    [
        (60, 540, 7, []),
        # Not renewed in time: it will not be any more.
        (575, 25, 7, ["ticket-ending"]),
        (575, 25, 0, ["ticket-ending"]),
        # Of a short life, and young.
        (1, 9, 7, []),
        (9, 1, 7, ["ticket-ending"]),
        (600, -1, 7, ["ticket-expired"]),
    ],
)
def test_ticket(age_min: int, left_min: int, renewable_days: int, said: list[str]) -> None:
    expires = NOW + timedelta(minutes=left_min)
    ticket = Ticket("a@B", NOW - timedelta(minutes=age_min), expires, expires + timedelta(days=renewable_days))
    found = notices.about_ticket(ticket, NOW, "/hub/ticket")
    assert [notice.id for notice in found] == said
    assert all("{time}" in notice.message and notice.at == expires.isoformat() for notice in found)


def test_no_ticket() -> None:
    (notice,) = notices.about_ticket(None, NOW, "/hub/ticket")
    assert (notice.id, notice.url, notice.label) == ("ticket-missing", "/hub/ticket", "Get a new ticket")


async def test_klist_is_not_asked_by_each_page(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def read_ticket() -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(tickets, "read_ticket", read_ticket)
    monkeypatch.setenv("JUPYTERHUB_SESSIONS_TICKET_URL", "/hub/ticket")
    current = notices.Notices()
    for _page in range(5):
        assert [notice.id for notice in await current.current()] == ["ticket-missing"]
    assert asked == 1


@pytest.mark.parametrize(("left_min", "said"), [(11, []), (9, ["session-ending"]), (-1, ["session-ending"])])
def test_end_of_the_session(left_min: int, said: list[str]) -> None:
    ends = (NOW + timedelta(minutes=left_min)).timestamp()
    assert [notice.id for notice in notices.about_end(ends, ends, NOW, "/hub/home")] == said


def test_end_that_can_be_put_off() -> None:
    ends = (NOW + timedelta(minutes=5)).timestamp()
    (last,) = notices.about_end(ends, ends, NOW, "/hub/home")
    (other,) = notices.about_end(ends, ends + 60, NOW, "/hub/home")
    assert (last.label, last.url) == ("", "") and (other.label, other.url) == ("Extend it", "/hub/home")


def test_announcement() -> None:
    assert notices.about_announcement("", "/hub/home") == []
    (short,) = notices.about_announcement("Maintenance\n on Friday", "/hub/home")
    assert (short.kind, short.message, short.url) == ("info", "Maintenance on Friday", "")
    (long,) = notices.about_announcement("word " * 40, "/hub/home")
    assert len(long.message) <= 140 and long.message.endswith(" word…") and long.url == "/hub/home"
    # Another text is shown to those who closed the first.
    assert short.id != long.id


async def test_announcement_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "FILE", tmp_path / "announcement.txt")
    assert await notices.Notices().current() == []
    (tmp_path / "announcement.txt").write_bytes(b"Room \xff 12\n")
    assert [notice.message for notice in await notices.Notices().current()] == ["Room \ufffd 12"]


async def test_without_kerberos_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUPYTERHUB_SESSIONS_TICKET_URL", raising=False)
    monkeypatch.setattr(tickets, "KLIST", "/no/such/program")
    assert await notices.Notices().current() == []


# What JupyterLab gives an extension, as far as ours uses it.
LAB = """
window.calls = []; window.listed = []; window.commands = {};
window.fetch = async (url, options) => {
  window.calls.push(["fetch", url, options.headers["X-XSRFToken"]]);
  return { ok: true, json: async () => ({ notices: window.listed }) };
};
window.open = (...args) => { window.calls.push(["open", ...args]); };
window.app = {
  restored: Promise.resolve(),
  serviceManager: { serverSettings: { baseUrl: "https://hub.example.org/user/alice/" } },
  commands: {
    addCommand: (id, command) => { window.commands[id] = command; },
    execute: async (id, args) => { window.calls.push([id, args]); return `notification ${args.message}`; },
  },
};
window.start = async () => {
  const extension = window._JUPYTERLAB["jupyterhub-sessions"];
  await extension.init({});
  (await extension.get("./extension"))().default.activate(window.app);
};
window.look = async () => {
  document.dispatchEvent(new Event("visibilitychange"));
  await new Promise((resolve) => setTimeout(resolve, 50));
  const calls = window.calls; window.calls = []; return calls;
};
"""


@pytest.fixture
def page() -> Iterator[Any]:
    """Load the extension into a page that stands for JupyterLab."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(locale="en-GB", timezone_id="Europe/Moscow")
        page.route("https://hub.example.org/**", lambda route: route.fulfill(body="<html></html>"))
        page.goto("https://hub.example.org/user/alice/lab")
        page.evaluate("document.cookie = '_xsrf=token1'")
        page.evaluate(LAB)
        page.add_script_tag(content=(LABEXTENSION / "static" / "remoteEntry.js").read_text())
        yield page
        browser.close()


def test_page_shows_a_notice_once_and_takes_it_away(page: Any) -> None:
    page.evaluate("start()")
    calls = page.evaluate("look()")
    assert calls[0] == ["fetch", "https://hub.example.org/user/alice/jupyterhub-sessions/notices", "token1"]
    assert {call[0] for call in calls} == {"fetch"}

    notice = notices.Notice("n1", "warning", "Ends at {time}.", NOW.isoformat(), "Renew", "/hub/ticket")
    page.evaluate("notice => { listed = [notice]; }", vars(notice))
    (shown,) = (args for command, args, *_rest in page.evaluate("look()") if command == "apputils:notify")
    assert (shown["message"], shown["type"]) == ("Ends at 15:00.", "warning")
    assert shown["options"]["autoClose"] is False
    (action,) = shown["options"]["actions"]
    page.evaluate("action => commands[action.commandId].execute(action.args)", action)
    assert ["open", "/hub/ticket", "_blank", "noopener"] in page.evaluate("look()")
    assert [call for call in page.evaluate("look()") if call[0] == "apputils:notify"] == []

    page.evaluate("listed = []")
    assert ["apputils:dismiss-notification", {"id": "notification Ends at 15:00."}] in page.evaluate("look()")

    page.evaluate("listed = [{ id: 'n2', kind: 'info', message: 'A {time} of braces', at: '' }]")
    assert "A {time} of braces" in [
        args["message"] for command, args, *_rest in page.evaluate("look()") if "notify" in command
    ]
