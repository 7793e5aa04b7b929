"""The pages of the hub: complete in each language, and right where a real hub shows them."""

import functools
import re
import urllib.parse
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from babel.messages import Catalog
from babel.messages.pofile import read_po
from traitlets.config import Config

from jupyterhub_sessions import i18n, pages, upstream
from jupyterhub_sessions.tests.hubs import (
    PACKAGE,
    PLACEHOLDER,
    Hub,
    Page,
    assert_speaks,
    chromium_page,
    running_hub,
    said,
    sources,
    wait_for,
)

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Route

NGINX_PAGES = PACKAGE.parents[2] / "roles" / "nginx" / "templates" / "var" / "www" / "cygnet"


# --- the catalogue -----------------------------------------------------------------------------------------------


@functools.cache
def po(language: str) -> Catalog:
    """Return the source of a language's catalogue."""
    with (i18n.LOCALE_DIR / language / "LC_MESSAGES" / f"{i18n.DOMAIN}.po").open("rb") as source:
        return read_po(source, locale=language, abort_invalid=True)


def translated(language: str) -> dict[str, list[str]]:
    """Return the translations (all plural forms) by message."""
    result = {}
    for message in po(language):
        if message.id:
            ids = [message.id] if isinstance(message.id, str) else message.id
            strings = [message.string] if isinstance(message.string, str) else list(message.string or ())
            result.update(dict.fromkeys(ids, strings))
    return result


OTHER_LANGUAGES = [language for language in i18n.LANGUAGES if language != "en"]


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_every_message_is_translated(language: str) -> None:
    """No message in the sources lacks a translation, none is marked as doubtful."""
    done = {message for message, strings in translated(language).items() if all(strings)}
    assert sources() - done == set()
    assert [message.id for message in po(language) if message.fuzzy and message.id] == []


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_no_translation_is_unused(language: str) -> None:
    """Each translation belongs to a message in the sources."""
    assert set(translated(language)) - sources() == set()
    assert not po(language).obsolete


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_placeholders_agree(language: str) -> None:
    """A translation fills in what its message does."""
    different = {
        message: string
        for message, strings in translated(language).items()
        for string in strings
        if sorted(PLACEHOLDER.findall(message)) != sorted(PLACEHOLDER.findall(string))
    }
    assert different == {}


def test_placeholders_of_upstream_sentences_are_groups() -> None:
    """What our words for a sentence of the hub fill in, the sentence's pattern provides."""
    for pattern, ours in upstream.SENTENCES:
        assert set(re.findall(r"%\((\w+)\)s", ours)) <= set(re.compile(pattern).groupindex), pattern


@pytest.fixture
def russian() -> Iterator[None]:
    """Speak Russian during a test."""
    i18n.set_language("ru")
    yield
    i18n.set_language("en")


def test_unknown_language_is_refused_with_the_known_ones() -> None:
    """A mistyped language stops the hub's start, and says what to write instead."""
    with pytest.raises(ValueError, match=r"'de'.*en, ru"):
        pages.configure_pages(Config(), site_name="", language="de")


def test_lookup_is_lazy(russian: None) -> None:
    """A function imported before the language was chosen answers in it."""
    assert i18n.gettext("Stopping") == "Останавливается"
    i18n.set_language("en")
    assert i18n.gettext("Stopping") == "Stopping"


@pytest.mark.parametrize(
    ("sentence", "ours"),
    [
        ("Invalid username or password", "Неверное имя пользователя или пароль."),
        ("400 SpawnException(reason=full): Мест нет", "Мест нет"),
        ("HTTP 400: Bad Request (ivan is already running)", "Этот сеанс уже запущен."),
        ("API request failed (400): Named servers are not enabled.",
         "Не получилось: Дополнительные сеансы здесь отключены."),
        ("Something nobody has heard of", "Something nobody has heard of"),
        (None, ""),
    ],
)  # fmt: skip
def test_sentences_of_the_hub(russian: None, sentence: str | None, ours: str) -> None:
    """The hub's own sentences are recognised, also inside of its wrappers; others pass."""
    assert upstream.translate(sentence) == ours


@pytest.mark.parametrize(
    ("contact", "href"),
    [
        ("help@university.example", "mailto:help@university.example"),
        ("https://help.university.example/", "https://help.university.example/"),
        ("room 12, phone 34", ""),
        ("javascript:alert(1)", ""),
    ],
)
def test_support_contact(contact: str, href: str) -> None:
    """A contact is a link if it is an address."""
    assert pages.support_link(contact)["href"] == href


