"""How fast files go to a home on EOS and come from there, and how fast xrdcp does the same."""

import json
from dataclasses import dataclass, field

from vm import Vm

LARGE_MB = 1024
SMALL_FILES = 1000
SMALL_BYTES = 4096
USER = "alice"

# Runs on the hub's machine. A copy with cp by a student, and one with xrdcp by the administrator of the homes, who may
# write there: the key of the machines is not for users. What was written is read by another mount, or nothing but the
# kernel's memory would be measured.
_COPY = """\
import json, os, shutil, subprocess, sys, time
wanted = json.loads(sys.argv[1])
home, server, user = wanted["home"], "root://" + wanted["server"], wanted["user"]
local, back = "/var/tmp/bench", "/var/tmp/bench-back"
secret = os.environ | {"XrdSecPROTOCOL": "sss", "XrdSecSSSKT": "/etc/eos/admin.keytab"}
def clean():
    subprocess.run(["runuser", "-u", user, "--", "rm", "-rf", home + "/bench", home + "/bench-xrdcp"], check=True)
def make():
    shutil.rmtree(local, ignore_errors=True)
    os.makedirs(local)
    for number in range(wanted["files"]):
        with open(f"{local}/{number}", "wb") as file:
            block = os.urandom(min(wanted["bytes"], 2**20))
            for _ in range(max(wanted["bytes"] >> 20, 1)):
                file.write(block)
    os.sync()
def timed(*command, environment=None):
    begin = time.monotonic()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin
def student(*command):
    return timed("runuser", "-u", user, "--", *command)
def xrdcp(*words):
    options = ["--recursive"] if wanted["files"] > 1 else []
    return timed("xrdcp", "--nopbar", "--force", "--silent", *options, *words, environment=secret)
def forget():
    subprocess.run(["umount", "/eos/user"], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(back, ignore_errors=True)
    os.makedirs(back)
    shutil.chown(back, user)
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("1")
    # Mounting is not what is measured.
    subprocess.run(["runuser", "-u", user, "--", "ls", home + "/"], check=True, stdout=subprocess.DEVNULL)
clean()
make()
one = f"{local}/0" if wanted["files"] == 1 else local
found = {}
found["write"] = student("cp", "-r", one, f"{home}/bench")
target = f"{server}/{home}/bench-xrdcp"
if wanted["files"] > 1:
    subprocess.run(["runuser", "-u", user, "--", "mkdir", f"{home}/bench-xrdcp"], check=True)
found["write_xrdcp"] = xrdcp(one, target if wanted["files"] == 1 else target + "/")
forget()
found["read"] = student("cp", "-r", f"{home}/bench", f"{back}/fuse")
compared = subprocess.run(["diff", "-r", one, f"{back}/fuse"], check=False)
if compared.returncode:
    sys.exit("What came back is not what was written.")
forget()
os.makedirs(f"{back}/xrdcp")
found["read_xrdcp"] = xrdcp(f"{server}/{home}/bench", f"{back}/xrdcp")
clean()
shutil.rmtree(local)
shutil.rmtree(back)
print(json.dumps(found))
"""


@dataclass
class Copies:
    """Seconds of each run, by a home on EOS and by xrdcp."""

    write_s: list[float] = field(default_factory=list)
    write_xrdcp_s: list[float] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)
    read_xrdcp_s: list[float] = field(default_factory=list)


def measure(machine: Vm, runs: int, *, files: int, size: int) -> Copies:
    """Copy files of random content into a home on EOS and back, by a student's `cp` and by xrdcp in turn.

    Parameters
    ----------
    machine
        Where EOS is mounted.
    runs
        How often.
    files, size
        How many, and of how many bytes each.

    Raises
    ------
    VmError
        A copy failed, or something else came back than was written.
    """
    found = Copies()
    home = f"/eos/user/{USER[0]}/{USER}"
    wanted = {"home": home, "server": "eos.example.org:1094", "user": USER, "files": files, "bytes": size}
    for _ in range(runs):
        seconds = json.loads(machine.python(_COPY, json.dumps(wanted)).splitlines()[-1])
        found.write_s.append(seconds["write"])
        found.write_xrdcp_s.append(seconds["write_xrdcp"])
        found.read_s.append(seconds["read"])
        found.read_xrdcp_s.append(seconds["read_xrdcp"])
    return found
