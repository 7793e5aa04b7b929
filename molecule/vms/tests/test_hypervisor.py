"""The hypervisor is the fastest one this machine can use."""

import pytest
from errors import SpecError
from hypervisor import choose, missing_packages


@pytest.mark.parametrize(
    ("override", "kvm", "programs", "chosen"),
    [
        (None, True, {"linux.uml", "qemu-system-x86_64"}, "kvm"),
        (None, False, {"linux.uml", "qemu-system-x86_64"}, "uml"),
        (None, False, {"qemu-system-x86_64"}, "qemu"),
        (None, False, set(), "uml"),
        ("qemu", True, {"linux.uml"}, "qemu"),
        ("", True, set(), "kvm"),
    ],
)
def test_choice(override: str | None, kvm: bool, programs: set[str], chosen: str) -> None:
    def which(name: str) -> str | None:
        return name if name in programs else None

    assert choose(override, has_kvm=lambda: kvm, which=which).name == chosen


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(SpecError, match="'xen'; set it to kvm, uml or qemu"):
        choose("xen")


def test_what_is_missing_is_named_by_its_debian_package() -> None:
    def which(name: str) -> str | None:
        return None if name in ("mke2fs", "linux.uml") else name

    assert missing_packages(choose("uml"), which) == ["e2fsprogs", "user-mode-linux"]
