"""The session form of a real hub: shown where there is a choice, refused choices explained, links, several sessions."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyterhub_sessions import i18n, stacks
from jupyterhub_sessions.choices import ChoiceError
from jupyterhub_sessions.form import FormSpawner
from jupyterhub_sessions.stacks import Stack
from jupyterhub_sessions.tests.hubs import (
    Browser,
    Hub,
    Page,
    assert_speaks,
    chromium_page,
    running_hub,
    said,
    wait_for,
)

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Route
    from playwright.sync_api import Page as BrowserPage

SCREENSHOTS = Path(__file__).parents[4] / "build" / "screenshots" / "form"
VIEW = "lcg-107"


def write_stack(directory: Path, name: str, display_name: str, setup: str, session: bool = True) -> None:
    """Write a stack as the role jupyterlab does."""
    kernel = directory / "kernels" / name
    kernel.mkdir(parents=True, exist_ok=True)
    stack = {"setup": setup, "argv": ["python3"], "session": session}
    (kernel / "kernel.json").write_text(json.dumps({"display_name": display_name, "metadata": {"stack": stack}}))


@pytest.fixture(scope="module", params=i18n.LANGUAGES)
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Run a hub in each language, with a stack that is there, one that is not, and one of kernels alone."""
    directory = tmp_path_factory.mktemp(f"hub-{request.param}")
    (directory / "setup.sh").touch()
    write_stack(directory / "stacks", VIEW, "Python (LCG 107)", f"{directory}/setup.sh")
    write_stack(directory / "stacks", "lcg-108", "Python (LCG 108)", "/cvmfs/sft.example.org/setup.sh")
    write_stack(directory / "stacks", "kernels", "Kernels", f"{directory}/setup.sh", session=False)
    with running_hub(request.param, directory, slow_start_s=3.0) as running:
        failed = request.session.testsfailed
        yield running
        if request.session.testsfailed > failed:
            print(running.log.read_text())


def fields(page: Page) -> dict[str, list[str]]:
    """Return the values on offer by the names of the fields."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="radio" name="(\w+)" value="([^"]*)"', page.html):
        found.setdefault(name, []).append(value)
    return found


def chosen(page: Page) -> dict[str, str]:
    """Return what the form proposes."""
    return dict(re.findall(r'<input type="radio" name="(\w+)" value="([^"]*)" checked', page.html))


def submit(browser: Browser, page: Page, **choice: str) -> Page:
    """Send the form."""
    action = unescape(page.field(r'<form [^>]*action="([^"]+)"'))
    return browser.get(action, "POST", choice)


def server(browser: Browser, user: str, name: str = "") -> dict[str, Any]:
    """Return what the hub knows of a session."""
    found: dict[str, Any] = json.loads(browser.get(f"/hub/api/users/{user}?include_stopped_servers=1").html)
    state: dict[str, Any] = found["servers"].get(name, {})
    return state


def started(browser: Browser, user: str, name: str = "") -> dict[str, Any]:
    """Wait until a session runs; return what the hub knows of it."""
    wait_for(lambda: browser.get("/hub/home") if server(browser, user, name).get("ready") else None)
    return server(browser, user, name)


def refused(page: Page, hub: Hub, message: str, **values: str) -> None:
    """Find the form with the reason of a refusal."""
    assert page.status == 400, page.html
    assert said(hub, message) % values in page.visible.texts
    assert 'id="spawn_form"' in page.html
    assert_speaks(page, hub.language)


# --- what is offered ---------------------------------------------------------------------------------------------


def test_form_offers_what_the_user_may_have(hub: Hub) -> None:
    """The form has the kinds, the stacks for sessions, and the sizes that are not others'; and what is free."""
    page = hub.user("picks").get("/hub/spawn")
    assert page.status == 200
    assert_speaks(page, hub.language)
    assert fields(page) == {
        "kind": ["lab", "notebook", "desktop"],
        "stack": ["local", VIEW, "lcg-108"],
        "profile": ["small", "large"],
    }
    assert chosen(page) == {"kind": "lab", "stack": "local", "profile": "small"}
    assert "hub.example.org" in page.field(r'(?s)id="place">(.*?)</p>')
    assert said(hub, "On a desktop, what is started in a terminal has it.") in page.visible.texts


