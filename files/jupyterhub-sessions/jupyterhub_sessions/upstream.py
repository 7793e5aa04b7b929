"""Translate what JupyterHub itself says.

JupyterHub 6 has no translations. Its sentences reach our pages as data: error messages, progress events, and what its
scripts (home.js, token.js, jhapi.js) write into a page. Here each is recognised and given in our words; what is not
recognised passes unchanged. The sentences were collected from the sources of JupyterHub 6.1.1; one that a later
version rewords shows up in English again, it breaks nothing.
"""

import re

from jupyterhub_sessions.i18n import N_
from jupyterhub_sessions.i18n import gettext as _

# Pattern of the whole sentence, and ours. The patterns run in Python and in the browser: only syntax both know, except
# that groups are named in Python's way. "reason" is itself a sentence of the hub and translated too.
SENTENCES: tuple[tuple[str, str], ...] = (
    # Wrappers that the hub puts around the sentence in question.
    (r"API request failed \(\d+\): (?P<reason>.+)", N_("That did not work: %(reason)s")),
    (r"Spawn failed: (?P<reason>.+)", N_("The session could not be started: %(reason)s")),
    # str() of SpawnException and of tornado's HTTPError, which the hub shows above the form of session options.
    (r"\d{3} \w+\(reason=[^)]*\): (?P<reason>.+)", "%(reason)s"),
    (r"HTTP \d{3}: [^(]*\((?P<reason>.+)\)", "%(reason)s"),
    # Login.
    (r"Invalid username or password", N_("The user name or the password is wrong.")),
    (r"Login form invalid or expired\. Try again\.", N_("The login form has expired. Please try again.")),
    (r"auth has expired for .*", N_("Your login has expired. Please log in again.")),
    # Login through single sign-on: oauthenticator's.
    (
        r"OAuth (state (missing|mismatch)|callback made without a code).*|Missing code_verifier",
        N_("The login took too long, or its page was opened again. Please log in once more."),
    ),
    (r"OAuth error: .*", N_("The single sign-on ended without a login. Please log in once more.")),
    # Starts and stops.
    (
        r"Too many users trying to log in right now\..*",
        N_("Too many sessions are starting right now. Please try again in a minute."),
    ),
    (
        r"Active user limit exceeded\..*",
        N_("All places are taken right now. Please try again in a few minutes."),
    ),
    (r"Server requested", N_("The session has been requested")),
    (r"Spawning server\.\.\.", N_("The session is starting")),
    (r"Server ready at .*", N_("Your session is ready")),
    (r"Spawn cancelled", N_("The start was cancelled.")),
    (r"Spawn failed", N_("The session could not be started.")),
    (
        r"Spawner failed to start \[status=(?P<status>.*?)\].*",
        N_("The session ended right after its start (status %(status)s)."),
    ),
    (
        r"Unhandled error starting server .*",
        N_("The session could not be started because of an error in the service."),
    ),
    (
        r".*didn't respond in (?P<seconds>\d+) seconds.*",
        N_("The session did not answer within %(seconds)s seconds."),
    ),
    (r"\S+ is already running", N_("This session is already running.")),
    (
        r"\S+ (is )?pending \w+",
        N_("This session is being started or stopped just now. Please wait a moment."),
    ),
    (r"\S+ is not starting\.\.\.", N_("This session is not being started.")),
    # Named sessions.
    (
        r"User .+ already has the maximum of (?P<limit>\d+) named servers\..*",
        N_("You have as many additional sessions as are allowed (%(limit)s). Please delete one of them first."),
    ),
    (r"User .+ already has server .+", N_("You have a session of this name already.")),
    (r"Named servers are not enabled\.", N_("Additional sessions are switched off here.")),
    (
        r"(Invalid|Starting invalid) (server_name|display_name|server name).*",
        N_("A session cannot have this name."),
    ),
    (r"\S+ has no (such server|server named) .*", N_("There is no such session.")),
    # Pages.
    (r"Redirect loop detected\..*", N_("The page kept redirecting. Please wait a moment and try again.")),
    (
        r"No access to resources or resources not found",
        N_("There is no such page, or you have no access to it."),
    ),
    (r"No such user:? .*", N_("There is no such user.")),
    (r"Share not found or expired", N_("This invitation does not exist or has expired.")),
    (r"Invalid share code: .*", N_("This invitation does not exist or has expired.")),
    (r"You can't share with yourself!", N_("This invitation is your own.")),
    # Tokens and the applications that hold them.
    (r"Server at (?P<address>\S+)", N_("Session at %(address)s")),
    (r"JupyterHub service (?P<name>\S+)", "%(name)s"),
    (r"Requested via token page", N_("Requested on this page")),
    # What home.js writes.
    (r"Start My Server", N_("Start my session")),
    (r"Start your default server", N_("Start my session")),
    (r"Your server is stopping", N_("Your session is stopping")),
    (
        r"Are you sure you want to delete your server \"(?P<name>.*)\"\?",
        N_("Do you really want to delete the session “%(name)s”?"),
    ),
    # Permissions that a student or a service a student uses may hold; the rest is for administrators.
    (r"Identify the owner of the requesting entity\.", N_("Know who you are.")),
    (r"Your own resources", N_("Everything of yours")),
    (r"Anything you have access to", N_("Everything you have access to")),
    (r"Read user models \(.*\)\.", N_("Read user accounts.")),
    (r"Read names of users\.", N_("Read names of users.")),
    (r"Read users’ group membership\.", N_("Read users’ groups.")),
    (r"Read time of last user activity\.", N_("Read when users were last active.")),
    (r"Update time of last user activity\.", N_("Report that users are active.")),
    (
        r"Read, start, stop, create and delete user servers and their state\.",
        N_("See, start, stop, create and delete sessions."),
    ),
    (r"Start and stop user servers\.", N_("Start and stop sessions.")),
    (r"Read users’ names and their server models .*", N_("See users’ names and sessions.")),
    (r"Start and edit users' servers\..*", N_("Start and change sessions.")),
    (r"Stop and delete users' servers\.", N_("Stop and delete sessions.")),
    (r"Read, write, create and delete user tokens\.", N_("Read, create and delete access tokens.")),
    (r"Read user tokens\.", N_("Read access tokens.")),
    (r"Access user servers via API or browser\.", N_("Open sessions.")),
    (r"Access services via API or browser\.", N_("Open services.")),
    (r"only you", N_("only you")),
)

_COMPILED = tuple((re.compile(pattern, re.DOTALL), ours) for pattern, ours in SENTENCES)


def translate(sentence: str | None) -> str:
    """Return a sentence of the hub in our words and the active language, or unchanged if it is not known."""
    text = (sentence or "").strip()
    for pattern, ours in _COMPILED:
        match = pattern.fullmatch(text)
        if match:
            values = match.groupdict()
            if "reason" in values:
                values["reason"] = translate(values["reason"])
            return _(ours) % values
    return text


def script_sentences() -> list[tuple[str, str]]:
    """Return the sentences for the browser: JavaScript's patterns, and ours in the active language."""
    return [(pattern.replace("(?P<", "(?<"), _(ours)) for pattern, ours in SENTENCES]
