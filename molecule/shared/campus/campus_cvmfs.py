#!/usr/bin/python3
"""Give the campus CVMFS: a repository sft.example.org with software, and packages of a client that can mount it.

CernVM's packages are not reachable from everywhere, so the client here is a stand-in with the same name and interface
(cvmfs_stand_in.py), offered by an apt repository of the campus's own. The software is laid out as in sft.cern.ch: two
releases as LCG's views, each with its own Python and ipykernel, and a prefix with a kernel of another language.
Installed beside campus_ctl.py, runs as root after it was copied; reads on standard input what the client is and which
versions the views have.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from campus_ctl import STATE, active, install_packages, run

PACKAGES = ["apt-utils", "gpg", "gpg-agent", "iptables", "openssl", "python3-pip"]
FQRN = "sft.example.org"
MOUNT = f"/cvmfs/{FQRN}"
PLATFORM = "x86_64-linux-opt"
ROOT = STATE / "cvmfs"
BUILD = ROOT / "build"
WWW = ROOT / "www"
REPOSITORY = WWW / "cvmfs" / FQRN
#: What the machines that mount it are given.
APT_KEY, PUBLIC_KEY = ROOT / "apt.asc", ROOT / "example.org.pub"
STAMP = ROOT / "stamp.sha256"
UNITS = ["campus-cvmfs.service", "campus-packages.service"]
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
#: Parts of Debian's Python and of packages that no notebook needs.
LEFT_OUT = {
    "tests", "test", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "tzdata",
    # jedi's knowledge of packages that are not here: thousands of files.
    "stubs", "django-stubs",
}  # fmt: skip

UNIT = """\
[Unit]
Description={description}
After=network.target

[Service]
ExecStart=/usr/bin/python3 -m http.server --protocol HTTP/1.1 --directory {directory} {port}
# A line for each request.
StandardError=null
DynamicUser=true

[Install]
WantedBy=multi-user.target
"""

CONTROL = {
    "cvmfs": """\
Package: cvmfs
Version: 2.12.0+standin
Architecture: all
Maintainer: Campus <campus@example.org>
Depends: python3, python3-fusepy, openssl, autofs, adduser, cvmfs-config
Description: stand-in for the CernVM file system's client
 It has the interface of the real package, and mounts what the campus publishes.
""",
    "cvmfs-config-none": """\
Package: cvmfs-config-none
Version: 2.0
Architecture: all
Maintainer: Campus <campus@example.org>
Provides: cvmfs-config
Conflicts: cvmfs-config
Description: stand-in for the CernVM file system's empty configuration
 The site configures its repositories itself.
""",
}
POSTINST = """\
#!/bin/sh
set -e
getent passwd cvmfs >/dev/null || adduser --quiet --system --group --home /var/lib/cvmfs --no-create-home cvmfs
install -d -o cvmfs -g cvmfs /var/lib/cvmfs
install -d /cvmfs
"""
AUTO_CVMFS = """\
#!/bin/sh
# A program map of autofs: prints how to mount a repository.
case "$1" in
    [!A-Za-z0-9]* | *[!A-Za-z0-9._-]* | *.) exit 1 ;;
    *.*) echo "-fstype=cvmfs :$1" ;;
    *) exit 1 ;;
esac
"""
DEFAULT_CONF = """\
CVMFS_CACHE_BASE=/var/lib/cvmfs
CVMFS_QUOTA_LIMIT=4000
CVMFS_TIMEOUT=5
CVMFS_TIMEOUT_DIRECT=10
CVMFS_STRICT_MOUNT=no
CVMFS_SHARED_CACHE=yes
CVMFS_KEYS_DIR=/etc/cvmfs/keys
CVMFS_MAX_RETRIES=1
CVMFS_BACKOFF_INIT=2
CVMFS_BACKOFF_MAX=10
if [ "x$CVMFS_BASE_ENV" = "x" ]; then
  readonly CVMFS_USER=cvmfs
  readonly CVMFS_MOUNT_DIR=/cvmfs
  readonly CVMFS_RELOAD_SOCKETS=/var/run/cvmfs
  readonly CVMFS_BASE_ENV=1
