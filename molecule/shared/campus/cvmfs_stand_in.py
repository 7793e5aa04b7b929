#!/usr/bin/python3
"""Stand in for the CVMFS client where CernVM's packages cannot be reached: same interface, own and simple insides.

The package that the campus offers as `cvmfs` installs this program as cvmfs2, mount.cvmfs and cvmfs_config. What is
like the real client 2.12: the files of the configuration and their order, the program map of autofs, exit codes, what a
server that refuses, is silent or is back means for mounts, for cached and for other files, the shared cache with its
quota, and that nothing is mounted that none of the keys has signed. What is not: the format of a repository (one list
of all files, signed, and files by their checksum), a second server by distance, and new revisions (taken by a reload or
the next mount alone). The daemon stays root.
"""

from __future__ import annotations

import base64
import errno
import getopt
import gzip
import hashlib
import http.client
import json
import os
import random
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fusepy import FUSE, FuseOSError, Operations

VERSION = "2.12.0"
ETC = Path("/etc/cvmfs")
#: As mount(8) has them: the program is used wrongly, the mount fails.
CONFIG_ERROR, CATALOG_ERROR = 1, 32
#: Seconds that the kernel may remember names and attributes: a revision never changes. The real client has 60.
KERNEL_SECONDS = 3600
CHUNK = 1 << 20


class Failure(Exception):  # noqa: N818 - not a fault of the program
    """What is wrong, in a sentence, and the exit status that tells it."""

    def __init__(self, text: str, status: int = CONFIG_ERROR) -> None:
        super().__init__(text)
        self.status = status


# -- configuration ----------------------------------------------------------------------------------------------------


class Configuration(dict[str, str]):
    """The settings that hold for a repository, or for all; `origins` tells the file of each."""

    def __init__(self, fqrn: str = "") -> None:
        super().__init__()
        self.fqrn = fqrn
        self.origins: dict[str, str] = {}
        files = [ETC / "default.conf", *sorted((ETC / "default.d").glob("*.conf")), ETC / "default.local"]
        if fqrn:
            domain = fqrn.partition(".")[2]
            files += [ETC / "domain.d" / f"{domain}.{end}" for end in ("conf", "local")]
            files += [ETC / "config.d" / f"{fqrn}.{end}" for end in ("conf", "local")]
        # They are shell scripts, and may build on each other.
        script = 'set -a; for file; do if [ -f "$file" ]; then . "$file"; printf "\\n%s\\0" "$file"; env -0; fi; done'
        shell = subprocess.run(
            ["sh", "-c", script, "sh", *map(str, files)],
            capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "CVMFS_FQRN": fqrn},
        )  # fmt: skip
        if shell.returncode:
            raise Failure(f"Failed to read CernVM-FS configuration: {shell.stderr.strip()}")
        origin = ""
        for entry in shell.stdout.split("\0"):
            name, _, value = entry.partition("=")
            if entry.startswith("\n"):
                origin = entry[1:]
            elif name.startswith("CVMFS_") and name != "CVMFS_FQRN":
                value = value.replace("@fqrn@", fqrn).replace("@org@", fqrn.partition(".")[0])
                if self.get(name) != value:
                    self[name] = value
                    self.origins[name] = origin

    def on(self, name: str) -> bool:
        """Tell whether a switch is on."""
        return self.get(name, "").lower() in {"yes", "on", "1", "true"}

    def words(self, name: str, separators: str) -> list[str]:
        """Split a list."""
        return [word.strip() for word in re.split(f"[{separators}]", self.get(name, "")) if word.strip()]

    @property
    def repositories(self) -> list[str]:
        """The repositories that are named."""
        return self.words("CVMFS_REPOSITORIES", ",")

    @property
    def keys(self) -> list[str]:
        """Files of the public keys, each of which may sign."""
        if self.get("CVMFS_PUBLIC_KEY"):
            return self.words("CVMFS_PUBLIC_KEY", ":")
        return sorted(map(str, Path(self.get("CVMFS_KEYS_DIR") or "/nonexistent").glob("*.pub")))

    @property
    def cache(self) -> Path:
        """Directory of the cached files."""
        return Path(self["CVMFS_CACHE_BASE"]) / ("shared" if self.on("CVMFS_SHARED_CACHE") else self.fqrn)

    @property
    def socket(self) -> str:
        """Where the daemon of the repository listens."""
        return f"{self['CVMFS_RELOAD_SOCKETS']}/cvmfs.{self.fqrn}"

    @property
    def mountpoint(self) -> str:
        """Where the automounter mounts the repository."""
        return f"{self['CVMFS_MOUNT_DIR']}/{self.fqrn}"


