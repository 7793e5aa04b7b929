"""The guests' images: a plain, freshly installed Debian server, built once and kept by a hash of its inputs."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import archive
from archive import File, write_archive
from errors import VmError
from hypervisor import UML_MODULES, Hypervisor, uml_release
from namespaces import popen_as_init

OSES = {"bookworm": "Debian 12", "trixie": "Debian 13"}

HOST_CERTIFICATES = Path("/usr/local/share/ca-certificates")
DISK_SIZE = "20G"
UNUSED_DAYS = 14
BUILD_SECONDS = 1200

# What the Debian installer leaves on a server, beyond the priority "important" that mmdebstrap installs.
_PACKAGES = [
    "bash-completion",
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "libnss-systemd",
    "libpam-systemd",
    "locales",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
]
_KERNEL_PACKAGES = ["initramfs-tools", "linux-image-cloud-amd64"]

# Timers that would take the disk or the package lock in the middle of a test, and consoles nobody sits at.
_MASKED_UNITS = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "man-db.timer",
    "networking.service",
]

_CONFIGURATION_UNIT = """\
[Unit]
Description=Configuration of this VM from its second disk
# Once in the VM's life: later changes of these files survive a reboot.
ConditionPathExists=!/etc/vm-configured
DefaultDependencies=no
Requires=local-fs.target
After=local-fs.target
Before=network-pre.target systemd-networkd.service sysinit.target ssh.service
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=tar --extract --file={device} --directory=/

[Install]
WantedBy=sysinit.target
"""

# A UML kernel has 500 terminals nobody uses; udev would spend ten seconds of each boot on them.
_UML_COLDPLUG = """\
[Service]
ExecStart=
ExecStart=-udevadm trigger --type=subsystems --action=add
ExecStart=-udevadm trigger --type=devices --action=add --prioritized-subsystem=block,net --subsystem-nomatch=tty
"""

_CUSTOMIZE = """\
set -eu
update-ca-certificates
update-locale LANG=C.UTF-8
useradd --create-home --shell /bin/bash --uid 1000 --user-group admin
install -d -m 0700 -o admin -g admin /home/admin/.ssh
systemctl enable vm-configuration.service systemd-networkd.service
systemctl mask {masked}
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
rm -f /etc/hostname /etc/hosts /etc/resolv.conf
mkdir -p /var/log/journal
touch /etc/.updated /var/.updated
"""


def cache_directory() -> Path:
    """Return where images are kept, shared by all checkouts of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cygnet" / "images"


def host_certificates(directory: Path = HOST_CERTIFICATES) -> dict[str, str]:
    """Read the certificate authorities an administrator gave this machine; behind a TLS proxy guests need them."""
    return {file.name: file.read_text() for file in sorted(directory.glob("*.crt"))}


def overlay(hypervisor: Hypervisor) -> dict[str, File]:
    """Return the files that make a bare Debian one of our guests."""
    unit = _CONFIGURATION_UNIT.format(device=hypervisor.configuration_device)
    files = {
        "/etc/systemd/system/vm-configuration.service": File(unit),
        "/etc/sudoers.d/admin": File("admin ALL=(ALL:ALL) NOPASSWD: ALL\n", mode=0o440),
        "/etc/fstab": File("/dev/root / ext4 defaults 0 0\n"),
    }
    if hypervisor.kind == "uml":
        files["/etc/systemd/system/systemd-udev-trigger.service.d/uml.conf"] = File(_UML_COLDPLUG)
    for name, content in host_certificates().items():
        files[f"/usr/local/share/ca-certificates/{name}"] = File(content)
    return files


def inputs(os_name: str, hypervisor: Hypervisor, further: Sequence[str] = ()) -> dict[str, Any]:
    """Collect everything that an image depends on."""
    return {
        "os": os_name,
        "kind": hypervisor.kind,
        "packages": packages(hypervisor, further),
        "overlay": {path: [file.content, file.mode] for path, file in overlay(hypervisor).items()},
        "code": [Path(source).read_text() for source in (__file__, archive.__file__)],
        "modules": uml_release() if hypervisor.kind == "uml" else None,
    }


