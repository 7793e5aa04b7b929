"""The extension of the Jupyter server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import List, Type, default

from .handlers import api_handlers
from .kernels import SOCKET_VARIABLE, Chooser
from .manager import EVENT_SCHEMA, DisplayManager
from .proxy import proxy_handlers


class XpraApp(ExtensionApp):
    """Displays: programs with windows, in the browser."""

    name = "jupyter_xpra"
    description = __doc__
    classes = List([DisplayManager])
    manager_class = Type(DisplayManager, help="What keeps the displays.").tag(config=True)

    @default("config_file_name")
    def _config_file_name_default(self) -> str:
        # Without it `jupyter_` would stand there twice.
        return "jupyter_xpra_config"

    def initialize_settings(self) -> None:
        """Make the manager."""
        assert self.serverapp
        self.serverapp.event_logger.register_event_schema(Path(__file__).parent / "events" / "display.v1.yaml")
        self.manager = self.manager_class(
            base_url=self.serverapp.base_url,
            root_dir=self.serverapp.root_dir,
            emit=lambda data: self.serverapp.event_logger.emit(schema_id=EVENT_SCHEMA, data=data),
            parent=self,
        )
        self.chooser = Chooser(self.manager)
        self.settings["display_manager"] = self.manager

    def initialize_handlers(self) -> None:
        """Make the routes."""
        self.handlers.extend(api_handlers(self.manager))
        self.handlers.extend(proxy_handlers(self.manager))
        # Kernels and terminals inherit it.
        os.environ[SOCKET_VARIABLE] = str(self.chooser.path)

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        """Take over displays once the loop runs."""
        await self.manager.open()
        await self.chooser.open()

    async def stop_extension(self) -> None:
        """End the displays, or let go of them."""
        await self.chooser.close()
        await self.manager.close()


def main() -> None:
    """Start a Jupyter server with displays."""
    XpraApp.launch_instance()
