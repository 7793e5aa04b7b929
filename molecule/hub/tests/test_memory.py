"""A session's memory limit: who takes too much ends alone, and is told why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from testing import HOG, Browserless, new_kernel

Say = Callable[[str], str]


def test_memory_hog_ends_alone_and_its_student_is_told(
    hub: Any, alice: Browserless, bob: Browserless, say: Say
) -> None:
    unit = "jupyter-alice.service"
    before = hub.check_output(f"systemctl show -P MainPID -P MemoryMax {unit}").split()
    main, limit = before[0], int(before[1]) // 2**20
    with new_kernel(bob) as neighbour, new_kernel(alice) as other, new_kernel(alice) as hog:
        neighbour.output("x = 41")
        other.output("x = 42")

        cell = hog.run(HOG, seconds=180)

        assert cell.status == "restarted"
        sentence = say("The kernel was ended: this session reached its memory limit of %(limit)s MiB.")
        assert sentence % {"limit": limit} in cell.stderr
        # The server, the other kernel and the other user's session are those of before.
        assert hub.check_output(f"systemctl show -P MainPID {unit}") == main
        assert other.output("print(x)") == "42"
        assert neighbour.output("print(x)") == "41"
        # The hog's own kernel has been started anew, empty.
        hog.connect()
        assert hog.output("print('kept' in globals())", seconds=120) == "False"


def test_kernel_that_ends_for_another_reason_speaks_of_no_memory(alice: Browserless, say: Say) -> None:
    with new_kernel(alice) as kernel:
        cell = kernel.run("import os; os.kill(os.getpid(), 9)", seconds=120)
    assert cell.status == "restarted"
    assert cell.stderr == ""


def test_memory_in_files_of_the_private_tmp_ends_no_session(hub: Any, alice: Browserless) -> None:
    # What a cell writes is the machine's cache and not the session's use: it must be given back, not kill.
    with new_kernel(alice) as kernel:
        kernel.output("import tempfile; f = tempfile.TemporaryFile()")
        code = "for _ in range(30): f.write(bytes(50 * 2**20))\nprint(f.tell() >> 20)\nf.close()"
        assert kernel.output(code, seconds=180) == "1500"
        assert kernel.output("print(1)") == "1"