# --- a hub -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=i18n.LANGUAGES)
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Run a hub in each language; show its log with what fails."""
    with running_hub(request.param, tmp_path_factory.mktemp(f"hub-{request.param}")) as running:
        failed = request.session.testsfailed
        yield running
        if request.session.testsfailed > failed:
            print(running.log.read_text())


def reason(hub: Hub) -> str:
    """Return the reason that the staged spawner gives."""
    return {"en": "Reason: memory", "ru": "Причина: память"}[hub.language]


def test_login(hub: Hub) -> None:
    """The login page names the site, escaped, and the support."""
    page = hub.visitor().get("/hub/login")
    assert page.status == 200
    assert_speaks(page, hub.language)
    assert "Лаборатория <β>" in page.visible.texts
    assert 'href="mailto:help@university.example"' in page.html


def test_wrong_password(hub: Hub) -> None:
    """A wrong password is answered in the site's language, in place of upstream's sentence."""
    page = hub.visitor().login("ivan", "wrong")
    assert page.status == 403
    assert_speaks(page, hub.language)
    assert said(hub, "The user name or the password is wrong.") in page.visible.texts
    assert "Invalid username or password" not in page.html
    assert page.field(r'id="username_input"[^>]* value="(\w*)"') == "ivan"


def test_expired_login_form(hub: Hub) -> None:
    """A form sent with a stale token asks to try again rather than to look at an error."""
    page = hub.visitor().get("/hub/login", "POST", {"username": "ivan", "password": "right", "_xsrf": "stale"})
    assert page.status == 403
    assert_speaks(page, hub.language)
    assert said(hub, "The login form has expired. Please try again.") in page.visible.texts


def test_home(hub: Hub) -> None:
    """The home page offers to start the session, and has what home.js looks for."""
    page = hub.user("ivan").get("/hub/home")
    assert page.status == 200
    assert_speaks(page, hub.language)
    assert said(hub, "Start my session") in page.visible.texts
    for mark in ('id="start"', "new-server-name", "new-server-btn", "home-server-row", 'id="error-dialog"'):
        assert mark in page.html


def test_home_with_running_and_named_sessions(hub: Hub) -> None:
    """The home page offers to stop a session that is active, and lists the named ones."""
    browser = hub.user("olga")
    assert browser.api("POST", "users/olga/server").status == 202
    assert browser.api("PUT", "users/olga/servers/second").status in (201, 202)
    page = browser.get("/hub/home")
    assert_speaks(page, hub.language)
    assert 'id="stop"' in page.html
    assert 'data-server-name="second"' in page.html
    assert "second" in page.visible.texts


@pytest.mark.parametrize(
    ("user", "state", "sentence"),
    [
        ("fresh", "valid", "While it is valid, it is renewed by itself, until"),
        ("short", "valid", "It is not renewed by itself."),
        ("stale", "expired", "Expired:"),
        ("none", "none", "You have no ticket."),
        ("unknown", "", "Its state cannot be read just now. You can get a new one all the same."),
    ],
)
def test_ticket(hub: Hub, user: str, state: str, sentence: str) -> None:
    """The page of the ticket says how long it is valid; the home page leads there."""
    browser = hub.user(user)
    assert 'href="/hub/ticket"' in browser.get("/hub/home").html
    page = browser.get("/hub/ticket")
    assert page.status == 200
    assert_speaks(page, hub.language)
    assert said(hub, sentence) in page.visible.text
    if state:
        assert page.field(r'data-state="(\w+)"') == state
    assert page.field(r'id="(renew)"')


def test_ticket_is_renewed_by_the_password(hub: Hub) -> None:
    """A right password leads back to the page, a wrong one is answered there, and a forged form is refused."""
    browser = hub.user("renews")
    xsrf = browser.get("/hub/ticket").field(r'name="_xsrf" value="([^"]+)"')
    page = browser.get("/hub/ticket", "POST", {"password": "wrong", "username": "fresh", "_xsrf": xsrf})
    assert page.status == 403
    assert_speaks(page, hub.language)
    # Whatever the form says, it is the password of the user who is logged in.
    assert f"{reason(hub)} (renews)" in page.visible.texts
    assert 'id="ticket-renewed"' not in page.html
    page = browser.get("/hub/ticket", "POST", {"password": "right", "_xsrf": xsrf})
    assert page.status == 200 and 'id="ticket-renewed"' in page.html
    assert browser.get("/hub/ticket", "POST", {"password": "right", "_xsrf": "forged"}).status == 403


def test_right_password_without_a_new_ticket(hub: Hub) -> None:
    """Where the password was right, but Kerberos silent, the page does not speak of a new ticket."""
    browser = hub.user("late")
    xsrf = browser.get("/hub/ticket").field(r'name="_xsrf" value="([^"]+)"')
    page = browser.get("/hub/ticket", "POST", {"password": "right", "_xsrf": xsrf})
    assert page.status == 403 and 'id="ticket-error"' in page.html
    assert 'id="ticket-renewed"' not in page.html and page.field(r'data-state="(\w+)"') == "expired"
    assert_speaks(page, hub.language)


def test_ticket_is_for_those_who_are_logged_in(hub: Hub) -> None:
    """A stranger is led to the login."""
    assert "/hub/login" in hub.visitor().get("/hub/ticket").url


def test_spawn_pending(hub: Hub) -> None:
    """While a session starts, its page says so and follows the events."""
    page = hub.user("waits").get("/hub/spawn")
    assert "/hub/spawn-pending/waits" in page.url
    assert_speaks(page, hub.language)
    assert said(hub, "Your session is starting") in page.visible.texts
    assert "/hub/api/users/waits/server/progress?_xsrf" in page.html


def test_failed_start_shows_reason_and_log(hub: Hub) -> None:
    """A start that failed shows the spawner's message, the log, escaped, and a way to start again."""
    browser = hub.user("fails")
    browser.get("/hub/spawn")

    def failed() -> Page | None:
        page = browser.get("/hub/spawn-pending/fails")
        return page if page.status == 500 else None

    page = wait_for(failed)
    assert_speaks(page, hub.language)
    assert reason(hub) in page.visible.texts
    assert "kernel: &lt;first&gt; line\nkernel: last line" in page.html
    assert said(hub, "Start again") in page.visible.texts
    assert 'href="/hub/spawn/fails"' in page.html