def test_member_of_a_group_has_its_size(hub: Hub) -> None:
    """A size for a group is offered to its members."""
    page = hub.user("picksteacher").get("/hub/spawn")
    assert fields(page)["profile"] == ["small", "large", "exam"]
    # Nobody has that much memory.
    assert page.visible.texts.count(said(hub, "More memory than is free now")) == 1


def test_stack_that_is_away_cannot_be_chosen(hub: Hub) -> None:
    """A stack whose repository does not answer is shown as such, and refused."""
    browser = hub.user("picks")
    page = browser.get("/hub/spawn")
    away = said(hub, "Not available: %(repository)s does not answer") % {"repository": "sft.example.org"}
    assert away in page.visible.texts
    assert re.findall(r'value="([^"]+)" disabled', page.html) == ["lcg-108"]
    message = "%(stack)s is not available: %(repository)s does not answer, or does not have %(path)s any more."
    values = {
        "stack": "Python (LCG 108)",
        "repository": "sft.example.org",
        "path": "/cvmfs/sft.example.org/setup.sh",
    }
    refused(submit(browser, page, kind="lab", stack="lcg-108", profile="small"), hub, message, **values)


def test_without_a_choice_there_is_no_form(hub: Hub) -> None:
    """Where there is nothing to choose, a session starts at once; stacks for sessions are a choice."""
    for file in (hub.directory / "stacks/kernels").glob("lcg-*/kernel.json"):
        file.rename(file.with_suffix(".away"))
    try:
        page = hub.user("plain").get("/hub/spawn")
    finally:
        for file in (hub.directory / "stacks/kernels").glob("lcg-*/kernel.away"):
            file.rename(file.with_suffix(".json"))
    assert "/hub/spawn-pending/plain" in page.url
    assert fields(hub.user("plain2").get("/hub/spawn")) == {"stack": ["local", VIEW, "lcg-108"]}


# --- what is chosen ----------------------------------------------------------------------------------------------


def test_choice_is_started_and_remembered(hub: Hub) -> None:
    """What was chosen starts, is on the home page, and is what the form proposes next, for other sessions as well."""
    user = "picks-remembers"
    browser = hub.user(user)
    choice = {"kind": "notebook", "stack": VIEW, "profile": "large"}
    submit(browser, browser.get("/hub/spawn"), **choice)
    assert started(browser, user)["user_options"] == choice
    home = browser.get("/hub/home")
    assert_speaks(home, hub.language)
    memory = said(hub, "%(used)s of %(limit)s of memory") % {
        "used": said(hub, "%(size)s MiB") % {"size": "300"},
        "limit": said(hub, "%(size)s GiB") % {"size": "4"},
    }
    for text in (said(hub, "Notebook"), "Python (LCG 107)", "Large", memory):
        assert text in home.visible.texts, home.visible.text
    assert 'class="ends"' not in home.html
    assert browser.api("PUT", f"users/{user}/servers/other").status == 201
    assert chosen(browser.get(f"/hub/spawn/{user}/other")) == choice
    browser.api("DELETE", f"users/{user}/server")
    wait_for(lambda: browser.get("/hub/home") if not server(browser, user).get("ready") else None)
    assert chosen(browser.get("/hub/spawn")) == choice


def test_session_with_an_end_says_when(hub: Hub) -> None:
    """The home page tells how much time is left, here eight hours."""
    browser = hub.user("picks-ends")
    submit(browser, browser.get("/hub/spawn"), kind="lab", stack="local", profile="small")
    started(browser, "picks-ends")
    ends = time.mktime(
        time.strptime(
            browser.get("/hub/home").field(r'class="ends">[^<]*<time datetime="([^+"]+)'), "%Y-%m-%dT%H:%M:%S"
        )
    )
    assert 7.9 * 3600 < ends - time.mktime(time.gmtime()) <= 8 * 3600


