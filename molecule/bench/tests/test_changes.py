"""A deployment that changes something is found out by what it wrote."""

import pytest

from vm import changed_tasks

OUTPUT = """\
TASK [chp : Add the proxy's user] **********************************************
ok: [hub.example.org]

TASK [uv : Copy the wheels] ****************************************************
{status}: [hub.example.org] => (item=one)
{status}: [hub.example.org] => (item=two)

RUNNING HANDLER [jupyterhub : Restart JupyterHub] ******************************
{status}: [hub.example.org]

PLAY RECAP *********************************************************************
hub.example.org            : ok=3    changed={changed}    unreachable=0    failed=0    skipped=0
localhost                  : ok=1    changed=0    unreachable=0    failed=0    skipped=0
"""


def test_nothing_changed() -> None:
    assert changed_tasks(OUTPUT.format(status="ok", changed=0)) == []


def test_changes_are_named() -> None:
    changed = changed_tasks(OUTPUT.format(status="changed", changed=2))
    assert changed == ["uv : Copy the wheels", "jupyterhub : Restart JupyterHub"]


def test_recapitulation_counts_also_without_a_task() -> None:
    assert len(changed_tasks(OUTPUT.format(status="ok", changed=1))) == 1


def test_cut_off_output_is_an_error() -> None:
    with pytest.raises(ValueError, match="complete"):
        changed_tasks(OUTPUT.format(status="ok", changed=0).partition("PLAY RECAP")[0])
