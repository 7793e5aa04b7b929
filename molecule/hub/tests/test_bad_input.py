"""What only the machine can tell to be wrong stops the run as well, and never leaves the service broken."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from testing import Service

Run = Callable[..., str]


@contextmanager
def changed(hub: Any, change: str, back: str) -> Iterator[None]:
    hub.check_output(change)
    try:
        yield
    finally:
        hub.check_output(back)


def test_port_that_is_taken(refused: Run) -> None:
    out = refused("playbooks/validate.yml", {"nginx_https_port": 22})
    assert "Port 22 of hub.example.org is taken by sshd" in out
    assert "nginx_https_port" in out


@pytest.mark.destructive
def test_distribution_that_is_not_supported(hub: Any, refused: Run) -> None:
    version = "/etc/debian_version"
    with changed(hub, f"echo 11.9 > /run/old && mount --bind /run/old {version}", f"umount {version}"):
        out = refused("playbooks/validate.yml")
    assert "hub.example.org runs Debian 11" in out
    assert "Supported are Debian 12 and Debian 13" in out


@pytest.mark.destructive
def test_disk_that_is_full(hub: Any, refused: Run) -> None:
    fill = "fallocate -l $(($(df --output=avail -B1 / | tail -1) - 1000000000)) /var/tmp/fill"
    with changed(hub, fill, "rm /var/tmp/fill"):
        out = refused("playbooks/validate.yml")
    assert "The file system / of hub.example.org has" in out
    assert "Free some room" in out


@pytest.mark.destructive
def test_package_mirror_out_of_reach(hub: Any, refused: Run) -> None:
    conf = "/etc/apt/apt.conf.d/99out-of-reach"
    # The lists look old, so that they have to be fetched; nothing listens on port 9.
    proxies = [f'Acquire::{scheme}::Proxy "http://127.0.0.1:9";' for scheme in ("http", "https")]
    change = (
        f"echo {shlex.quote(' '.join(proxies))} > {conf}"
        " && rm -f /var/lib/apt/periodic/update-success-stamp && touch -d '3 days ago' /var/lib/apt/lists"
    )
    with changed(hub, change, f"rm {conf}"):
        out = refused("playbooks/validate.yml")
    assert "hub.example.org cannot read its package sources" in out
    assert "/etc/apt/sources.list.d" in out


def test_setting_that_the_hub_does_not_know(hub: Any, service: Service, refused: Run) -> None:
    before = hub.check_output("sha256sum /etc/jupyterhub/jupyterhub_config.py; systemctl show -p MainPID jupyterhub")
    settings = {"jupyterhub_settings": {"JupyterHub": {"no_such_setting": 1}}}
    out = refused("site.yml", settings, "--tags", "jupyterhub")
    assert "JupyterHub has no setting 'no_such_setting'" in out
    after = hub.check_output("sha256sum /etc/jupyterhub/jupyterhub_config.py; systemctl show -p MainPID jupyterhub")
    assert after == before
    assert service.healthy()
