"""The roles keep to their own manuals: specs, defaults, names."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.parents[1].name for path in ROOT.glob("roles/*/meta/argument_specs.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def options(role: str) -> dict[str, Any]:
    specs = load(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]
    return {name: option for spec in specs.values() for name, option in spec["options"].items()}


def test_every_role_has_a_manual() -> None:
    assert [path.name for path in sorted((ROOT / "roles").iterdir())] == ROLES


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_manual(role: str) -> None:
    told = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert (load(ROOT / "roles" / role / "defaults/main.yml") or {}) == told


@pytest.mark.parametrize("role", ROLES)
def test_inputs_without_a_default_are_required(role: str) -> None:
    assert not [
        name for name, option in options(role).items() if "default" not in option and not option.get("required")
    ]


@pytest.mark.parametrize("role", ROLES)
def test_names_carry_the_role(role: str) -> None:
    assert not [name for name in options(role) if not name.startswith(f"{role}_")]
    assert not [name for name in load(ROOT / "roles" / role / "vars/main.yml") if not name.startswith(f"__{role}_")]


@pytest.mark.parametrize("role", ROLES)
def test_role_reads_no_variable_of_another(role: str) -> None:
    others = {name: other for other in ROLES if other != role for name in options(other)}
    # A role that has another install its environment hands it these inputs.
    others = {name: other for name, other in others.items() if not name.startswith("uv_environment_")}
    files = [path for path in (ROOT / "roles" / role).rglob("*") if path.suffix in {".yml", ".j2"}]
    assert files
    words = {word for path in files for word in re.findall(r"\w+", path.read_text())}
    assert not words & others.keys()


def test_no_role_name_begins_another() -> None:
    assert not [(a, b) for a in ROLES for b in ROLES if a != b and b.startswith(a)]


def test_a_play_tags_each_role_with_its_name() -> None:
    plays = [play for path in ROOT.glob("playbooks/*.yml") for play in load(path)]
    roles = [role for play in plays for role in play.get("roles", [])]
    assert roles
    assert [role["tags"] for role in roles] == [role["role"] for role in roles]


def test_every_playbook_is_in_the_site() -> None:
    site = [play["ansible.builtin.import_playbook"] for play in load(ROOT / "site.yml")]
    assert site[0] == "playbooks/validate.yml"
    # Run when there is something to say, to ask or to mend, and not with each deployment.
    site += ["playbooks/announce.yml", "playbooks/doctor.yml", "playbooks/restore.yml"]
    assert sorted(site) == sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("playbooks/*.yml"))


def test_every_template_says_it_is_managed() -> None:
    templates = list(ROOT.glob("roles/*/templates/**/*.j2"))
    assert templates
    # In the first line, or behind the one that names the interpreter.
    heads = {path: "".join(path.read_text().splitlines()[:2]) for path in templates}
    assert not [path for path, head in heads.items() if "ansible_managed | comment" not in head]


def test_every_package_is_pinned_with_a_hash() -> None:
    files = list(ROOT.glob("files/requirements/*.txt"))
    assert files
    for path in files:
        packages = re.findall(r"^[a-z0-9].*(?:\n    .*)*", path.read_text(), re.MULTILINE)
        assert packages
        assert not [
            package for package in packages if not re.match(r"\S+==\S+", package) or "--hash=sha256:" not in package
        ]


def test_no_lock_names_where_a_package_comes_from() -> None:
    assert '"resolved"' not in (ROOT / "roles/chp/files/package-lock.json").read_text()
    for path in ROOT.glob("files/requirements/*.txt"):
        assert "://" not in path.read_text()


def test_hub_and_sessions_have_the_same_jupyterhub() -> None:
    versions = [
        re.search(r"^jupyterhub==(\S+)", (ROOT / f"files/requirements/{name}.txt").read_text(), re.MULTILINE)
        for name in ("jupyterhub", "jupyterlab")
    ]
    assert len({version and version[1] for version in versions}) == 1