def test_failed_start_keeps_internals(hub: Hub) -> None:
    """An exception's text that is not meant for students is not shown to them; a timeout is explained."""
    browser = hub.user("late")
    browser.get("/hub/spawn")

    def failed() -> Page | None:
        page = browser.get("/hub/spawn-pending/late")
        return page if page.status == 500 else None

    page = wait_for(failed)
    assert_speaks(page, hub.language)
    assert "internal matters" not in page.html
    explained = "The session did not answer in time. The server may be busy; please try again in a minute."
    assert said(hub, explained) in page.visible.texts


def test_refused_start(hub: Hub) -> None:
    """A start that the spawner refuses at once says why."""
    page = hub.user("refused").get("/hub/spawn")
    assert page.status == 400
    assert_speaks(page, hub.language)
    assert reason(hub) in page.visible.texts


def test_start_that_crashes_at_once(hub: Hub) -> None:
    """A start that fails before the progress page appears blames the service, and keeps internals."""
    page = hub.user("crashes").get("/hub/spawn")
    assert page.status == 500
    assert_speaks(page, hub.language)
    assert said(hub, "The session could not be started because of an error in the service.") in page.visible.texts
    assert "internal matters" not in page.html


def test_not_running(hub: Hub) -> None:
    """A session that does not run offers its start, and no reason where there is none."""
    page = hub.user("ivan").get("/hub/user/ivan/lab")
    assert page.status == 424
    assert_speaks(page, hub.language)
    assert said(hub, "Start the session") in page.visible.texts
    assert 'id="stopped-reason"' not in page.html


def test_not_running_says_why_the_session_ended(hub: Hub) -> None:
    """A session that was ended says why, also on the home page."""
    browser = hub.user("ended")
    for path in ("/hub/user/ended/lab", "/hub/home"):
        page = browser.get(path)
        assert_speaks(page, hub.language)
        assert reason(hub) in page.visible.texts