def test_session_is_extended_by_its_user_alone(hub: Hub) -> None:
    """The button gives more time; a forged form, another user and a session that does not run get none."""
    user = "picks-extends"
    browser = hub.user(user)
    submit(browser, browser.get("/hub/spawn"), kind="lab", profile="small")
    started(browser, user)
    form = {"server": "", "_xsrf": browser.get("/hub/home").field(r'name="_xsrf" value="([^"]+)"')}
    ends = r'class="ends">[^<]*<time datetime="([^"]+)'
    before = browser.get("/hub/home").field(ends)
    assert browser.get("/hub/extend", "POST", form | {"_xsrf": "forged"}).status == 403
    stranger = hub.user("picks-stranger")
    forged = {"server": "", "_xsrf": stranger.get("/hub/home").field(r'xsrf_token: "([^"]+)"'), "user": user}
    assert stranger.get("/hub/extend", "POST", forged).status == 404
    assert browser.get("/hub/extend", "POST", form | {"server": "other"}).status == 404
    assert browser.get("/hub/home").field(ends) == before
    time.sleep(1.1)
    page = browser.get("/hub/extend", "POST", form)
    assert page.url.endswith("/hub/home") and page.field(ends) > before
    assert_speaks(page, hub.language)


REFUSALS: list[tuple[dict[str, str], str, dict[str, str]]] = [
    (
        {"kind": "cluster"},
        "There is no kind of session “%(given)s” here. You may choose: %(known)s.",
        {"given": "cluster", "known": "lab, notebook, desktop"},
    ),
    (
        {"stack": "<b>"},
        "There is no software stack “%(given)s” here. You may choose: %(known)s.",
        {"given": "<b>", "known": "local, lcg-107, lcg-108"},
    ),
    (
        {"profile": "huge"},
        "There is no size “%(given)s” here. You may choose: %(known)s.",
        {"given": "huge", "known": "small, large"},
    ),
    (
        {"profile": "exam"},
        "The size “%(given)s” is for members of %(groups)s alone. You may choose: %(known)s.",
        {"given": "exam", "groups": "teachers, administrators", "known": "small, large"},
    ),
    ({"memory": "9 %s"}, "A session has no choice %(choice)s.", {"choice": "memory=9 %s"}),
    ({"home": "temporary"}, "There is no temporary home here: homes are on this server anyway.", {}),
]


@pytest.mark.parametrize("way", ["form", "address", "api"])
@pytest.mark.parametrize(("options", "message", "values"), REFUSALS)
def test_refusals(hub: Hub, way: str, options: dict[str, str], message: str, values: dict[str, str]) -> None:
    """What is not on offer is refused with what is, however it is asked for; and does not come back by itself."""
    user = "picks-refused"
    browser = hub.user(user)
    if way == "form":
        page = submit(browser, browser.get("/hub/spawn"), **{"kind": "lab", **options})
    elif way == "address":
        query = {f"opt-{name}": value for name, value in {"kind": "lab", **options}.items()}
        page = browser.get(f"/hub/spawn?{urllib.parse.urlencode(query)}")
    else:
        page = browser.api("POST", f"users/{user}/server", json.dumps(options))
        assert page.status == 400 and said(hub, message) % values in json.loads(page.html)["message"]
    if way != "api":
        refused(page, hub, message, **values)
        assert chosen(page)["kind"] == "lab"
    assert not server(browser, user).get("ready")
    assert chosen(browser.get("/hub/spawn"))["profile"] == "small"


def test_refused_options_do_not_come_back(hub: Hub) -> None:
    """The hub keeps options before they are checked; refused ones are not those of the next start."""
    browser = hub.user("plain4")
    assert browser.api("POST", "users/plain4/server", '{"kind": "cluster"}').status == 400
    assert browser.api("POST", "users/plain4/server").status in {201, 202}


def test_temporary_home_is_for_one_start(hub: Hub) -> None:
    """It is chosen with the rest, and does not come back with it."""
    user = "picks-network"
    browser = hub.user(user)
    browser.get("/hub/spawn?opt-home=temporary&opt-kind=notebook")
    assert started(browser, user)["user_options"] == {"kind": "notebook", "home": "temporary"}
    browser.api("DELETE", f"users/{user}/server")
    wait_for(lambda: browser.get("/hub/home") if not server(browser, user).get("ready") else None)
    form = browser.get("/hub/spawn")
    assert chosen(form)["kind"] == "notebook" and 'name="home"' not in form.html
    refused = browser.get("/hub/spawn?opt-home=temporary&opt-kind=cluster")
    assert '<input type="hidden" name="home" value="temporary">' in refused.html


