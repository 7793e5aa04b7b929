"""The hypervisors: which one this machine can use, what it needs, how it is called."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from errors import SpecError, VmError

Name = Literal["kvm", "uml", "qemu"]

OVERRIDE = "CYGNET_HYPERVISOR"
# How a VM's process says that the guest wants a reboot. QEMU reboots within its process; User-Mode Linux executes
# argv[0] again but keeps its tap open, which then is busy. So argv[0] names a script that ends with this status.
REBOOT_STATUS = 64
REBOOT_SCRIPT = f"#!/bin/sh\nexit {REBOOT_STATUS}\n"

UML_MODULES = Path("/usr/lib/uml/modules")

# Debian package: the program of it that is looked for. The only list of them: the Makefile asks for it.
_COMMON_PACKAGES = {
    "e2fsprogs": "mke2fs",
    "iproute2": "ip",
    "mmdebstrap": "mmdebstrap",
    "openssh-client": "ssh",
    "slirp4netns": "slirp4netns",
}
_UML_PACKAGES = {"user-mode-linux": "linux.uml"}
_QEMU_PACKAGES = {"qemu-system-x86": "qemu-system-x86_64", "qemu-utils": "qemu-img"}


@dataclass(frozen=True)
class Machine:
    """What a hypervisor needs to know of one VM."""

    name: str
    memory_mb: int
    mac: str
    tap: str
    mtu: int
    image: Path
    disk: Path
    configuration: Path
    scratch: Path

    @property
    def reboot_script(self) -> Path:
        """What User-Mode Linux executes to reboot."""
        return self.scratch / "reboot"


@dataclass(frozen=True)
class Hypervisor:
    """One way to run a VM."""

    name: Name

    @property
    def kind(self) -> str:
        """Tell which image serves it: KVM and QEMU's emulation share one."""
        return "uml" if self.name == "uml" else "qemu"

    @property
    def configuration_device(self) -> str:
        """Name the guest's device that carries its configuration."""
        return "/dev/ubdb" if self.name == "uml" else "/dev/vdb"

    @property
    def boot_seconds(self) -> int:
        """Bound the time to SSH: twenty times what a quiet machine needs."""
        return 600 if self.name == "qemu" else 180

    def packages(self) -> dict[str, str]:
        """Map the Debian packages this needs on the host to a program of each."""
        return _COMMON_PACKAGES | (_UML_PACKAGES if self.name == "uml" else _QEMU_PACKAGES)

    def make_disk(self, machine: Machine) -> None:
        """Make the VM's disk, copy-on-write over the image; User-Mode Linux does so itself when it boots."""
        if self.name != "uml":
            base = ["-b", str(machine.image), "-F", "raw"]
            command = ["qemu-img", "create", "-q", "-f", "qcow2", *base, str(machine.disk)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    @property
    def program(self) -> str:
        """Name the program to execute; `command` begins with what it is told to be its name."""
        return "linux.uml" if self.name == "uml" else "qemu-system-x86_64"

    def command(self, machine: Machine) -> list[str]:
        """Return the command line that boots the VM with its console on standard output."""
        return self._uml(machine) if self.name == "uml" else self._qemu(machine)

    def _uml(self, machine: Machine) -> list[str]:
        network = f"transport=tap,ifname={machine.tap},depth=64,gro=1,mac={machine.mac},mtu={machine.mtu}"
        return [
            str(machine.reboot_script),
            f"mem={machine.memory_mb}M",
            f"umid={machine.name}",
            f"uml_dir={machine.scratch}",
            f"ubd0={machine.disk},{machine.image}",
            f"ubd1r={machine.configuration}",
            f"vec0:{network}",
            "con=null",
            "con0=null,fd:1",
            "root=/dev/ubda",
            *_kernel_arguments(machine),
        ]

    def _qemu(self, machine: Machine) -> list[str]:
        # `-cpu max` panics Debian's kernel under emulation.
        accelerator = ["-accel", "kvm", "-cpu", "host"]
        if self.name == "qemu":
            accelerator = ["-accel", "tcg", "-cpu", "Haswell-v4"]
        kernel = machine.image.with_suffix(".vmlinuz")
        initrd = machine.image.with_suffix(".initrd")
        arguments = ["root=/dev/vda", "console=ttyS0", *_kernel_arguments(machine)]
        return [
            *["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"],
            *accelerator,
            *["-m", str(machine.memory_mb), "-smp", str(min(2, os.cpu_count() or 1))],
            *["-kernel", str(kernel), "-initrd", str(initrd), "-append", " ".join(arguments)],
            *["-drive", f"file={_comma(machine.disk)},format=qcow2,if=virtio,discard=unmap"],
            *["-drive", f"file={_comma(machine.configuration)},format=raw,if=virtio,readonly=on"],
            *["-netdev", f"tap,id=net0,ifname={machine.tap},script=no,downscript=no"],
            *["-device", f"virtio-net-pci,netdev=net0,mac={machine.mac},host_mtu={machine.mtu}"],
            *["-device", "virtio-rng-pci", "-serial", "stdio"],
        ]


def _kernel_arguments(machine: Machine) -> list[str]:
    return ["rw", "panic=5", f"systemd.hostname={machine.name}", "systemd.show_status=true"]


def _comma(path: Path) -> str:
    """Double the commas, as QEMU's option syntax asks."""
    return str(path).replace(",", ",,")


def _has_kvm() -> bool:
    # The device alone says too little: there are machines that offer /dev/kvm and cannot boot a stock kernel with it.
    flags = Path("/proc/cpuinfo").read_text().split()
    return bool({"vmx", "svm"} & set(flags)) and os.access("/dev/kvm", os.W_OK)


def choose(
    override: str | None = None,
    has_kvm: Callable[[], bool] = _has_kvm,
    which: Callable[[str], str | None] = shutil.which,
) -> Hypervisor:
    """Choose the fastest hypervisor this machine can use, unless `override` names one."""
    match override or None:
        case None:
            pass
        case "kvm" | "uml" | "qemu" as name:
            return Hypervisor(name)
        case unknown:
            raise SpecError(f"{OVERRIDE} is {unknown!r}; set it to kvm, uml or qemu, or unset it.")
    if has_kvm():
        return Hypervisor("kvm")
    # User-Mode Linux is preferred even when only QEMU is there: `packages` then says what to install.
    if which("linux.uml") or not which("qemu-system-x86_64"):
        return Hypervisor("uml")
    return Hypervisor("qemu")


def missing_packages(hypervisor: Hypervisor, which: Callable[[str], str | None] = shutil.which) -> list[str]:
    """List the Debian packages that the hypervisor needs and this machine lacks."""
    return [package for package, program in hypervisor.packages().items() if not which(program)]


def require_packages(hypervisor: Hypervisor) -> None:
    """Stop with the command to run when the machine lacks a program, or the rights to use it."""
    if missing := missing_packages(hypervisor):
        raise VmError(f"Programs are missing; install them with: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise VmError("The VMs need network namespaces and mounts; run this as root.")


def uml_release() -> str:
    """Return the release of the User-Mode Linux kernel, whose modules the guest needs."""
    command = ["linux.uml", "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
