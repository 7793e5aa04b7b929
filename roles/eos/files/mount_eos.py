#!/usr/bin/python3
"""Mount a directory of EOS: `mount -t eos NAME DIRECTORY`, as autofs calls it.

A file system in user space (FUSE) on Debian's XRootD libraries. The server sees each request as its user's own, by a
shared secret (sss), and it alone decides about rights.

Left out: xrootdfs, which the same package brings. It makes no directory where users have names of their own (it sends
the request without the name), takes a server out of reach for a file that is not there, which a program then writes
anew, and leaves what a program wrote and closed unsent for a while: the next one reads the old content.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import pwd
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

CONFIGURATION = Path("/etc/eos")
#: Seconds until a mount is there.
MOUNT_SECONDS = 20.0
MAX_FILES = 65536
#: What one request carries at most; a file has so many of them under way at a time.
BLOCK_BYTES = 4 * 2**20
BLOCKS = 3
#: Seconds for which nobody waits for a server again that did not answer.
DOWN_SECONDS = 3.0
#: Seconds for which a program waits until what it wrote is on a server that is away. Then it is told that it is not;
#: it is sent nevertheless once the server is back.
PATIENCE_SECONDS = 45.0
RETRY_SECONDS = 2.0
#: Seconds until the server is asked again what is known of a file; other machines may have changed it.
CACHE_SECONDS = 2.0
#: Of how many files something is known.
CACHE_FILES = 20000
#: Of XRootD's library (XrdCl). A server that refuses connections is given up in seconds, a silent one in the time of
#: one request; what was decided about a server holds for a moment.
LIMITS = {
    "XRD_CONNECTIONWINDOW": "5",
    "XRD_CONNECTIONRETRY": "1",
    "XRD_REQUESTTIMEOUT": "15",
    "XRD_STREAMTIMEOUT": "10",
    "XRD_STREAMERRORWINDOW": "1",
    "XRD_TIMEOUTRESOLUTION": "1",
    "XRD_LOGLEVEL": "Error",
}
#: What the library answers when it is not the server that said no (XrdPosixMap.cc, XrdClStatus.hh).
AWAY = {
    errno.EAGAIN, errno.ECANCELED, errno.ECHRNG, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET,
    errno.EHOSTUNREACH, errno.EINTR, errno.ENETUNREACH, errno.ENOMSG, errno.ENOTCONN, errno.ENOTSOCK, errno.EPIPE,
    errno.EPROTO, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
#: No key, or another one than the server's (EAUTH of XRootD).
UNPROVEN = errno.EBADE
#: What programs are told of it: not ESTALE, upon which the kernel asks once more.
AWAY_ERROR = errno.ETIMEDOUT


def away(error: OSError) -> bool:
    """Tell whether the server is out of reach, rather than of another opinion."""
    return error.errno in AWAY


class Server:
    """The server, by the C and C++ functions of libXrdFfs and libXrdPosix; each raises OSError.

    Parameters
    ----------
    address
        Host and port.
    path
        What is the root of the mount, on the server.
    keytab
        File with the shared secret.
    """

    def __init__(self, address: str, path: str, keytab: str) -> None:
        # By XrdFfsMisc.cc the users have names of their own if this is set; the second is XrdSecsss' own variable.
        os.environ |= {"XROOTDFS_SECMOD": "sss", "XrdSecSSSKT": keytab, "XrdSecPROTOCOL": "sss"}
        self._ffs = ctypes.CDLL("libXrdFfs.so.3", use_errno=True)
        self._posix = ctypes.CDLL("libXrdPosix.so.3", use_errno=True)
        # XrdPosixXrootd(int, int, int): a negative number of files are such as only the library knows.
        self._this = ctypes.create_string_buffer(64)
        self._posix._ZN14XrdPosixXrootdC1Eiii(self._this, -MAX_FILES, 255, 255)
        self._ffs.XrdFfsMisc_xrd_secsss_init()
        self._address, self._root = address, path.rstrip("/")
        self._prefixes: dict[tuple[int, int], bytes] = {}
        self._lock = threading.Lock()
        self._down_until = 0.0
        text, number, pointer, size = ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
        ffs, posix = self._ffs, self._posix
        self._stat = self._declare(ffs.XrdFfsPosix_stat, number, text, pointer)
        self._open = self._declare(ffs.XrdFfsPosix_open, number, text, number, ctypes.c_uint)
        self._close = self._declare(ffs.XrdFfsPosix_close, number, number)
        self._pread = self._declare(ffs.XrdFfsPosix_pread, size, number, pointer, ctypes.c_size_t, size)
        self._pwrite = self._declare(ffs.XrdFfsPosix_pwrite, size, number, text, ctypes.c_size_t, size)
        self._fsync = self._declare(ffs.XrdFfsPosix_fsync, number, number)
        self._unlink = self._declare(ffs.XrdFfsPosix_unlink, number, text)
        self._rmdir = self._declare(ffs.XrdFfsPosix_rmdir, number, text)
        self._rename = self._declare(ffs.XrdFfsPosix_rename, number, text, text)
        self._truncate = self._declare(ffs.XrdFfsPosix_truncate, number, text, size)
        self._opendir = self._declare(ffs.XrdFfsPosix_opendir, pointer, text)
        self._readdir = self._declare(ffs.XrdFfsPosix_readdir, pointer, pointer)
        self._closedir = self._declare(ffs.XrdFfsPosix_closedir, number, pointer)
        # XrdPosixXrootd::Mkdir and ::Statvfs, which XrdFfs has not, or not for users with names of their own.
        self._mkdir = self._declare(posix._ZN14XrdPosixXrootd5MkdirEPKcj, number, text, ctypes.c_uint)
        self._statvfs = self._declare(posix._ZN14XrdPosixXrootd7StatvfsEPKcP7statvfs, number, text, pointer)

    @staticmethod
    def _declare(function: Any, result: Any, *arguments: Any) -> Any:
        function.restype, function.argtypes = result, arguments
        return function

    def _run(self, function: Any, *arguments: Any) -> int:
        ctypes.set_errno(0)
        result = function(*arguments)
        if result is None or result < 0:
            error = OSError(ctypes.get_errno() or errno.EIO, os.strerror(ctypes.get_errno() or errno.EIO))
            if away(error):
                self._down_until = time.monotonic() + DOWN_SECONDS
            raise error
        return int(result)

    def _ask(self, function: Any, *arguments: Any) -> int:
        """Call for somebody who may be told no; nobody waits for a server that another has just waited for in vain."""
        if time.monotonic() < self._down_until:
            raise OSError(AWAY_ERROR, os.strerror(AWAY_ERROR))
        return self._run(function, *arguments)

    def url(self, path: str, uid: int, gid: int) -> bytes:
        """Name a file to the library, for a user.

        Raises
        ------
        OSError
            The user has no name (EACCES), or XRootD takes the path for something else (EINVAL, ENAMETOOLONG).
        """
        name = os.fsencode(self._root + path)
        if b"?" in name or b"\n" in name:
            # What follows the one would be taken for parameters, the other ends a name in the list of a directory.
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if len(name) > 960:
            # The functions have room for 1024 bytes of URL, and cut off what is beyond.
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        prefix = self._prefixes.get((uid, gid))
        if prefix is None:
            try:
                pwd.getpwuid(uid)
            except KeyError:
                raise OSError(errno.EACCES, f"nobody has the uid {uid}") from None
            with self._lock:
                self._ffs.XrdFfsMisc_xrd_secsss_register(uid, gid, None)
                buffer = ctypes.create_string_buffer(f"root://{self._address}/".encode(), 1024)
                self._ffs.XrdFfsMisc_xrd_secsss_editurl(buffer, uid, None)
                prefix = self._prefixes[uid, gid] = buffer.value
        return prefix + name

    def stat(self, url: bytes, buffer: Any) -> None:
        """Fill a `struct stat`."""
        self._ask(self._stat, url, buffer)

    def statvfs(self, url: bytes, buffer: Any) -> None:
        """Fill a `struct statvfs`."""
        self._ask(self._statvfs, url, buffer)

    def open(self, url: bytes, flags: int) -> int:
        """Open a file; return a number for it."""
        return self._ask(self._open, url, flags, 0o644)

    def reopen(self, url: bytes, flags: int) -> int:
        """Open a file that somebody has open, whether the server is known to be away or not."""
        return self._run(self._open, url, flags, 0o644)

    def close(self, number: int) -> None:
        """Close a file."""
        self._run(self._close, number)

    def read(self, number: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes."""
        data = bytearray(size)
        found = self._run(self._pread, number, (ctypes.c_char * size).from_buffer(data), size, offset)
        return bytes(data[:found]) if found < size else bytes(data)

    def write(self, number: int, data: bytes, offset: int) -> None:
        """Write all the bytes."""
        if self._run(self._pwrite, number, data, len(data), offset) != len(data):
            raise OSError(errno.EIO, "the server took a part of it")

    def sync(self, number: int) -> None:
        """Have the server put on its disks what it has."""
        self._run(self._fsync, number)

    def list(self, url: bytes) -> Iterator[str]:
        """Yield the names in a directory."""
        directory = self._ask(self._opendir, url)
        try:
            while True:
                ctypes.set_errno(0)
                entry = self._readdir(directory)
                if not entry:
                    number = ctypes.get_errno()
                    if number:
                        raise OSError(number, os.strerror(number))
                    return
                # struct dirent of glibc: d_ino, d_off, d_reclen, d_type, d_name.
                yield os.fsdecode(ctypes.string_at(entry + 19))
        finally:
            self._closedir(directory)

    def mkdir(self, url: bytes) -> None:
        """Make a directory."""
        self._ask(self._mkdir, url, 0o755)

    def rmdir(self, url: bytes) -> None:
        """Remove an empty directory."""
        self._ask(self._rmdir, url)

    def unlink(self, url: bytes) -> None:
        """Remove a file."""
        self._ask(self._unlink, url)

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename a file or a directory; a file may replace another."""
        try:
            self._ask(self._rename, old, new)
        except FileExistsError:
            # EOS replaces nothing.
            self._ask(self._unlink, new)
            self._ask(self._rename, old, new)

    def truncate(self, url: bytes, size: int) -> None:
        """Give a file another size."""
        self._ask(self._truncate, url, size)


class OpenFile:
    """An open file: what is read ahead, and what is written and not sent yet.

    Parameters
    ----------
    server, pool
        Where it is, and who works in the background.
    url, flags
        As it was opened.
    """

    def __init__(self, server: Server, pool: ThreadPoolExecutor, url: bytes, flags: int) -> None:
        self._server, self._pool, self.url = server, pool, url
        self._number = server.open(url, flags)
        self._flags = flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)
        self._lock = threading.RLock()
        self._number_lock = threading.Lock()
        self._gathered: list[bytes] = []
        self._gathered_at = self._gathered_size = 0
        self._sending: list[tuple[int, bytes, Future[None]]] = []
        self._blocks: dict[int, Future[bytes]] = {}
        self._block_next = 0

    # -- reading --------------------------------------------------------------------------------------------------

    def _fetch(self, block: int) -> bytes:
        return self._patient(lambda: self._server.read(self._number, BLOCK_BYTES, block * BLOCK_BYTES), 0)

    def read(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes. Who reads on gets what was fetched in the meantime."""
        with self._lock:
            if self.dirty:
                self.flush()
            block, at = divmod(offset, BLOCK_BYTES)
            ahead = block in self._blocks or block == self._block_next
            if ahead:
                for number in (block, block + 1) if block else (block,):
                    if number not in self._blocks:
                        self._blocks[number] = self._pool.submit(self._fetch, number)
                for number in [number for number in self._blocks if number < block - 1]:
                    del self._blocks[number]
                self._block_next = max(self._block_next, block + 1)
                future = self._blocks[block]
        if not ahead:
            return self._patient(lambda: self._server.read(self._number, size, offset), 0)
        try:
            data = future.result()
        except OSError:
            self.forget()
            raise
        found = data[at : at + size]
        if len(found) < size and len(data) == BLOCK_BYTES:
            found += self.read(size - len(found), offset + len(found))
        return found

    def forget(self) -> None:
        """Forget what was read ahead."""
        with self._lock:
            self._blocks.clear()
            self._block_next = 0

    # -- writing --------------------------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Tell whether something is not on the server yet."""
        return bool(self._gathered or self._sending)

    def write(self, data: bytes, offset: int) -> None:
        """Take bytes, to be sent in large pieces.

        Raises
        ------
        OSError
            The server does not take what was written before.
        """
        with self._lock:
            if self._gathered and offset != self._gathered_at + self._gathered_size:
                self._send()
            if not self._gathered:
                self._gathered_at = offset
            self._gathered.append(data)
            self._gathered_size += len(data)
            if self._gathered_size >= BLOCK_BYTES:
                self._send()
            while len(self._sending) > BLOCKS:
                self._settle()

    def _send(self) -> None:
        if self._gathered:
            piece = (self._gathered_at, b"".join(self._gathered))
            self._gathered, self._gathered_size = [], 0
            self._sending.append((*piece, self._pool.submit(self._put, *piece)))

    def _put(self, offset: int, data: bytes) -> None:
        self._patient(lambda: self._server.write(self._number, data, offset), PATIENCE_SECONDS)

    def _settle(self) -> None:
        """Wait for the piece that was sent first; when the server is away, it stays, to be sent again."""
        offset, data, future = self._sending[0]
        try:
            future.result()
        except OSError as error:
            if away(error):
                self._sending[0] = (offset, data, self._pool.submit(self._put, offset, data))
            else:
                del self._sending[0]
            raise
        del self._sending[0]

    def flush(self) -> None:
        """Have on the server what was written.

        Raises
        ------
        OSError
            The server refuses it, or is away for longer than anybody waits.
        """
        with self._lock:
            self._send()
            while self._sending:
                self._settle()

    def sync(self) -> None:
        """Have it on the server's disks."""
        self.flush()
        self._patient(lambda: self._server.sync(self._number), PATIENCE_SECONDS)

    def drop(self) -> None:
        """Forget what was written and not sent, as nothing of the file is to stay."""
        with self._lock:
            self._gathered, self._gathered_size = [], 0
            for _offset, _data, future in self._sending:
                with contextlib.suppress(OSError):
                    future.result()
            self._sending.clear()

    def close(self) -> None:
        """Close it, after all that was written is on the server."""
        with contextlib.suppress(OSError):
            self._server.close(self._number)

    def _patient(self, request: Callable[[], T], seconds: float) -> T:
        """Repeat a request that the server did not answer, for so long, each time with the file opened anew."""
        end = time.monotonic() + seconds
        while True:
            number = self._number
            try:
                return request()
            except OSError as error:
                # Another has closed it, to open it anew (EBADF), or the library has given it up (EOPNOTSUPP).
                if not away(error) and error.errno not in {errno.EBADF, errno.EOPNOTSUPP}:
                    raise
                last = error
            with self._number_lock:
                # One of those who wait for it does it.
                if self._number == number:
                    try:
                        new = self._server.reopen(self.url, self._flags)
                    except OSError as error:
                        if not away(error):
                            raise
                        last = error
                    else:
                        self._number = new
                        with contextlib.suppress(OSError):
                            self._server.close(number)
            if time.monotonic() > end:
                if self._number == number or seconds:
                    raise OSError(AWAY_ERROR, os.strerror(AWAY_ERROR)) from last
                end = time.monotonic()  # opened anew: once more
                seconds = 1.0
            elif self._number == number:
                time.sleep(RETRY_SECONDS)


