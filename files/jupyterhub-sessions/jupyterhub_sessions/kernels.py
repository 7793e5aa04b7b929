"""Kernels of software stacks: which are there just now, and why one cannot be started.

Of a stack on a file system that does not answer, the list of kernels says so without waiting for it; the others start
as ever.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpec, KernelSpecManager
from jupyter_client.provisioning import LocalProvisioner
from tornado.web import HTTPError

from . import stacks
from .choices import missing
from .i18n import gettext as _

#: Seconds that the list of kernels waits for what is looked at for the first time.
LIST_SECONDS = 1.0
#: Seconds that the start of a kernel waits: a first look mounts the repository.
START_SECONDS = 25.0


class StackKernelSpecManager(KernelSpecManager):
    """List kernels with what is known of their stacks.

    In a session that was started in a stack, the native kernel is that one's: notebooks that ask for it, as most do,
    get the stack's software.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: Set by the hub (spawner.py).
        self.session_stack = os.environ.get("JUPYTERHUB_SESSIONS_STACK", "")
        # Mounted by the time that somebody asks.
        for stack in stacks.stacks():
            stacks.AVAILABILITY.start(stack.path)

    def find_kernel_specs(self) -> dict[str, str]:
        """Return the directories of the kernels by name."""
        found: dict[str, str] = super().find_kernel_specs()
        if self.session_stack in found:
            found[NATIVE_KERNEL_NAME] = found[self.session_stack]
        return found

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return a kernel by its name."""
        if kernel_name != NATIVE_KERNEL_NAME or not self.session_stack:
            return super().get_kernel_spec(kernel_name)
        spec = super().get_kernel_spec(self.session_stack)
        spec.display_name = _("%(stack)s (of this session)") % {"stack": spec.display_name}
        return spec

    async def get_all_specs(self) -> dict[str, Any]:
        """Return the kernels; the names of those that cannot be started now say so."""
        found: dict[str, Any] = super().get_all_specs()
        of_stacks = {
            name: stack for name, kernel in found.items() if (stack := stacks.read(kernel["spec"], name)) is not None
        }
        if of_stacks:
            paths = [stack.path for stack in of_stacks.values()]
            there = await asyncio.to_thread(stacks.AVAILABILITY.wait, paths, LIST_SECONDS)
            for name, stack in of_stacks.items():
                if not there[stack.path]:
                    found[name]["spec"]["display_name"] = _("%(stack)s (not available)") % {"stack": stack.display_name}
        return found


class StackUnavailableError(HTTPError):
    """The stack of a kernel does not answer; the message is for the student.

    An error of HTTP, as the server keeps the messages of all others to itself.
    """

    def __init__(self, message: str) -> None:
        super().__init__(503, message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def get_message(self) -> str:
        """Return the message, which upstream would keep."""
        return self.message


class StackProvisioner(LocalProvisioner):
    """Start a kernel of a stack, if that answers."""

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Look at the stack first.

        Raises
        ------
        StackUnavailableError
            It does not answer.
        """
        stack = stacks.read(self.kernel_spec.to_dict(), self.parent.kernel_name)
        if stack is not None:
            there = await asyncio.to_thread(stacks.AVAILABILITY.wait, [stack.path], START_SECONDS)
            if not there[stack.path]:
                raise StackUnavailableError(missing(stack))
        arguments: dict[str, Any] = await super().pre_launch(**kwargs)
        return arguments