def test_refusal_where_there_is_nothing_to_choose(hub: Hub) -> None:
    """An address with a wrong option is explained to somebody who has no form, and starts nothing."""
    browser = hub.user("plain3")
    page = browser.get("/hub/spawn?opt-profile=huge")
    message = "There is no size “%(given)s” here. You may choose: %(known)s."
    refused(page, hub, message, given="huge", known="–")
    assert not server(browser, "plain3").get("pending")
    # Its button starts what there is.
    assert "/hub/spawn-pending/plain3" in submit(browser, page).url


def test_refusal_of_a_session_with_a_name_keeps_its_form(hub: Hub) -> None:
    """The form that is shown again is the one of the session it was about, with what was chosen."""
    user = "picks-named"
    browser = hub.user(user)
    body = json.dumps({"display_name": "Курсовая №2 ☂"})
    assert browser.api("PUT", f"users/{user}/servers/kursovaya", body).status == 201
    form = browser.get(f"/hub/spawn/{user}/kursovaya")
    name = said(hub, "Name: %(name)s") % {"name": "Курсовая №2 ☂"}
    assert name in form.visible.texts
    page = submit(browser, form, kind="notebook", profile="exam")
    assert page.status == 400 and name in page.visible.texts and chosen(page)["kind"] == "notebook"
    submit(browser, page, kind="notebook", profile="large")
    assert started(browser, user, "kursovaya")["user_options"] == {"kind": "notebook", "profile": "large"}


def test_names_that_are_taken_or_illegal(hub: Hub) -> None:
    """A name that the user has, and one that cannot be one, are refused in the site's language."""
    user = "picks-names"
    browser = hub.user(user)
    assert browser.api("PUT", f"users/{user}/servers/one", '{"display_name": "One"}').status == 201
    assert browser.api("PUT", f"users/{user}/servers/one", '{"display_name": "One"}').status == 409
    for path, body in (("two", {"display_name": "line\nbreak"}), ("No_Such-Name-", {"display_name": "x"})):
        assert browser.api("PUT", f"users/{user}/servers/{path}", json.dumps(body)).status == 400


def test_failed_start_shows_log_and_form(hub: Hub) -> None:
    """A start that fails at once shows why, with the log, above the form."""
    browser = hub.user("picks-fails")
    page = submit(browser, browser.get("/hub/spawn"), kind="desktop", stack="local", profile="small")
    reason = {"en": "Reason: memory", "ru": "Причина: память"}[hub.language]
    assert page.visible.texts.count(reason) == 1
    assert "kernel: &lt;first&gt; line\nkernel: last line" in page.html
    assert chosen(page)["kind"] == "desktop"
    assert_speaks(page, hub.language)


# --- links -------------------------------------------------------------------------------------------------------

REPOSITORY = "https://git.example.org/course?ref=1"
GIT_PULL = urllib.parse.urlencode({"repo": REPOSITORY, "branch": "main", "urlpath": "lab/tree/course/index.ipynb"})


def test_link_with_a_repository(hub: Hub) -> None:
    """nbgitpuller's ordinary link with options starts the right session, and leads to the repository."""
    user = "picks-link"
    browser = hub.user(user)
    page = browser.get(f"/hub/user-redirect/git-pull?{GIT_PULL}&opt-kind=notebook&opt-profile=large")
    assert f"/hub/spawn-pending/{user}" in page.url or f"/user/{user}/git-pull" in page.url, page.url
    assert started(browser, user)["user_options"] == {"kind": "notebook", "profile": "large"}
    target = urllib.parse.urlsplit(browser.get(page.url).url)
    assert target.path.removeprefix("/hub") == f"/user/{user}/git-pull"
    assert dict(urllib.parse.parse_qsl(target.query)).items() >= dict(urllib.parse.parse_qsl(GIT_PULL)).items()