def test_stop_pending(hub: Hub) -> None:
    """While a session stops, its page says so."""
    browser = hub.user("lingers")
    browser.get("/hub/spawn")
    assert browser.api("DELETE", "users/lingers/server").status == 202
    page = browser.get("/hub/spawn-pending/lingers")
    assert_speaks(page, hub.language)
    assert said(hub, "Your session is stopping") in page.visible.texts


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/hub/nowhere", "Page not found"),
        ("/hub/admin", "No access"),
        ("/hub/error/403", "No access"),
        ("/hub/error/500", "Something went wrong"),
        ("/hub/error/503", "The session does not answer"),
        ("/hub/error/418", "Something went wrong"),
        ("/hub/user/somebodyelse/lab", "Page not found"),
        ("/hub/accept-share?code=none", "Page not found"),
    ],
)
def test_errors(hub: Hub, path: str, title: str) -> None:
    """An error is explained, to somebody logged in."""
    page = hub.user("ivan").get(path)
    assert_speaks(page, hub.language)
    assert said(hub, title) in page.visible.texts
    assert said(hub, "To my sessions") in page.visible.texts
    assert "moons" not in page.html


def test_error_without_login(hub: Hub) -> None:
    """An error is explained to somebody not logged in as well."""
    page = hub.visitor().get("/hub/nowhere")
    assert page.status == 404
    assert_speaks(page, hub.language)
    assert said(hub, "To my sessions") not in page.visible.texts


def test_error_of_a_named_session(hub: Hub) -> None:
    """A sentence of the hub about a session's name is in our words."""
    page = hub.user("ivan").get("/hub/spawn/ivan/No_Such-Name-")
    assert page.status == 400
    assert_speaks(page, hub.language)
    assert said(hub, "A session cannot have this name.") in page.visible.texts


def test_tokens(hub: Hub) -> None:
    """The page of tokens lists what there is."""
    browser = hub.user("tamara")
    assert browser.api("POST", "users/tamara/server").status == 202
    page = browser.get("/hub/token")
    assert page.status == 200
    assert_speaks(page, hub.language)
    assert "revoke-token-btn" in page.html
    assert said(hub, "Session at %(address)s") % {"address": "/user/tamara/"} in page.visible.texts


def test_consent(hub: Hub) -> None:
    """A service that wants to know the user asks in the site's language."""
    query = urllib.parse.urlencode(
        {"client_id": "service-quiz", "response_type": "code", "redirect_uri": "http://127.0.0.1:9/quiz"}
    )
    page = hub.user("ivan").get(f"/hub/api/oauth2/authorize?{query}")
    assert page.status == 200
    assert_speaks(page, hub.language)
    assert 'name="scopes"' in page.html and 'name="_xsrf"' in page.html


def test_invitation(hub: Hub) -> None:
    """An invitation into somebody's session says what it allows."""
    owner = hub.user("host")
    owner.get("/hub/home")
    code = owner.api("POST", "share-codes/host/").field(r'"code": "([^"]+)"')
    page = hub.user("guest").get(f"/hub/accept-share?code={code}")
    assert page.status == 200
    assert_speaks(page, hub.language)
    assert said(hub, "Open sessions.") in page.visible.texts


def test_logout(hub: Hub) -> None:
    """After the logout the login page shows."""
    browser = hub.user("leaves")
    page = browser.get("/hub/logout")
    assert page.url.endswith("/hub/login")
    assert_speaks(page, hub.language)


def test_admin_page_comes_up(hub: Hub) -> None:
    """Upstream's page for administrators fits into our frame."""
    page = hub.user("chief").get("/hub/admin")
    assert page.status == 200
    assert 'id="react-admin-hook"' in page.html


def test_logo(hub: Hub) -> None:
    """Without a logo of the site, ours is shown."""
    page = hub.visitor().get("/hub/logo")
    assert page.status == 200
    assert page.html == pages.DEFAULT_LOGO.read_text()


# The page after a logout is shown only where another server does the login; the staged hub has none.
@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("name", ["logout.html"])
def test_pages_no_staged_hub_shows(language: str, name: str) -> None:
    """The remaining pages render in each language."""
    from jinja2 import Environment, FileSystemLoader

    i18n.set_language(language)
    try:
        environment = Environment(
            autoescape=True, extensions=[pages.PagesExtension], loader=FileSystemLoader(pages.TEMPLATES)
        )
        html = environment.get_template(name).render(
            language=language,
            site_name="Лаборатория",
            support=pages.support_link(""),
            static_url=lambda path, include_version=True: path,
            base_url="/hub/",
            login_url="/hub/login",
        )
    finally:
        i18n.set_language("en")
    assert_speaks(Page(200, name, html), language)


