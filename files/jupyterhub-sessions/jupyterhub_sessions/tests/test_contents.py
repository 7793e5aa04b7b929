"""Files on storage that goes away: the page gets an answer in time, and what was begun is done."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.web import HTTPError

from jupyterhub_sessions.contents import METHODS, BoundedFileManager

NOTEBOOK: dict[str, Any] = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def files(tmp_path: Path) -> BoundedFileManager:
    return BoundedFileManager(root_dir=str(tmp_path), seconds=0.5)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Have a file system that does not answer until it is told to."""
    back = threading.Event()
    real = os.lstat

    def lstat(*arguments: Any, **options: Any) -> os.stat_result:
        if threading.current_thread().name == "files":
            back.wait(20)
        return real(*arguments, **options)

    monkeypatch.setattr(os, "lstat", lstat)
    yield back
    back.set()


async def test_a_notebook_s_life(files: BoundedFileManager, tmp_path: Path) -> None:
    path = (await files.new_untitled(type="notebook"))["path"]
    await files.save({"type": "notebook", "content": NOTEBOOK}, path)
    await files.create_checkpoint(path)
    assert len(await files.list_checkpoints(path)) == 1
    assert (await files.copy(path, "copy.ipynb"))["path"] == "copy.ipynb"
    await files.rename(path, "thesis.ipynb")
    assert await files.file_exists("thesis.ipynb") and (await files.get("thesis.ipynb"))["content"]["cells"] == []
    await files.delete("copy.ipynb")
    assert [entry["name"] for entry in (await files.get(""))["content"]] == ["thesis.ipynb"]


async def test_other_work_goes_on_meanwhile(files: BoundedFileManager, silent: threading.Event) -> None:
    """The kernels' output among it: nothing of the server waits for the storage."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    other = asyncio.create_task(turn())
    with pytest.raises(HTTPError) as caught:
        await files.get("")
    other.cancel()
    assert caught.value.status_code == 504 and "did not answer within" in str(caught.value.log_message)
    assert turns > 10


async def test_every_method_answers_in_time(files: BoundedFileManager) -> None:
    back = threading.Event()
    files.worker.call_soon_threadsafe(back.wait, 60)
    files.seconds = 0.05
    for name in METHODS:
        arguments: dict[str, tuple[Any, ...]] = {
            "copy": ("a",),
            "new": (),
            "new_untitled": (),
            "rename": ("a", "b"),
            "save": ({}, "a"),
        }
        arguments |= {"update": ({}, "a"), "restore_checkpoint": ("1", "a"), "delete_checkpoint": ("1", "a")}
        with pytest.raises(HTTPError, match="504"):
            await getattr(files, name)(*arguments.get(name, ("a",)))
    back.set()


async def test_what_was_begun_is_done_and_what_waited_is_not(
    files: BoundedFileManager, tmp_path: Path, silent: threading.Event
) -> None:
    (tmp_path / "old.txt").write_text("kept")
    first = asyncio.create_task(files.get("old.txt"))
    await asyncio.sleep(0.05)
    results = await asyncio.gather(first, files.delete("old.txt"), return_exceptions=True)
    assert [getattr(result, "status_code", None) for result in results] == [504, 504]
    silent.set()
    assert (await files.get("old.txt"))["content"] == "kept"


async def test_save_that_was_cut_off_is_written(
    files: BoundedFileManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = threading.Event()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        back.wait(20)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(HTTPError, match="504"):
        await files.save({"type": "file", "format": "text", "content": "thesis"}, "thesis.txt")
    back.set()
    assert (await files.get("thesis.txt"))["content"] == "thesis"


async def test_events_come_from_the_server_s_thread(files: BoundedFileManager, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    async def listener(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        seen.append((data["action"], threading.current_thread().name))

    files.event_logger.add_listener(schema_id=files.event_schema_id, listener=listener)
    await files.save({"type": "file", "format": "text", "content": ""}, "a.txt")
    for _turn in range(50):
        if ("save", threading.main_thread().name) in seen:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(seen)
