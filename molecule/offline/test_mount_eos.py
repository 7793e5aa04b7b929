"""An open file of EOS: in large pieces, in order, and kept while the server is away."""

import errno
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import mount_eos
import pytest
from mount_eos import BLOCK_BYTES, OpenFile


class Server:
    """Keeps one file, counts requests, and can be away, after which files are to be opened anew."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.requests: list[str] = []
        self.away = False
        self.opened = self.broken = 0

    def _request(self, what: str, number: int = sys.maxsize) -> None:
        self.requests.append(what)
        if self.away:
            self.broken = self.opened
            raise OSError(errno.ECONNREFUSED, "away")
        if number <= self.broken:
            raise OSError(errno.EBADF, "broken")

    def open(self, _url: bytes, _flags: int) -> int:
        self._request("open")
        self.opened += 1
        return self.opened

    def reopen(self, url: bytes, flags: int) -> int:
        return self.open(url, flags)

    def close(self, number: int) -> None:
        self._request("close")

    def read(self, number: int, size: int, offset: int) -> bytes:
        self._request("read", number)
        return bytes(self.content[offset : offset + size])

    def write(self, number: int, data: bytes, offset: int) -> None:
        self._request("write", number)
        self.content.extend(b"\0" * (offset - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def sync(self, number: int) -> None:
        self._request("sync", number)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(mount_eos, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(mount_eos, "RETRY_SECONDS", 0.01)
    return Server()


@pytest.fixture
def file(server: Server) -> Iterator[OpenFile]:
    with ThreadPoolExecutor(4) as pool:
        yield OpenFile(server, pool, b"url", os.O_RDWR)  # type: ignore[arg-type]


def test_writes_are_sent_in_large_pieces_and_all_before_close(server: Server, file: OpenFile) -> None:
    data = os.urandom(BLOCK_BYTES * 2 + 5)
    for offset in range(0, len(data), 131072):
        file.write(data[offset : offset + 131072], offset)
    file.flush()
    assert bytes(server.content) == data and not file.dirty
    assert server.requests.count("write") == 3


def test_writes_here_and_there(server: Server, file: OpenFile) -> None:
    file.write(b"begin", 0)
    file.write(b"far", 20)
    file.write(b"B", 0)
    assert file.read(100, 0) == b"Begin" + b"\0" * 15 + b"far"


def test_what_is_written_while_the_server_is_away_is_kept_and_sent(server: Server, file: OpenFile) -> None:
    server.away = True
    file.write(b"written", 0)
    with pytest.raises(OSError, match="timed out"):
        file.flush()
    assert file.dirty
    server.away = False
    file.flush()
    assert bytes(server.content) == b"written" and not file.dirty
    # A connection that broke takes the open file with it.
    assert server.opened > 1


def test_refusal_is_told_and_what_was_refused_is_dropped(server: Server, file: OpenFile) -> None:
    def refuse(_number: int, _data: bytes, _offset: int) -> None:
        raise OSError(errno.EDQUOT, "full")

    server.write = refuse  # type: ignore[method-assign]
    file.write(b"too much", 0)
    with pytest.raises(OSError, match="full"):
        file.flush()
    assert not file.dirty


def test_reading_on_takes_few_requests(server: Server, file: OpenFile) -> None:
    server.content.extend(os.urandom(BLOCK_BYTES * 2 + 5))
    size = len(server.content)
    found = b"".join(file.read(131072, offset) for offset in range(0, size, 131072))
    assert found == bytes(server.content)
    assert server.requests.count("read") <= 4
    assert file.read(10, size) == b""


def test_reading_here_and_there(server: Server, file: OpenFile) -> None:
    server.content.extend(os.urandom(BLOCK_BYTES * 6))
    for offset in (5 * BLOCK_BYTES, 17, 3 * BLOCK_BYTES - 50, 2**20):
        assert file.read(100, offset) == bytes(server.content[offset : offset + 100])


def test_reading_goes_on_when_the_server_is_back(server: Server, file: OpenFile) -> None:
    server.content.extend(b"content")
    server.away = True
    with pytest.raises(OSError, match="timed out"):
        file.read(7, 0)
    server.away = False
    assert file.read(7, 0) == b"content"
