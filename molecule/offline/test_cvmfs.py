"""What the role cvmfs makes of the client's words, and what it refuses before any machine is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cvmfs_client import explain, identity, key_files, settings
from inputs import cvmfs_problems

FQRN = "sft.example.org"
SERVER = "http://127.0.0.1:9/@fqrn@"


def test_settings_are_read_as_the_client_prints_them() -> None:
    shown = """CVMFS_REPOSITORY_NAME=sft.example.org
CVMFS_HTTP_PROXY='http://squid.example.org:3128;DIRECT'    # from /etc/cvmfs/default.local
CVMFS_QUOTA_LIMIT=4000    # from /etc/cvmfs/default.conf
CVMFS_PUBLIC_KEY=    # from /etc/cvmfs/domain.d/example.org.local
CVMFS_DEBUGLOG=
Running /usr/bin/cvmfs_config sft.example.org:
"""
    assert settings(shown) == {
        "CVMFS_REPOSITORY_NAME": "sft.example.org",
        "CVMFS_HTTP_PROXY": "http://squid.example.org:3128;DIRECT",
        "CVMFS_QUOTA_LIMIT": "4000",
        "CVMFS_PUBLIC_KEY": "",
        "CVMFS_DEBUGLOG": "",
    }


def test_keys_are_those_of_the_list_or_of_the_directory(tmp_path: Path) -> None:
    for name in ("b.pub", "a.pub", "README"):
        (tmp_path / name).touch()
    directory = {"CVMFS_KEYS_DIR": str(tmp_path)}
    assert key_files(directory) == [f"{tmp_path}/a.pub", f"{tmp_path}/b.pub"]
    assert key_files(directory | {"CVMFS_PUBLIC_KEY": "/one.pub:/two.pub"}) == ["/one.pub", "/two.pub"]
    assert key_files({}) == []


def test_another_key_under_the_same_name_is_a_change(tmp_path: Path) -> None:
    config = {"CVMFS_SERVER_URL": SERVER, "CVMFS_KEYS_DIR": "/etc/cvmfs/keys/site", "CVMFS_QUOTA_LIMIT": "1"}
    for etc in ("one", "two"):
        (tmp_path / etc / "keys/site").mkdir(parents=True)
        (tmp_path / etc / "keys/site/a.pub").write_text("the same")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert identity(config, one) == identity(config | {"CVMFS_QUOTA_LIMIT": "2"}, two)
    (tmp_path / "two/keys/site/a.pub").write_text("another")
    assert identity(config, one) != identity(config, two)


@pytest.mark.parametrize(
    ("config", "keys", "said"),
    [
        ({}, [], "does not read its configuration. It says: mount: no"),
        ({"CVMFS_HTTP_PROXY": "DIRECT"}, ["a.pub"], "nothing says which servers have it. Add example.org with"),
        ({"CVMFS_SERVER_URL": SERVER}, ["a.pub"], "no proxy is set"),
        (
            {"CVMFS_SERVER_URL": SERVER, "CVMFS_HTTP_PROXY": "DIRECT"},
            [],
            "there is no public key in CVMFS_KEYS_DIR, which",
        ),
        ({"CVMFS_SERVER_URL": SERVER, "CVMFS_HTTP_PROXY": "DIRECT"}, ["a.pub"], "does not answer ("),
        (
            {"CVMFS_SERVER_URL": SERVER, "CVMFS_HTTP_PROXY": "http://127.0.0.1:7|http://127.0.0.1:9"},
            ["a.pub"],
            "by way of http://127.0.0.1:7 does not answer",
        ),
        # Where the network is asked for a proxy, the role does not know it.
        ({"CVMFS_SERVER_URL": SERVER, "CVMFS_HTTP_PROXY": "auto"}, ["a.pub"], "The client says: mount: no"),
    ],
)
def test_reason_why_a_repository_cannot_be_mounted(config: dict[str, str], keys: list[str], said: str) -> None:
    assert said in explain(FQRN, config, keys, "mount:\n no\n")


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    """Have inputs of the role that are right."""
    key = tmp_path / "example.org.pub"
    key.write_text("-----BEGIN PUBLIC KEY-----\n")
    (tmp_path / "text.pub").write_text("no key")
    domain = {"name": "example.org", "servers": ["http://cvmfs.example.org/cvmfs/@fqrn@"], "keys": [str(key)]}
    return {
        "repositories": [FQRN],
        "http_proxy": "http://squid1.example.org:3128|http://squid2.example.org:3128;DIRECT",
        "domains": [domain],
        "config_package": "cvmfs-config-none",
        "apt_key": "https://cvmrepo.example.org/cernvm.gpg",
        "quota_mb": 4000,
        "cache_directory": "/var/lib/cvmfs",
        "warm_up": [f"/cvmfs/{FQRN}/lcg/views/LCG_107/x86_64-linux-opt/setup.sh"],
    }


def test_good_inputs(inputs: dict[str, Any]) -> None:
    assert cvmfs_problems(inputs) == []
    assert cvmfs_problems(inputs | {"repositories": ["sft.cern.ch"], "config_package": "cvmfs-config-default"}) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"repositories": []}, "cvmfs_repositories is empty"),
        ({"repositories": ["sft"]}, "'sft' of cvmfs_repositories is no repository: write its full name"),
        ({"repositories": ["sft.cern.ch"]}, "Nothing says where sft.cern.ch of cvmfs_repositories is: add cern.ch"),
        ({"http_proxy": ""}, "cvmfs_http_proxy has ''"),
        ({"http_proxy": "squid:3128"}, "cvmfs_http_proxy has 'squid:3128'"),
        ({"apt_key": "/no/such.asc"}, "cvmfs_apt_key is '/no/such.asc', which is not a file"),
        ({"apt_key": "https://example.org/key"}, "its name must end in .asc"),
        ({"quota_mb": 0}, "cvmfs_quota_mb is 0"),
        ({"cache_directory": "cache"}, "give an absolute path"),
        ({"warm_up": ["/opt"]}, "'/opt' of cvmfs_warm_up is not below /cvmfs"),
    ],
)
def test_wrong_inputs(inputs: dict[str, Any], wrong: dict[str, Any], said: str) -> None:
    (found,) = cvmfs_problems(inputs | wrong)
    assert said in found


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"servers": []}, "servers of example.org in cvmfs_domains is empty"),
        ({"keys": []}, "keys of example.org in cvmfs_domains is empty"),
        ({"servers": ["cvmfs.example.org/@fqrn@"]}, "no address of repositories"),
        ({"servers": ["http://cvmfs.example.org/cvmfs"]}, "no address of repositories"),
        ({"keys": ["/no/such.pub"]}, "'/no/such.pub' of example.org in cvmfs_domains is not a file"),
        ({"keys": ["{tmp_path}/text.pub"]}, "is no public key in PEM form"),
        ({"keys": ["{tmp_path}/example.org.pub"] * 2}, "Two keys of example.org"),
    ],
)
def test_wrong_domains(inputs: dict[str, Any], tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    wrong = {name: [value.format(tmp_path=tmp_path) for value in values] for name, values in wrong.items()}
    (found,) = cvmfs_problems(inputs | {"domains": [inputs["domains"][0] | wrong]})
    assert said in found


def test_domain_that_is_there_twice(inputs: dict[str, Any]) -> None:
    (found,) = cvmfs_problems(inputs | {"domains": inputs["domains"] * 2})
    assert "cvmfs_domains has example.org twice" in found
