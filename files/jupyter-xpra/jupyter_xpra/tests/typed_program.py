"""A program with one text field, which writes to a file what was typed, which keys came, and what the mouse did.

Arguments: `xterm`, `gtk` or `qt`, and the file. Run by the system's Python, which has the toolkits.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def writer(path: Path) -> Callable[[dict[str, object]], None]:
    """Replace the file as a whole, so that nobody reads a part of it."""

    def write(state: dict[str, object]) -> None:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(state, file)
        os.replace(file.name, path)

    write({"text": "", "keys": [], "clicks": [], "scrolled": [0, 0]})
    return write


def xterm(path: Path) -> None:
    """Be what runs in the terminal: take each byte as it comes."""
    import termios
    import tty

    tty.setraw(sys.stdin, termios.TCSANOW)
    write = writer(path)
    typed = b""
    sys.stdout.write("ready\r\n")
    sys.stdout.flush()
    while data := os.read(0, 4096):
        typed += data
        text = typed.decode(errors="replace").replace("\r", "\n")
        write({"text": text, "keys": []})


def gtk(path: Path) -> None:
    """Show a GtkTextView."""
    import gi

    gi.require_version("Gtk", "3.0")
    gi.require_version("Gdk", "3.0")
    from gi.repository import Gdk, GLib, Gtk

    write = writer(path)
    keys: list[str] = []
    window = Gtk.Window(title="typed")
    window.set_default_size(900, 600)
    view = Gtk.TextView(wrap_mode=Gtk.WrapMode.CHAR, accepts_tab=True)
    buffer = view.get_buffer()

    clicks: list[list[float]] = []
    scrolled = [0, 0]

    def update(*_: object) -> None:
        text = buffer.get_text(*buffer.get_bounds(), True)
        write({"text": text, "keys": keys, "clicks": clicks, "scrolled": scrolled, "size": window.get_size()})

    def pressed(_: object, event: Any) -> bool:
        held = event.state & Gtk.accelerator_get_default_mod_mask()
        keys.append(Gtk.accelerator_name(event.keyval, held))
        update()
        return False

    def clicked(_: object, event: Any) -> bool:
        clicks.append([event.button, event.x, event.y])
        update()
        return False

    def wheel(_: object, event: Any) -> bool:
        direction = {Gdk.ScrollDirection.DOWN: (0, 1), Gdk.ScrollDirection.UP: (0, -1),
                     Gdk.ScrollDirection.RIGHT: (1, 0), Gdk.ScrollDirection.LEFT: (-1, 0)}  # fmt: skip
        x, y = direction.get(event.direction, (event.delta_x, event.delta_y))
        scrolled[:] = [scrolled[0] + x, scrolled[1] + y]
        update()
        return True

    buffer.connect("changed", update)
    view.add_events(Gdk.EventMask.SCROLL_MASK)
    view.connect("button-press-event", clicked)
    view.connect("scroll-event", wheel)
    # The window knows its new size a little later.
    window.connect("size-allocate", lambda *_: GLib.idle_add(update))
    view.connect("key-press-event", pressed)
    window.connect("destroy", Gtk.main_quit)
    # Without, the window could not become smaller than its text.
    scroller = Gtk.ScrolledWindow()
    scroller.add(view)
    window.add(scroller)
    window.show_all()
    Gtk.main()


def qt(path: Path) -> None:
    """Show a QPlainTextEdit."""
    from PyQt5 import QtGui, QtWidgets

    write = writer(path)
    keys: list[str] = []

    class Editor(QtWidgets.QPlainTextEdit):
        def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:
            keys.append(QtGui.QKeySequence(int(event.modifiers()) | event.key()).toString())
            super().keyPressEvent(event)
            update()

        def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
            clicks.append([{1: 1, 2: 3, 4: 2}.get(int(event.button()), 0), event.x(), event.y()])
            update()

        def wheelEvent(self, event: QtGui.QWheelEvent) -> None:
            turned = event.angleDelta()
            scrolled[:] = [scrolled[0] - turned.x() / 120, scrolled[1] - turned.y() / 120]
            update()

        def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
            super().resizeEvent(event)
            update()

    clicks: list[list[int]] = []
    scrolled = [0.0, 0.0]

    def update() -> None:
        size = [editor.width(), editor.height()]
        write({"text": editor.toPlainText(), "keys": keys, "clicks": clicks, "scrolled": scrolled, "size": size})

    app = QtWidgets.QApplication([])
    editor = Editor()
    editor.setWindowTitle("typed")
    editor.resize(900, 600)
    editor.textChanged.connect(update)
    editor.show()
    app.exec_()


if __name__ == "__main__":
    {"xterm": xterm, "gtk": gtk, "qt": qt}[sys.argv[1]](Path(sys.argv[2]))