def digest(values: dict[str, Any]) -> str:
    """Hash the inputs of an image into the part of its name that tells it from others."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def packages(hypervisor: Hypervisor, further: Sequence[str] = ()) -> list[str]:
    """List the packages of an image; User-Mode Linux brings its kernel from the host."""
    return [*_PACKAGES, *(_KERNEL_PACKAGES if hypervisor.kind == "qemu" else []), *sorted(further)]


def ensure(os_name: str, hypervisor: Hypervisor, further: Sequence[str] = ()) -> Path:
    """Return the image with these further packages, building it unless it is there; two builders share one build."""
    directory = cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    prefix = f"{os_name}-{hypervisor.kind}-"
    image = directory / f"{prefix}{digest(inputs(os_name, hypervisor, further))}.img"
    if not image.exists():
        with _lock(directory / f"{prefix}build.lock", f"Waiting for another build of the {OSES[os_name]} image …"):
            if not image.exists():
                _build(os_name, hypervisor, further, image)
    image.with_suffix(".used").touch()
    _delete_unused(directory, prefix)
    return image


@contextmanager
def _lock(path: Path, waiting: str) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(os_name: str, hypervisor: Hypervisor, further: Sequence[str], image: Path) -> None:
    start = time.monotonic()
    print(f"Building the {OSES[os_name]} image (about a minute) …", file=sys.stderr, flush=True)
    # Left over from a build that was killed; the lock says nobody builds there now.
    for leftover in image.parent.glob(f"{os_name}-{hypervisor.kind}-building-*"):
        shutil.rmtree(leftover)
    building = Path(tempfile.mkdtemp(prefix=f"{os_name}-{hypervisor.kind}-building-", dir=image.parent))
    # mmdebstrap's user for downloads must reach the tree.
    building.chmod(0o755)
    try:
        root = building / "root"
        _install(os_name, hypervisor, further, building, root)
        _make_filesystem(root, building / "disk", building / "log")
        if hypervisor.kind == "qemu":
            for kernel in sorted(root.glob("boot/vmlinuz-*")):
                shutil.copy(kernel, image.with_suffix(".vmlinuz"))
            for initrd in sorted(root.glob("boot/initrd.img-*")):
                shutil.copy(initrd, image.with_suffix(".initrd"))
        (building / "disk").chmod(0o444)
        (building / "disk").rename(image)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    seconds = time.monotonic() - start
    print(f"Built the {OSES[os_name]} image in {seconds:.0f} s.", file=sys.stderr, flush=True)


def _install(os_name: str, hypervisor: Hypervisor, further: Sequence[str], building: Path, root: Path) -> None:
    files = building / "overlay.tar"
    write_archive(files, overlay(hypervisor))
    customize = building / "customize"
    customize.write_text(_CUSTOMIZE.format(masked=" ".join(_MASKED_UNITS)))
    command = [
        *["mmdebstrap", "--mode=root", "--variant=important", f"--include={','.join(packages(hypervisor, further))}"],
        *['--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "3"'],
        f'--customize-hook=tar --extract --file={files} --directory="$1" --no-overwrite-dir',
        f'--customize-hook=chroot "$1" /bin/sh < {customize}',
        *[os_name, str(root)],
    ]
    _run(command, building / "log")
    # Some modules of Ansible ask the age of the package lists: there are none.
    os.utime(root / "var/lib/apt/lists", (0, 0))
    if hypervisor.kind == "uml":
        release = uml_release()
        shutil.copytree(UML_MODULES / release, root / "usr/lib/modules" / release, symlinks=True)


def _make_filesystem(root: Path, disk: Path, log: Path) -> None:
    # The file is sparse, so what mke2fs would zero now, or the guest later, is zero already.
    options = "assume_storage_prezeroed=1,lazy_itable_init=0,root_owner=0:0"
    _run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-E", options, "-d", str(root), str(disk), DISK_SIZE], log)


def _run(command: list[str], log: Path) -> None:
    """Run a step of the build so that killing this program leaves neither its processes nor its mounts."""
    with log.open("a") as output:
        process = popen_as_init(command, stdout=output, stderr=output, in_private_mounts=True)
        try:
            status = process.wait(timeout=BUILD_SECONDS)
        except BaseException as error:
            process.kill()
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise VmError(f"{command[0]} took longer than {BUILD_SECONDS} s.\n{_tail(log)}") from error
            raise
    if status != 0:
        raise VmError(f"{command[0]} failed with status {status}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


def _delete_unused(directory: Path, prefix: str) -> None:
    """Delete images of the same kind that nothing has asked for in two weeks and no VM runs on."""
    horizon = time.time() - UNUSED_DAYS * 86400
    for image in directory.glob(f"{prefix}*.img"):
        used = image.with_suffix(".used")
        if not used.exists() or used.stat().st_mtime > horizon:
            continue
        with image.open("rb") as file:
            try:
                # Supervisors hold a shared lock while their VMs run.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for suffix in (".img", ".used", ".vmlinuz", ".initrd"):
                image.with_suffix(suffix).unlink(missing_ok=True)