def test_link_with_a_wrong_option_still_leads_there(hub: Hub) -> None:
    """A refused link shows the form, and what is started there goes on to the repository."""
    user = "picks-wrong-link"
    browser = hub.user(user)
    page = browser.get(f"/hub/user-redirect/git-pull?{GIT_PULL}&opt-profile=exam")
    assert page.status == 400
    page = submit(browser, page, kind="lab", profile="small")
    started(browser, user)
    target = urllib.parse.urlsplit(browser.get(page.url).url)
    assert target.path.removeprefix("/hub") == f"/user/{user}/git-pull"
    assert dict(urllib.parse.parse_qsl(target.query))["repo"] == REPOSITORY


# --- time --------------------------------------------------------------------------------------------------------


async def test_dead_file_system_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at a stack that never come back are over in the time that they are given, for a whole class at once."""
    forever = threading.Event()
    monkeypatch.setattr(os.path, "exists", lambda _path: forever.wait(60))
    monkeypatch.setattr(stacks, "AVAILABILITY", stacks.Availability())
    stack = Stack("dead", "Dead", setup="/cvmfs/dead.example.org/setup.sh")
    begin = time.monotonic()
    looks = [FormSpawner.look(None, stack, 2.0) for _student in range(60)]  # type: ignore[arg-type]
    refused = await asyncio.gather(*looks, return_exceptions=True)
    # One after the other they would take two minutes, by the threads of the event loop some twenty seconds.
    assert time.monotonic() - begin < 10
    forever.set()
    assert all(isinstance(error, ChoiceError) and "dead.example.org does not answer" in str(error) for error in refused)


# --- announcements -----------------------------------------------------------------------------------------------


def test_announcement_comes_and_goes(hub: Hub) -> None:
    """What the administrator writes is on every page at once, as text, and gone with the file."""
    file = hub.directory / "announcement.txt"
    browser = hub.user("picks")
    file.write_text("<b>Maintenance</b> on Friday:\nsee https://status.example.org/ \n")
    try:
        for page in (hub.visitor().get("/hub/login"), browser.get("/hub/home"), browser.get("/hub/spawn")):
            assert 'id="announcement"' in page.html and "&lt;b&gt;Maintenance&lt;/b&gt;" in page.html
            assert 'href="https://status.example.org/"' in page.html
    finally:
        file.unlink()
    assert 'id="announcement"' not in browser.get("/hub/home").html


# --- in a browser ------------------------------------------------------------------------------------------------


def log_in(page: BrowserPage, hub: Hub, user: str, path: str) -> None:
    """Log in, and have sessions answer without the proxy."""

    def answer(route: Route) -> None:
        route.fulfill(content_type="text/html", body="<title>session</title>")

    page.route(re.compile(r"//[^/]+/user/"), answer)
    page.goto(f"{hub.base}/hub/login?{urllib.parse.urlencode({'next': path})}")
    page.fill("#username_input", user)
    page.fill("#password_input", "right")
    page.press("#password_input", "Enter")


def shoot(page: BrowserPage, hub: Hub) -> Callable[[str], None]:
    """Return the function that takes screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def take(name: str) -> None:
        page.screenshot(path=SCREENSHOTS / f"{name}-{hub.language}.png", full_page=True)

    return take