# -- servers and the cache --------------------------------------------------------------------------------------------


class Server:
    """The servers of a repository, asked by way of its proxies in their order."""

    def __init__(self, config: Configuration) -> None:
        self.urls = config.words("CVMFS_SERVER_URL", ";,")
        self.proxies = config.words("CVMFS_HTTP_PROXY", ";|")
        self.seconds = {True: float(config["CVMFS_TIMEOUT_DIRECT"]), False: float(config["CVMFS_TIMEOUT"])}
        self.retries = int(config["CVMFS_MAX_RETRIES"])
        self.backoff = float(config["CVMFS_BACKOFF_INIT"])

    def read(self, name: str, patient: bool = True) -> Iterator[bytes]:
        """Yield the chunks of a file.

        Parameters
        ----------
        name
            Path below the repository's address.
        patient
            Wait before a server that refused is asked once more.
        """
        problem: Exception = Failure("no server")
        for attempt in range(1 + self.retries):
            if attempt and not isinstance(problem, TimeoutError):
                if not patient:
                    break
                time.sleep(self.backoff * (0.5 + random.random()))  # noqa: S311 - spreads the load, hides nothing
            for url in self.urls:
                for proxy in self.proxies:
                    direct = proxy == "DIRECT"
                    handler = urllib.request.ProxyHandler({} if direct else {"http": proxy})
                    try:
                        opener = urllib.request.build_opener(handler)
                        with opener.open(f"{url}/{name}", timeout=self.seconds[direct]) as answer:
                            while chunk := answer.read(CHUNK):
                                yield chunk
                        return
                    except urllib.error.URLError as error:
                        problem = error.reason if isinstance(error.reason, Exception) else error
                    except (OSError, http.client.HTTPException) as error:
                        problem = error
        raise Failure(f"{name}: {problem}", CATALOG_ERROR)


class Cache:
    """Files by their checksum, at most as many as the quota allows."""

    def __init__(self, config: Configuration) -> None:
        self.directory = config.cache
        limit = int(config["CVMFS_QUOTA_LIMIT"])
        self.limit = limit * 1000 * 1000 if limit >= 0 else 1 << 62
        self.lock = threading.Lock()
        for number in range(256):
            (self.directory / f"{number:02x}").mkdir(parents=True, exist_ok=True)
        (self.directory / "txn").mkdir(exist_ok=True)
        self.used = sum(size for size, _, _ in self.entries())

    def entries(self) -> list[tuple[int, float, Path]]:
        """List size, time of the last use and path of what is there."""
        found = []
        for path in self.directory.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another repository's daemon made room
                continue
            found.append((status.st_size, status.st_mtime, path))
        return found

    def path(self, digest: str) -> Path:
        """Return where a file is, or would be."""
        return self.directory / digest[:2] / digest[2:]

    def open(self, digest: str, server: Server) -> int:
        """Open a file, after fetching it when it is not there.

        Raises
        ------
        Failure
            No server has it, it is not what was signed, or it is larger than the whole cache.
        """
        path = self.path(digest)
        try:
            handle = os.open(path, os.O_RDONLY)
            os.utime(handle)
            return handle
        except FileNotFoundError:
            pass
        with tempfile.NamedTemporaryFile(dir=self.directory / "txn") as file:
            checksum = hashlib.sha256()
            for chunk in server.read(f"data/{digest[:2]}/{digest[2:]}"):
                checksum.update(chunk)
                file.write(chunk)
            file.flush()
            size = file.tell()
            if checksum.hexdigest() != digest:
                raise Failure(f"{digest} is damaged", CATALOG_ERROR)
            self.make_room(size)
            try:
                os.link(file.name, path)
            except FileExistsError:  # another thread was faster
                pass
            else:
                self.used += size
            return os.open(file.name, os.O_RDONLY)

    def make_room(self, size: int) -> None:
        """Remove what was not used for longest, down to half of the quota, when a further file would exceed it."""
        with self.lock:
            if self.used + size <= self.limit:
                return
            if size > self.limit:
                raise Failure(f"a file of {size} bytes is larger than the cache", CATALOG_ERROR)
            entries = sorted(self.entries(), key=lambda entry: entry[1])
            self.used = sum(entry[0] for entry in entries)
            for bytes_, _, path in entries:
                if self.used <= self.limit // 2 and self.used + size <= self.limit:
                    return
                path.unlink(missing_ok=True)
                self.used -= bytes_