class Files:
    """The operations of the file system, as fusepy wants them.

    What EOS has not is as on a memory stick: rights are the mount's, links there are none.
    """

    def __init__(self, server: Server, context: Callable[[], tuple[int, int, int]]) -> None:
        self._server = server
        self._context = context
        self._pool = ThreadPoolExecutor(32)
        self._lock = threading.Lock()
        self._number = 0
        self._open: dict[int, tuple[str, OpenFile]] = {}
        #: Closed by their programs, with something that is not on the server yet.
        self._unsent: dict[str, list[OpenFile]] = {}
        #: By file and user, as it is the user's right to know of it. The kernel's own cache would tell everybody.
        self._known: dict[str, dict[int, tuple[float, dict[str, Any]]]] = {}

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Do an operation, and have its errors be such as programs expect."""
        function = getattr(self, operation, None)
        if function is None:
            raise OSError(errno.ENOSYS, "")
        try:
            return function(*arguments)
        except OSError as error:
            if away(error):
                raise OSError(AWAY_ERROR, os.strerror(AWAY_ERROR)) from error
            if error.errno == UNPROVEN:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES)) from error
            raise

    def _url(self, path: str) -> bytes:
        uid, gid, _pid = self._context()
        return self._server.url(path, uid, gid)

    def _opened(self, path: str) -> list[OpenFile]:
        with self._lock:
            return [file for opened, file in self._open.values() if opened == path] + self._unsent.get(path, [])

    def _settle(self, path: str) -> None:
        """Have on the server what others wrote into a file, before somebody looks at it."""
        for file in self._opened(path):
            if file.dirty:
                file.flush()

    # -- what fusepy asks -----------------------------------------------------------------------------------------

    def init(self, _path: str) -> None:
        """Begin."""

    def destroy(self, _path: str) -> None:
        """End, after everything is on the server."""
        while self._unsent:
            time.sleep(RETRY_SECONDS)

    def access(self, _path: str, _mode: int) -> int:
        """Leave it to the server to refuse."""
        return 0

    def chmod(self, _path: str, _mode: int) -> int:
        """Change nothing."""
        return 0

    def chown(self, _path: str, _uid: int, _gid: int) -> int:
        """Change nothing."""
        return 0

    def utimens(self, _path: str, _times: Any = None) -> int:
        """Change nothing: XRootD's protocol cannot."""
        return 0

    def symlink(self, _target: str, _source: str) -> None:
        """Refuse it as file systems do that have no such."""
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    link = symlink

    def getattr(self, path: str, _handle: Any = None) -> dict[str, Any]:
        """Return what is known of a file."""
        uid, gid, _pid = self._context()
        end, known = self._known.get(path, {}).get(uid, (0.0, {}))
        if time.monotonic() < end:
            return known
        url = self._server.url(path, uid, gid)
        self._settle(path)
        found = Stat()
        self._server.stat(url, ctypes.byref(found))
        kind = stat.S_IFDIR if stat.S_ISDIR(found.st_mode) else stat.S_IFREG
        attributes = {
            # To each it is their own, and executable, so that scripts are; ssh wants its keys to be nobody else's.
            "st_mode": kind | 0o700,
            "st_uid": uid,
            "st_gid": gid,
            "st_nlink": 1,
            "st_size": found.st_size,
            "st_blocks": (found.st_size + 511) // 512,
            "st_blksize": BLOCK_BYTES,
            "st_mtime": found.st_mtime,
            "st_ctime": found.st_mtime,
            "st_atime": found.st_mtime,
        }
        if len(self._known) > CACHE_FILES:
            self._known.clear()
        self._known.setdefault(path, {})[uid] = (time.monotonic() + CACHE_SECONDS, attributes)
        return attributes

    def statfs(self, path: str) -> dict[str, int]:
        """Return how much room there is."""
        found = Statvfs()
        self._server.statvfs(self._url(path), ctypes.byref(found))
        return {name: int(getattr(found, name)) for name in STATFS}

    def readdir(self, path: str, _handle: Any) -> list[str]:
        """Return the names in a directory."""
        return [".", "..", *self._server.list(self._url(path))]

    def mkdir(self, path: str, _mode: int) -> int:
        """Make a directory."""
        self._server.mkdir(self._url(path))
        return 0

    def rmdir(self, path: str) -> int:
        """Remove a directory."""
        self._server.rmdir(self._url(path))
        self._known.pop(path, None)
        return 0

    def unlink(self, path: str) -> int:
        """Remove a file."""
        for file in self._opened(path):
            file.drop()
        self._server.unlink(self._url(path))
        self._known.pop(path, None)
        return 0

    def rename(self, old: str, new: str) -> int:
        """Rename a file or a directory."""
        with self._lock:
            below = {path for path, _file in self._open.values() if path == old or path.startswith(f"{old}/")}
            below |= {path for path in self._unsent if path == old or path.startswith(f"{old}/")}
        for path in below:
            self._settle(path)
        url = self._url(new)
        self._server.rename(self._url(old), url)
        self._known.clear()
        with self._lock:
            for number, (path, file) in self._open.items():
                if path in below:
                    renamed = new + path[len(old) :]
                    file.url = url + os.fsencode(path[len(old) :])
                    self._open[number] = (renamed, file)
        return 0

    def truncate(self, path: str, size: int, _handle: Any = None) -> int:
        """Give a file another size."""
        for file in self._opened(path):
            if size:
                file.flush()
            else:
                file.drop()
            file.forget()
        self._server.truncate(self._url(path), size)
        self._known.pop(path, None)
        return 0

    def _enter(self, path: str, flags: int) -> int:
        file = OpenFile(self._server, self._pool, self._url(path), flags)
        with self._lock:
            self._number += 1
            self._open[self._number] = (path, file)
            return self._number

    def open(self, path: str, flags: int) -> int:
        """Open a file."""
        self._settle(path)
        # To write a part of a block the kernel may read the rest.
        mode = os.O_RDONLY if flags & os.O_ACCMODE == os.O_RDONLY else os.O_RDWR
        return self._enter(path, mode)

    def create(self, path: str, _mode: int, _info: Any = None) -> int:
        """Make a file and open it; if another was quicker, open that one and leave what it has."""
        try:
            return self._enter(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return self._enter(path, os.O_RDWR)

    def read(self, _path: str, size: int, offset: int, handle: int) -> bytes:
        """Read."""
        return self._open[handle][1].read(size, offset)

    def write(self, path: str, data: bytes, offset: int, handle: int) -> int:
        """Write."""
        self._open[handle][1].write(data, offset)
        self._known.pop(path, None)
        for file in self._opened(path):
            file.forget()
        return len(data)

    def flush(self, _path: str, handle: int) -> int:
        """Say whether what was written is there, as close() does."""
        self._open[handle][1].flush()
        return 0

    def fsync(self, _path: str, _datasync: int, handle: int) -> int:
        """Say whether it is on the disks."""
        self._open[handle][1].sync()
        return 0

    def release(self, path: str, handle: int) -> int:
        """Close a file that nobody has open any more."""
        with self._lock:
            path, file = self._open.pop(handle)
            if file.dirty:
                self._unsent.setdefault(path, []).append(file)
        if file.dirty:
            # Threads of their own: those of the pool do the sending.
            threading.Thread(target=self._send_later, args=(path, file), daemon=True).start()
        else:
            file.close()
        return 0

    def _send_later(self, path: str, file: OpenFile) -> None:
        """Send what its program no longer waits for, for as long as it takes."""
        while file.dirty:
            with contextlib.suppress(OSError):
                file.flush()
        file.close()
        with self._lock:
            self._unsent[path].remove(file)
            if not self._unsent[path]:
                del self._unsent[path]


class Statvfs(ctypes.Structure):
    """struct statvfs of 64-bit Linux."""

    _fields_ = [
        *((name, ctypes.c_ulong) for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files")),
        *((name, ctypes.c_ulong) for name in ("f_ffree", "f_favail", "f_fsid", "f_flag", "f_namemax")),
        ("_spare", ctypes.c_int * 6),
    ]


STATFS = {"f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_namemax"}


class Stat(ctypes.Structure):
    """struct stat of x86-64 Linux."""

    _fields_ = [
        ("st_dev", ctypes.c_ulong),
        ("st_ino", ctypes.c_ulong),
        ("st_nlink", ctypes.c_ulong),
        ("st_mode", ctypes.c_uint),
        ("st_uid", ctypes.c_uint),
        ("st_gid", ctypes.c_uint),
        ("_pad", ctypes.c_int),
        ("st_rdev", ctypes.c_ulong),
        ("st_size", ctypes.c_long),
        ("st_blksize", ctypes.c_long),
        ("st_blocks", ctypes.c_long),
        ("st_atime", ctypes.c_long),
        ("st_atime_ns", ctypes.c_long),
        ("st_mtime", ctypes.c_long),
        ("st_mtime_ns", ctypes.c_long),
        ("st_ctime", ctypes.c_long),
        ("st_ctime_ns", ctypes.c_long),
        ("_reserved", ctypes.c_long * 3),
    ]


def mounted(directory: str) -> bool:
    """Tell whether EOS is mounted there."""
    with open("/proc/self/mounts") as file:
        return any(line.split()[1:3] == [directory, "fuse.eos"] for line in file)


def serve(settings: dict[str, Any], directory: str) -> None:
    """Be the file system until it is unmounted."""
    os.environ.update(LIMITS | {variable: str(value) for variable, value in settings["environment"].items()})
    import fusepy

    files = Files(Server(settings["server"], settings["path"], settings["keytab"]), fusepy.fuse_get_context)
    options = {
        "fsname": f"{settings['server']}:{settings['path']}",
        "subtype": "eos",
        "allow_other": True,
        "big_writes": True,
        "max_read": 131072,
        # Who has a file open knows of it. Who looks for its name is asked each time whether it is theirs.
        "attr_timeout": CACHE_SECONDS,
        "entry_timeout": 0,
        "nosuid": True,
        "nodev": True,
    }
    fusepy.FUSE(files, directory, foreground=True, raw_fi=False, **(options | settings["options"]))


def main(arguments: list[str]) -> int:
    """Mount, or serve what is mounted; return what mount(8) wants."""
    name, directory = arguments[:2]
    settings = json.loads((CONFIGURATION / f"{name}.json").read_text())
    if arguments[2:] == ["--serve"]:
        serve(settings, directory)
        return 0
    if arguments[2:] == ["--watch"]:
        status = subprocess.run([sys.executable, __file__, name, directory, "--serve"], check=False).returncode
        # However it ended, no dead mount is left behind, and the next who looks has a new one.
        if mounted(directory):
            subprocess.run(["umount", "--lazy", "--no-canonicalize", "--internal-only", directory], check=False)
        return status
    # A scope of its own: a restart of autofs ends what is in its own. The process stays in autofs's process group,
    # whose members alone see what is below the place of the mount without waiting for it.
    scope = f"--unit=eos-{name}-{os.getpid()}"
    command = ["systemd-run", "--quiet", "--collect", "--scope", scope, f"--description=EOS in {directory}"]
    server = subprocess.Popen(
        # What it says is for the journal; autofs waits for the end of what it could read itself.
        ["systemd-cat", "--identifier=mount.eos", *command, sys.executable, __file__, name, directory, "--watch"],
        stdin=subprocess.DEVNULL,
    )
    end = time.monotonic() + MOUNT_SECONDS
    while time.monotonic() < end and server.poll() is None:
        if mounted(directory):
            return 0
        time.sleep(0.02)
    return 32


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