def test_form_by_keyboard(hub: Hub) -> None:
    """Arrows choose, Tab goes on, Enter starts; the page then leads into the session."""
    user = "picks-keys"
    with chromium_page(viewport={"width": 1100, "height": 900}) as page:
        log_in(page, hub, user, "/hub/spawn")
        page.wait_for_selector("#spawn_form")
        take = shoot(page, hub)
        assert page.evaluate("document.activeElement.value") == "lab"
        for key in ("ArrowRight", "Tab", "ArrowDown", "Tab", "ArrowDown"):
            page.keyboard.press(key)
        take("form")
        # The stack that is away is passed over.
        assert page.evaluate("[...document.querySelectorAll('input:checked')].map((input) => input.value)") == [
            "notebook", VIEW, "large",
        ]  # fmt: skip
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/user/{user}/**")
        page.goto(f"{hub.base}/hub/home")
        page.wait_for_function("window._jupyterhub_page_loaded")
        state = server(hub.user(user), user)
    assert state["user_options"] == {"kind": "notebook", "stack": VIEW, "profile": "large"}


def test_form_on_a_phone(hub: Hub) -> None:
    """On a narrow screen nothing sticks out, and each choice can be touched."""
    with chromium_page(viewport={"width": 390, "height": 844}, has_touch=True, device_scale_factor=2) as page:
        log_in(page, hub, "picks-phone-teacher", "/hub/spawn?opt-profile=nothing")
        page.wait_for_selector("#spawn_form")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for value in ("notebook", VIEW, "exam"):
            box = page.locator(f"label:has(input[value={json.dumps(value)}])")
            size = box.bounding_box()
            assert size and size["height"] >= 44 and size["x"] + size["width"] <= 390
            box.tap()
        assert page.locator("input:checked").count() == 3
        tops = page.locator(".site-nav a").evaluate_all("links => links.map((link) => link.offsetTop)")
        assert len(tops) == 3 and len(set(tops)) == 1
        shoot(page, hub)("form-phone")


def test_home_with_several_sessions(hub: Hub) -> None:
    """A session gets any name, runs beside others, and is opened and stopped from the page."""
    user = "picks-home"
    browser = hub.user(user)
    submit(browser, browser.get("/hub/spawn"), kind="lab", stack=VIEW, profile="small")
    started(browser, user)
    name = "Курсовая: модель ☀ & <b>"
    for width in (1100, 390):
        with chromium_page(viewport={"width": width, "height": 900}) as page:
            log_in(page, hub, user, "/hub/home")
            page.wait_for_function("window._jupyterhub_page_loaded")
            if width == 1100:
                page.fill(".new-server-name", name)
                page.click(".new-server-btn:enabled")
                page.wait_for_selector(".start-server")
                assert page.locator(".session-name").all_inner_texts() == [name]
                page.click(".start-server")
                page.wait_for_selector("#spawn_form")
                page.check("input[value=large]")
                page.keyboard.press("Enter")
                page.wait_for_url(f"**/user/{user}/*/**")
                page.goto(f"{hub.base}/hub/home")
                page.wait_for_function("window._jupyterhub_page_loaded")
                # The same name once more.
                page.fill(".new-server-name", name)
                page.click(".new-server-btn:enabled")
                taken = page.eval_on_selector(".new-server-name", "input => input.validationMessage")
                assert taken == said(hub, "You have a session of this name already.")
                page.goto(f"{hub.base}/hub/home")
                page.wait_for_function("window._jupyterhub_page_loaded")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator(".facts").count() == 2
            shoot(page, hub)(f"home-{width}")
    with chromium_page() as page:
        log_in(page, hub, user, "/hub/home")
        page.click(".stop-server:enabled")
        page.wait_for_selector(".start-server:visible")
    assert server(browser, user)["ready"]


def test_names_of_any_script(hub: Hub) -> None:
    """Names that have no Latin letter in common are different sessions, and are asked for by their names."""
    user = "picks-scripts"
    names = ["Курсовая", "Диплом", "卒業論文"]
    with chromium_page() as page:
        log_in(page, hub, user, "/hub/home")
        for count, name in enumerate(names, 1):
            page.wait_for_function("window._jupyterhub_page_loaded")
            page.fill(".new-server-name", name)
            page.press(".new-server-name:enabled", "Enter")
            page.wait_for_function(f"document.querySelectorAll('.session-name').length === {count}")
        page.wait_for_function("window._jupyterhub_page_loaded")
        assert sorted(page.locator(".session-name").all_inner_texts()) == sorted(names)
        questions: list[str] = []

        def answer(dialog: Dialog) -> None:
            questions.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", answer)
        page.click("tr:has-text('Диплом') .delete-server:enabled")
    assert questions == [said(hub, "Do you really want to delete the session “%(name)s”?") % {"name": "Диплом"}]
    states = json.loads(hub.user(user).get(f"/hub/api/users/{user}?include_stopped_servers=1").html)["servers"]
    assert set(states) - {""} == {"session", "session-2", "session-3"}