# -- the file system --------------------------------------------------------------------------------------------------


def signed(keys: Sequence[str], text: bytes, signature: bytes) -> bool:
    """Tell whether the owner of one of the keys signed a text."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(signature)
        file.flush()
        return any(
            subprocess.run(
                ["openssl", "dgst", "-sha256", "-verify", key, "-signature", file.name],
                input=text, capture_output=True, check=False,
            ).returncode == 0
            for key in keys
        )  # fmt: skip


class Tree:
    """A revision of a repository: all its names."""

    def __init__(self, config: Configuration, server: Server, cache: Cache) -> None:
        published = b"".join(server.read(".cvmfspublished", patient=False))
        text, _, signature = published.rpartition(b"\n--\n")
        if not signed(config.keys, text, base64.b64decode(signature)):
            raise Failure("no key has signed the repository", CATALOG_ERROR)
        manifest = json.loads(text)
        if manifest["repository"] != config.fqrn:
            raise Failure(f"the server has {manifest['repository']}", CATALOG_ERROR)
        self.revision: int = manifest["revision"]
        with os.fdopen(cache.open(manifest["catalog"], server), "rb") as file:
            #: Path, without the first slash, to mode, seconds, size, and checksum or target.
            self.entries: dict[str, tuple[int, int, int, str]] = json.loads(gzip.decompress(file.read()))
        self.children: dict[str, list[str]] = {path: [] for path, entry in self.entries.items() if entry[0] & 0o040000}
        for path in self.entries:
            if path:
                directory, _, name = path.rpartition("/")
                self.children[directory].append(name)


class Repository(Operations):  # type: ignore[misc]
    """A mounted repository."""

    # The kernel need not ask for what these would answer.
    flush = opendir = releasedir = access = None

    def __init__(self, config: Configuration) -> None:
        self.begin = time.monotonic()
        self.load(config)

    def load(self, config: Configuration) -> None:
        """Take a configuration and the latest revision, or leave all as it is."""
        server, cache = Server(config), Cache(config)
        self.tree = Tree(config, server, cache)
        self.config, self.server, self.cache = config, server, cache

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Turn our failures into the one that the real client shows."""
        try:
            return super().__call__(operation, *arguments)
        except Failure as failure:
            print(f"{self.config.fqrn}: {failure}", file=sys.stderr, flush=True)
            raise FuseOSError(errno.EIO) from failure

    def entry(self, path: str) -> tuple[int, int, int, str]:
        """Find a name."""
        try:
            return self.tree.entries[path[1:]]
        except KeyError:
            raise FuseOSError(errno.ENOENT) from None

    def init(self, path: str) -> None:
        """Listen to `cvmfs_config`."""
        # Not before: the automounter's processes alone see a directory on which nothing is mounted yet.
        os.setsid()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        """Answer one word with a line of JSON, for ever."""
        Path(self.config.socket).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.config.socket)
            listener.listen()
            READY.set()
            while True:
                connection, _ = listener.accept()
                with connection, connection.makefile("rw") as file:
                    problem = ""
                    if file.readline().strip() == "reload":
                        try:
                            self.load(Configuration(self.config.fqrn))
                        except Failure as failure:
                            problem = str(failure)
                    answer = {
                        "pid": os.getpid(),
                        "minutes": int((time.monotonic() - self.begin) / 60),
                        "revision": self.tree.revision,
                        "problem": problem,
                    }
                    file.write(json.dumps(answer) + "\n")

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """Describe a file."""
        mode, seconds, size, _ = self.entry(path)
        links = 2 if stat.S_ISDIR(mode) else 1
        return {"st_mode": mode, "st_mtime": seconds, "st_ctime": seconds, "st_size": size, "st_nlink": links}

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """Tell of the daemon, as the real client does."""
        values = {"user.fqrn": self.config.fqrn, "user.pid": os.getpid(), "user.revision": self.tree.revision}
        if name not in values:
            raise FuseOSError(errno.ENODATA)
        return str(values[name]).encode()

    def readdir(self, path: str, fh: int) -> list[str]:
        """List a directory."""
        return [".", "..", *self.tree.children[path[1:]]]

    def readlink(self, path: str) -> str:
        """Tell where a link leads."""
        return self.entry(path)[3]

    def open(self, path: str, flags: int) -> int:
        """Open a file; it is all there afterwards, as with the real client."""
        return self.cache.open(self.entry(path)[3], self.server)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Read from an open file."""
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        """Close a file."""
        os.close(fh)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        """Tell the use of the cache, as the real client does."""
        free = max(self.cache.limit - self.cache.used, 0) // 1024
        return {
            "f_bsize": 1024, "f_frsize": 1024, "f_blocks": self.cache.limit // 1024, "f_bfree": free, "f_bavail": free,
        }  # fmt: skip


READY = threading.Event()


def mount(arguments: list[str]) -> int:
    """Mount a repository: [-o options] fqrn directory; return when it is mounted, or why not."""
    given, arguments = getopt.gnu_getopt(arguments, "vfnho:")
    options = [word for name, value in given if name == "-o" for word in value.split(",")]
    if len(arguments) != 2:
        raise Failure("Usage: mount.cvmfs [-o OPTIONS] REPOSITORY DIRECTORY")
    fqrn, directory = arguments[0].rpartition("/")[2], arguments[1]
    config = Configuration(fqrn)
    if "remount" in options:
        return 0
    if not config.get("CVMFS_HTTP_PROXY"):
        raise Failure("CVMFS_HTTP_PROXY required")
    if config.on("CVMFS_STRICT_MOUNT") and fqrn not in config.repositories:
        raise Failure(f"Not allowed to mount {fqrn}, add it to CVMFS_REPOSITORIES")
    Path(config["CVMFS_RELOAD_SOCKETS"]).mkdir(exist_ok=True)
    if ask(config, "mountpoint"):
        raise Failure(f"Repository {fqrn} is already mounted")
    print("CernVM-FS: loading Fuse module... done", flush=True)
    try:
        repository = Repository(config)
    except Failure as failure:
        raise Failure(f"Failed to initialize root file catalog (16 - file catalog failure): {failure}", 32) from None
    inner, outer = os.pipe()
    if os.fork() == 0:
        serve(repository, directory, inner, outer)
    os.close(outer)
    if os.read(inner, 1) != b"+":
        raise Failure("Failed to mount", 32)
    print(f"CernVM-FS: mounted cvmfs on {directory}")
    return 0


def serve(repository: Repository, directory: str, inner: int, outer: int) -> None:
    """Be the daemon of a mounted repository; end with it."""
    try:
        os.close(inner)
        # Nobody waits for the end of what automount reads.
        null = os.open(os.devnull, os.O_RDWR)
        log = os.open("/var/log/cvmfs.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for handle, target in ((null, 0), (null, 1), (log, 2)):
            os.dup2(handle, target)
        os.chdir("/")

        def tell() -> None:
            READY.wait()
            os.write(outer, b"+")
            os.close(outer)

        threading.Thread(target=tell, daemon=True).start()
        times = dict.fromkeys(("attr_timeout", "entry_timeout", "negative_timeout"), KERNEL_SECONDS)
        options = dict.fromkeys(("allow_other", "default_permissions", "kernel_cache", "nodev", "nosuid", "ro"), True)
        FUSE(repository, directory, foreground=True, fsname="cvmfs2", **times, **options)
        Path(repository.config.socket).unlink(missing_ok=True)
    finally:
        os._exit(0)


# -- cvmfs_config -----------------------------------------------------------------------------------------------------


def ask(config: Configuration, word: str) -> dict[str, Any]:
    """Ask the daemon of a repository; nothing when there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as file:
            connection.connect(config.socket)
            file.write(f"{word}\n")
            file.flush()
            answer: dict[str, Any] = json.loads(file.readline())
            return answer
    except (OSError, ValueError):
        return {}


