"""A configuration that the hub would not understand is found before it is put in place."""

from pathlib import Path

import pytest

from jupyterhub_sessions import check_config

GOOD = """
c = get_config()
c.JupyterHub.spawner_class = "jupyterhub_sessions.spawner.SystemdSessionSpawner"
c.JupyterHub.proxy_class = "jupyterhub_sessions.proxy.StandingProxy"
c.JupyterHub.services = [{"name": "prometheus"}]
c.SystemdSessionSpawner.mem_limit = "2G"
c.StandingProxy.check_routes_interval = 2.0
c.PAMAuthenticator.admin_groups = {"administrators"}
"""


def check(tmp_path: Path, text: str) -> int:
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(text)
    return check_config.main([str(path)])


def test_good_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, GOOD) == 0
    assert not capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("c.JupyterHub.allow_named_serverz = True", "JupyterHub has no setting 'allow_named_serverz'"),
        ("c.SystemdSessionSpawner.tasks_limit = 'many'", "SystemdSessionSpawner.tasks_limit"),
        ("c.SystemdSessionSpawner.mem_limit = 'much'", "SystemdSessionSpawner.mem_limit"),
        ("c.StandingProxy.colour = 'blue'", "StandingProxy has no setting 'colour'"),
    ],
)
def test_bad_setting(line: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, GOOD + line) == 1
    assert found in capsys.readouterr().err


def test_broken_python(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError):
        check(tmp_path, "c = (")