fi
"""

SETUP_SH = """\
# Source this to work with the release {release}.
view={view}
export LCG_VERSION={release}
export PATH="$view/bin${{PATH:+:$PATH}}"
export LD_LIBRARY_PATH="$view/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export PYTHONHOME="$view"
export PYTHONPATH="$view/lib/{python}/site-packages${{PYTHONPATH:+:$PYTHONPATH}}"
unset view
"""
BASH_KERNEL = """\
#!/bin/bash
. {view}/setup.sh
exec python3 -m bash_kernel "$@"
"""


# -- packages ---------------------------------------------------------------------------------------------------------


def make_packages(client: str) -> None:
    """Build the client's packages and the apt repository, signed with a key of its own."""
    directory = WWW / "apt"
    files = {
        "usr/bin/cvmfs2": client,
        "etc/auto.cvmfs": AUTO_CVMFS,
        "DEBIAN/postinst": POSTINST,
        "etc/cvmfs/default.conf": DEFAULT_CONF,
        "DEBIAN/conffiles": "/etc/auto.cvmfs\n/etc/cvmfs/default.conf\n",
    }
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for package, control in CONTROL.items():
        tree = BUILD / package
        shutil.rmtree(tree, ignore_errors=True)
        for name, content in {"DEBIAN/control": control, **(files if package == "cvmfs" else {})}.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            path.chmod(0o755 if content.startswith("#!") else 0o644)
        if package == "cvmfs":
            for name in ("default.d", "domain.d", "config.d", "keys"):
                (tree / "etc/cvmfs" / name).mkdir()
            (tree / "usr/sbin").mkdir()
            (tree / "usr/sbin/mount.cvmfs").symlink_to("../bin/cvmfs2")
            (tree / "usr/bin/cvmfs_config").symlink_to("cvmfs2")
        run("dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tree), str(directory))
    home = {"GNUPGHOME": str(ROOT / "gnupg")}
    if not APT_KEY.exists():
        Path(home["GNUPGHOME"]).mkdir(mode=0o700, exist_ok=True)
        run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Campus packages", "rsa3072", "sign", **home)
        APT_KEY.write_text(run("gpg", "--armor", "--export", **home))
    packages = run("sh", "-c", f"cd {directory} && apt-ftparchive packages .").replace("Filename: ./", "Filename: ")
    codename = run("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME").strip()
    dist = directory / "dists" / f"{codename}-prod"
    (dist / "main/binary-amd64").mkdir(parents=True)
    (dist / "main/binary-amd64/Packages").write_text(packages)
    settings = {"Suite": dist.name, "Codename": dist.name, "Components": "main", "Architectures": "amd64"}
    options = [f"-o=APT::FTPArchive::Release::{name}={value}" for name, value in settings.items()]
    (dist / "Release").write_text(run("apt-ftparchive", *options, "release", str(dist)))
    run("gpg", "--batch", "--yes", "--clearsign", "-o", str(dist / "InRelease"), str(dist / "Release"), **home)


# -- software ---------------------------------------------------------------------------------------------------------


def copy_python() -> Path:
    """Copy Debian's Python into a prefix, with the libraries that its modules need; return the prefix."""
    prefix = BUILD / "python"
    library = Path(f"/usr/lib/{PYTHON}")
    shutil.rmtree(prefix, ignore_errors=True)
    (prefix / "bin").mkdir(parents=True)
    shutil.copy(f"/usr/bin/{PYTHON}", prefix / "bin")
    for name in ("python3", "python"):
        (prefix / "bin" / name).symlink_to(PYTHON)
    shutil.copytree(
        library, prefix / "lib" / PYTHON,
        ignore=lambda _, names: LEFT_OUT.intersection(names) | {"sitecustomize.py", "EXTERNALLY-MANAGED"},
    )  # fmt: skip
    modules = [str(path) for path in (library / "lib-dynload").glob("*.so")]
    lines = run("ldd", f"/usr/bin/{PYTHON}", *modules).splitlines()
    libraries = {line.split()[2] for line in lines if "=> /" in line}
    for path in map(Path, sorted(libraries)):
        if not path.name.startswith(("libc.", "libm.", "ld-", "libdl.", "libpthread.")):
            shutil.copy(path, prefix / "lib")
    return prefix


def install_view(release: str, pins: str, uv: str, other: Path | None) -> Path:
    """Install a view's packages; return their directory. What another view has too is compiled already."""
    target, requirements = BUILD / release, BUILD / f"{release}.txt"
    requirements.write_text(pins)
    shutil.rmtree(target, ignore_errors=True)
    run(
        uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--link-mode=hardlink",
        f"--python=/usr/bin/{PYTHON}", "--target", str(target), "-r", str(requirements),
        UV_SYSTEM_CERTS="1", UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never", UV_CACHE_DIR=str(BUILD / "uv-cache"),
    )  # fmt: skip
    for directory, names, _ in os.walk(target):
        for name in LEFT_OUT.intersection(names):
            shutil.rmtree(Path(directory, name))
            names.remove(name)
    for source in target.rglob("*.py"):
        twin = other / source.relative_to(target) if other else source
        compiled = Path("__pycache__", f"{source.stem}.{sys.implementation.cache_tag}.pyc")
        if twin != source and twin.exists() and twin.samefile(source) and (twin.parent / compiled).exists():
            (source.parent / "__pycache__").mkdir(exist_ok=True)
            os.link(twin.parent / compiled, source.parent / compiled)
    run(f"/usr/bin/{PYTHON}", "-m", "compileall", "-q", str(target))
    return target


def install_uv(pin: str) -> str:
    """Install uv; return its path."""
    target, requirements = BUILD / "uv", BUILD / "uv.txt"
    if not (requirements.exists() and requirements.read_text() == pin):
        shutil.rmtree(target, ignore_errors=True)
        (BUILD / "uv.new").write_text(pin)
        run(
            "pip3", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps",
            "--target", str(target), "-r", str(BUILD / "uv.new"), PIP_CERT="/etc/ssl/certs/ca-certificates.crt",
        )  # fmt: skip
        (BUILD / "uv.new").rename(requirements)
    return str(target / "bin/uv")


Source = Path | str
Entries = dict[str, tuple[int, int, int, str]]


def publish(sources: Iterable[tuple[str, Source]], key: Path) -> None:
    """Publish directories and texts by their paths in the repository, as a signed revision."""
    data = REPOSITORY / "data"
    data.mkdir(parents=True, exist_ok=True)
    for number in range(256):
        (data / f"{number:02x}").mkdir(exist_ok=True)
    known: dict[tuple[int, int], str] = {}
    now = int(time.time())
    entries: Entries = {"": (0o040755, now, 0, "")}

    def store(content: bytes, path: Path | None = None) -> str:
        digest = hashlib.sha256(content).hexdigest()
        place = data / digest[:2] / digest[2:]
        if not place.exists():
            if path:
                os.link(path, place)
            else:
                place.write_bytes(content)
        return digest

    def add(path: str, entry: tuple[int, int, int, str]) -> None:
        directory = path.rpartition("/")[0]
        if directory not in entries:
            add(directory, (0o040755, now, 0, ""))
        entries.setdefault(path, entry)

    def add_file(path: str, file: Path) -> None:
        status = file.lstat()
        if file.is_symlink():
            target = os.readlink(file)
            if not target.startswith("/"):
                add(path, (0o120777, now, len(target), target))
            return
        number = (status.st_dev, status.st_ino)
        if number not in known:
            known[number] = store(file.read_bytes(), file)
        mode = 0o100755 if status.st_mode & 0o111 else 0o100644
        add(path, (mode, int(status.st_mtime), status.st_size, known[number]))

    for path, source in sources:
        if isinstance(source, str):
            add(path, (0o100755 if source.startswith("#!") else 0o100644, now, len(source), store(source.encode())))
            continue
        for directory, _, files in os.walk(source):
            below = Path(directory).relative_to(source)
            for name in files:
                add_file(str(Path(path) / below / name), Path(directory) / name)
    catalog = store(gzip.compress(json.dumps(entries).encode(), mtime=0))
    text = json.dumps({"repository": FQRN, "revision": now, "catalog": catalog})
    (BUILD / "published").write_text(text)
    run("openssl", "dgst", "-sha256", "-sign", str(key), "-out", str(BUILD / "signature"), str(BUILD / "published"))
    signature = base64.b64encode((BUILD / "signature").read_bytes()).decode()
    (REPOSITORY / ".cvmfspublished").write_text(f"{text}\n--\n{signature}")


def make_data() -> Path:
    """Make files for tests of the cache."""
    directory = BUILD / "data"
    directory.mkdir(exist_ok=True)
    for number in range(8):
        (directory / f"{number}.bin").write_bytes(os.urandom(4 << 20))
    return directory


def make_repository(seed: dict[str, Any]) -> None:
    """Make the software and publish it."""
    key = ROOT / "example.org.key"
    if not key.exists():
        run("openssl", "genrsa", "-out", str(key), "2048")
        run("openssl", "rsa", "-in", str(key), "-pubout", "-out", str(PUBLIC_KEY))
    uv = install_uv(seed["uv"])
    python = copy_python()
    sources: list[tuple[str, Source]] = [("data", make_data())]
    packages: Path | None = None
    for release, pins in seed["views"].items():
        packages = install_view(release, pins, uv, packages)
        path = f"lcg/views/{release}/{PLATFORM}"
        view = f"{MOUNT}/{path}"
        sources += [
            (path, python),
            (f"{path}/lib/{PYTHON}/site-packages", packages),
            (f"{path}/setup.sh", SETUP_SH.format(view=view, release=release, python=PYTHON)),
        ]
    # With the last view's Python, which has bash_kernel among its packages.
    kernel = {
        "argv": [f"{MOUNT}/bash/bin/bash-kernel", "-f", "{connection_file}"],
        "display_name": "Bash",
        "language": "bash",
    }
    sources += [
        ("bash/bin/bash-kernel", BASH_KERNEL.format(view=view)),
        ("bash/share/jupyter/kernels/bash/kernel.json", json.dumps(kernel, indent=1)),
    ]
    publish(sources, key)


def main() -> None:
    """Make it from what is on standard input; say "changed" if it was not so already."""
    text = sys.stdin.read()
    stamp = hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()
    made = STAMP.exists() and STAMP.read_text() == stamp
    if made and all(active(unit) for unit in UNITS):
        return
    if not made:
        seed = json.loads(text)
        install_packages(PACKAGES)
        # What machines are given is fetched by root; the rest is read by the web server.
        BUILD.mkdir(parents=True, exist_ok=True)
        STATE.chmod(0o755)
        make_packages(seed["client"])
        make_repository(seed)
        for unit, port, directory in zip(UNITS, (8000, 8001), (WWW / "cvmfs", WWW / "apt"), strict=True):
            content = UNIT.format(description=f"Campus {directory.name}", directory=directory, port=port)
            Path(f"/etc/systemd/system/{unit}").write_text(content)
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", *UNITS)
    run("systemctl", "restart", *UNITS)
    STAMP.write_text(stamp)
    print("changed")


if __name__ == "__main__":
    main()