def mounted() -> list[str]:
    """List the mounted repositories."""
    lines = Path("/proc/mounts").read_text().splitlines()
    places = [line.split()[1] for line in lines if line.startswith("cvmfs2 ")]
    return [os.getxattr(place, "user.fqrn").decode() for place in places]


def probe(fqrns: list[str]) -> int:
    """Tell whether repositories can be read."""
    status = 0
    for fqrn in fqrns or Configuration().repositories:
        place = Configuration(fqrn).mountpoint
        print(f"Probing {place}... ", end="", flush=True)
        subprocess.run(["ls", place], capture_output=True, check=False)
        df = subprocess.run(["df", "-P", place], capture_output=True, text=True, check=False)
        good = "\ncvmfs2" in df.stdout
        print("OK" if good else "Failed!")
        status = status if good else 1
    return status


def showconfig(arguments: list[str]) -> int:
    """Print the effective settings of repositories."""
    for fqrn in [word for word in arguments if word != "-s"] or Configuration().repositories:
        config = Configuration(fqrn)
        print(f"CVMFS_REPOSITORY_NAME={fqrn}")
        for name, value in sorted(config.items()):
            quoted = value if re.fullmatch(r"[\w@%+=:,./-]*", value) else "'" + value.replace("'", "'\\''") + "'"
            print(f"{name}={quoted}    # from {config.origins[name]}")
    return 0


