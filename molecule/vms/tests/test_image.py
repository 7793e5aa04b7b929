"""An image is found again by what it was made of, and only by that."""

import os
import time
from pathlib import Path

import pytest

import image
from hypervisor import Hypervisor


@pytest.fixture(autouse=True)
def _uml_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "uml_release", lambda: "6.1.0")


def the_digest(os_name: str = "bookworm", hypervisor: str = "uml", *packages: str) -> str:
    return image.digest(image.inputs(os_name, Hypervisor(hypervisor), packages))  # type: ignore[arg-type]


def test_the_same_inputs_give_the_same_image() -> None:
    assert the_digest() == the_digest()
    assert the_digest(hypervisor="kvm") == the_digest(hypervisor="qemu")
    assert the_digest("trixie", "uml", "slapd", "krb5-kdc") == the_digest("trixie", "uml", "krb5-kdc", "slapd")


def test_each_input_changes_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [the_digest(), the_digest("trixie"), the_digest(hypervisor="qemu")]
    digests.append(the_digest("bookworm", "uml", "slapd"))
    monkeypatch.setattr(image, "host_certificates", lambda: {"ca.crt": "a certificate"})
    digests.append(the_digest())
    monkeypatch.setattr(image, "uml_release", lambda: "6.1.1")
    digests.append(the_digest())
    monkeypatch.setattr(image, "_PACKAGES", ["systemd"])
    digests.append(the_digest())
    assert len(set(digests)) == len(digests)


def test_only_images_long_unused_are_deleted(tmp_path: Path) -> None:
    for name, days in (("trixie-uml-new", 1), ("trixie-uml-old", 20), ("bookworm-uml-old", 20)):
        (tmp_path / f"{name}.img").touch()
        used = tmp_path / f"{name}.used"
        used.touch()
        os.utime(used, (time.time() - days * 86400,) * 2)
    image._delete_unused(tmp_path, "trixie-uml-")
    assert sorted(path.stem for path in tmp_path.glob("*.img")) == ["bookworm-uml-old", "trixie-uml-new"]
