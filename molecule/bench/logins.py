"""How long a login takes, and what PAM alone takes on the same machine."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from browser import Browser
from vm import Vm

# Runs on the hub's machine. pamtester asks the same PAM service as the hub, for the same two parts, and as many at a
# time: when all of a class ask at once, SSSD gives the KDC up.
_PAM = """\
import json, os, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
accounts, cold = json.loads(sys.argv[1]), sys.argv[2] == "cold"
if cold:
    subprocess.run(["sss_cache", "--everything"], check=True)
begin = time.monotonic()
def ask(account):
    user, password = account
    command = ["pamtester", "jupyterhub", user, "authenticate", "acct_mgmt"]
    done = subprocess.run(command, input=password + "\\n", capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pamtester: {done.stdout}{done.stderr}")
with ThreadPoolExecutor(os.cpu_count()) as threads:
    list(threads.map(ask, accounts))
print(time.monotonic() - begin)
"""
_FORGET = 'import subprocess; subprocess.run(["sss_cache", "--everything"], check=True)'


@dataclass
class Logins:
    """Seconds of each run, the hub's and PAM's alone."""

    hub_s: list[float] = field(default_factory=list)
    pam_s: list[float] = field(default_factory=list)


async def measure(
    machine: Vm, url: str, certificate: str, accounts: list[tuple[str, str]], runs: int, *, cold: bool = False
) -> Logins:
    """Log all accounts in at once, through the hub and with PAM alone in turn.

    Parameters
    ----------
    machine
        Where the hub and pamtester run.
    url, certificate
        The hub's address and the file of its certificate.
    accounts
        User and password of each.
    runs
        How often.
    cold
        Whether SSSD must ask the directory again for all it knows, each time.

    Raises
    ------
    BrowserError, VmError
        One of the logins failed.
    """
    found = Logins()
    for run in range(runs):
        if run > 0 and len(accounts) > 1:
            # nginx takes one login a second from an address, beyond what it takes at once.
            await asyncio.sleep(len(accounts))
        async with AsyncExitStack() as stack:
            browsers = [await stack.enter_async_context(Browser(url, user, certificate)) for user, _ in accounts]
            # Each has its form before the first sends it.
            for browser in browsers:
                await browser.open_login()
            if cold:
                machine.python(_FORGET)
            begin = asyncio.get_running_loop().time()
            logins = zip(browsers, accounts, strict=True)
            await asyncio.gather(*(browser.send_login(password) for browser, (_, password) in logins))
            found.hub_s.append(asyncio.get_running_loop().time() - begin)
        found.pam_s.append(float(machine.python(_PAM, json.dumps(accounts), "cold" if cold else "warm")))
    return found