def chksetup(_: list[str]) -> int:
    """Look for mistakes; return the number of errors. A server out of reach is a warning."""
    errors, warnings = [], []
    if not os.access("/etc/auto.cvmfs", os.X_OK):
        errors.append("/etc/auto.cvmfs is not executable")
    for fqrn in Configuration().repositories:
        config = Configuration(fqrn)
        errors += [
            f"required parameter {name} undefined for {fqrn}"
            for name in ("CVMFS_SERVER_URL", "CVMFS_HTTP_PROXY")
            if not config.get(name)
        ]
        if not config.keys:
            errors.append(f"no public keys in {config.get('CVMFS_KEYS_DIR')}")
        errors += [f"public key {key} for {fqrn} not accessible" for key in config.keys if not Path(key).is_file()]
        if config.get("CVMFS_SERVER_URL") and config.get("CVMFS_HTTP_PROXY"):
            try:
                b"".join(Server(config).read(".cvmfspublished", patient=False))
            except Failure as failure:
                warnings.append(f"failed to access {config['CVMFS_SERVER_URL']}: {failure}")
    print("\n".join([f"Error: {text}" for text in errors] + [f"Warning: {text}" for text in warnings]) or "OK")
    return len(errors)


def reload(arguments: list[str]) -> int:
    """Let mounted repositories take the configuration; -c empties their caches."""
    status = 0
    for fqrn in [word for word in arguments if word != "-c"] or mounted():
        config = Configuration(fqrn)
        if "-c" in arguments:
            for path in config.cache.glob("??/*"):
                path.unlink()
        answer = ask(config, "reload")
        if answer.get("problem", "not mounted"):
            print(f"{fqrn}: RELOADING FAILED ({answer.get('problem', 'not mounted')})", file=sys.stderr)
            status = 1
    return status


def statistics(arguments: list[str]) -> int:
    """Print figures of mounted repositories."""
    for fqrn in [word for word in arguments if not word.startswith("-")] or mounted():
        config = Configuration(fqrn)
        answer = ask(config, "stat")
        if not answer:
            print(f"{fqrn} not mounted")
            return 1
        used = sum(path.stat().st_size for path in config.cache.glob("??/*")) // 1024
        print("VERSION PID UPTIME(M) REVISION CACHEUSE(K) CACHEMAX(K) HOST PROXY")
        maximum = int(config["CVMFS_QUOTA_LIMIT"]) * 1000 * 1000 // 1024
        place = f"{config['CVMFS_SERVER_URL']} {config['CVMFS_HTTP_PROXY']}"
        print(f"{VERSION} {answer['pid']} {answer['minutes']} {answer['revision']} {used} {maximum} {place}")
    return 0


COMMANDS = {"probe": probe, "showconfig": showconfig, "chksetup": chksetup, "reload": reload, "stat": statistics}


def main() -> int:
    """Be the program by whose name this one was called."""
    name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    try:
        if name == "mount.cvmfs":
            return mount(arguments)
        if arguments[:1] == ["--version"]:
            print(f"CernVM-FS version {VERSION} (stand-in)")
            return 0
        if not arguments or arguments[0] not in COMMANDS:
            raise Failure(f"Usage: cvmfs_config {'|'.join(COMMANDS)}")
        return COMMANDS[arguments[0]](arguments[1:])
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.status


if __name__ == "__main__":
    sys.exit(main())
