"""Files of a session on storage that may be away: the page gets an answer in time, and kernels go on.

Jupyter Server reads and writes files in the same thread that serves everything else, so that one look at a directory on
dead storage stops the kernels' output, the terminals and the page itself.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError
from traitlets import Float

from .i18n import gettext as _

T = TypeVar("T")

#: What the server's handlers call and wait for.
METHODS = (
    "copy",
    "create_checkpoint",
    "delete",
    "delete_checkpoint",
    "dir_exists",
    "file_exists",
    "get",
    "is_hidden",
    "list_checkpoints",
    "new",
    "new_untitled",
    "rename",
    "restore_checkpoint",
    "save",
    "trust_notebook",
    "update",
)


def _bounded(name: str) -> Callable[..., Awaitable[Any]]:
    method = getattr(AsyncLargeFileManager, name)

    @functools.wraps(method)
    async def call(self: BoundedFileManager, *args: Any, **kwargs: Any) -> Any:
        if asyncio.get_running_loop() is self.worker:
            return await method(self, *args, **kwargs)
        return await self.in_time(lambda: method(self, *args, **kwargs))

    return call


class BoundedFileManager(AsyncLargeFileManager):
    """Work on files in a thread of its own, and tell the page when they do not answer in time.

    What was begun goes on there: a file that is being saved when the storage goes away is written when it is back.
    """

    seconds = Float(20.0, help="Seconds after which the page is told that the storage does not answer.").tag(
        config=True
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.server: asyncio.AbstractEventLoop | None = None
        self.worker = asyncio.new_event_loop()
        threading.Thread(target=self.worker.run_forever, name="files", daemon=True).start()

    async def in_time(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do work in the files' own thread.

        Raises
        ------
        tornado.web.HTTPError
            504: it was not done in time. What had begun goes on; what waited behind that is given up.
        """
        self.server = asyncio.get_running_loop()
        given_up = False

        async def begin() -> T:
            if given_up:
                raise asyncio.CancelledError
            return await work()

        future = asyncio.run_coroutine_threadsafe(begin(), self.worker)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self.seconds)
        except TimeoutError:
            given_up = True
            raise HTTPError(
                504,
                _(
                    "The storage of your files did not answer within %(seconds)s seconds. Your work is still in this"
                    " page: leave it open, and save again when the storage is back."
                )
                % {"seconds": f"{self.seconds:.0f}"},
            ) from None

    def emit(self, data: dict[str, Any]) -> None:
        """Send an event from the thread of the server, where its listeners are."""
        if self.server is None:
            super().emit(data)
        else:
            self.server.call_soon_threadsafe(super().emit, data)


for _name in METHODS:
    setattr(BoundedFileManager, _name, _bounded(_name))