# --- in a browser ------------------------------------------------------------------------------------------------


def test_scripts_speak_the_language(hub: Hub) -> None:
    """What upstream's scripts write into a page, ask and report is in the site's language."""
    with chromium_page() as page:
        page.goto(f"{hub.base}/hub/login?next=/hub/home")
        page.fill("#username_input", "scripted")
        page.fill("#password_input", "right")
        page.click("#login_submit")
        # Too many names: the hub refuses the fourth, and jhapi.js shows it.
        for name in ("a", "b", "c", "d"):
            page.wait_for_function("window._jupyterhub_page_loaded")
            page.fill(".new-server-name", name)
            page.click(".new-server-btn")
            if name != "d":
                page.wait_for_selector(f'[data-server-name="{name}"]')
        page.wait_for_selector("#error-dialog.show")
        refused = "You have as many additional sessions as are allowed (%(limit)s). Please delete one of them first."
        expected = said(hub, "That did not work: %(reason)s") % {"reason": said(hub, refused) % {"limit": "3"}}
        assert page.inner_text(".ajax-error") == expected

        page.goto(f"{hub.base}/hub/home")
        page.wait_for_function("window._jupyterhub_page_loaded")
        questions: list[str] = []

        def answer(dialog: "Dialog") -> None:
            questions.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", answer)
        page.evaluate("document.querySelector('.delete-server').click()")
        assert questions == [said(hub, "Do you really want to delete the session “%(name)s”?") % {"name": "a"}]

        page.goto(f"{hub.base}/hub/spawn")
        page.wait_for_selector(".progress-log-event >> nth=1", state="attached")
        assert page.locator(".progress-log-event").all_text_contents() == [
            said(hub, "The session has been requested"),
            said(hub, "The session is starting"),
        ]
        page.click("#stop-server-btn")
        page.wait_for_url("**/hub/home")


# --- nginx's pages -----------------------------------------------------------------------------------------------


def nginx_page(name: str, language: str) -> Page:
    """Render a page of the role nginx as Ansible does."""
    from ansible.plugins.filter.core import FilterModule
    from ansible.plugins.test.core import TestModule
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(NGINX_PAGES), undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(FilterModule().filters())
    environment.tests.update(TestModule().tests())
    html = environment.get_template(f"{name}.html.j2").render(
        ansible_managed="Ansible managed",
        nginx_site_name="Лаборатория <β>",
        nginx_language=language,
        nginx_support_contact="help@university.example",
    )
    return Page(503, name, html)


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("name", ["503", "429"])
def test_nginx_page(name: str, language: str) -> None:
    """A page of nginx's speaks the site's language and loads nothing."""
    page = nginx_page(name, language)
    assert_speaks(page, language)
    assert "Лаборатория <β>" in page.visible.texts
    assert re.findall(r"""(?:src|href)=["'](?!data:|mailto:|/hub/login)|url\(|@import""", page.html) == []


def test_unavailable_page_returns_when_the_hub_answers() -> None:
    """The page shown for a hub that is down tries again by itself, and opens what was asked for."""
    down = nginx_page("503", "en").html
    health = iter((503, 503, 200))
    asked: list[str] = []

    def serve(route: "Route") -> None:
        asked.append(urllib.parse.urlsplit(route.request.url).path)
        if asked[-1] == "/hub/health":
            route.fulfill(status=next(health))
        elif asked.count(asked[-1]) == 1:
            route.fulfill(status=503, content_type="text/html", body=down)
        else:
            route.fulfill(content_type="text/html", body="<p id=up>up</p>")

    with chromium_page() as page:
        page.clock.install()
        page.route("**/*", serve)
        page.goto("http://localhost/hub/home")
        assert page.is_visible("#scripted")
        for attempt in ("1", "2"):
            with page.expect_response("**/hub/health"):
                page.clock.run_for(3000)
            assert page.inner_text("#count") == attempt
        with page.expect_response("**/hub/health"):
            page.clock.run_for(3000)
        page.wait_for_selector("#up")
    assert asked == ["/hub/home", *["/hub/health"] * 3, "/hub/home"]
