"""The inside of the namespaces: bridge, taps, VMs and the forwarders of their published ports.

This runs as the first process of a PID namespace. When it ends, by whatever cause, the kernel ends all VMs with it and
drops the network and mount namespaces: nothing has to be cleaned up.
"""

import asyncio
import contextlib
import json
import os
import resource
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import VmError
from hypervisor import REBOOT_SCRIPT, REBOOT_STATUS, Hypervisor, Machine
from namespaces import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    MS_BIND,
    die_with_parent,
    mount,
    popen_as_init,
    private_mounts,
    setns,
    unshare,
)
from spec import BRIDGE, GATEWAY, NAMESERVER, PREFIX, Spec
from state import State

# What slirp4netns calls its end; the name is seen inside only.
SLIRP_TAP = "slirp0"
MTU = 1500
_CHUNK = 65536
_SERVING: set[asyncio.Task[Any]] = set()
_OUTSIDE = (("net", CLONE_NEWNET), ("mnt", CLONE_NEWNS))


@dataclass
class Plan:
    """Everything the inside needs, made before it exists."""

    spec: Spec
    state: State
    hypervisor: Hypervisor
    machines: dict[str, Machine]
    # (VM's name, port in the guest): socket bound on the host's loopback. A socket stays in the network namespace it
    # was made in, so what it accepts comes from the host while we connect inside.
    listeners: dict[tuple[str, int], socket.socket]
    control: socket.socket


def log(message: str) -> None:
    """Write a line into the supervisor's log."""
    print(message, file=sys.stderr, flush=True)


def run_inside(plan: Plan) -> None:
    """Build the network, then run the VMs until killed."""
    die_with_parent()
    outside = [(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY), flag) for kind, flag in _OUTSIDE]
    unshare(CLONE_NEWNET)
    private_mounts()
    _mount(plan)
    slirp = _start_slirp(outside)
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    for machine in plan.machines.values():
        _ip("tuntap", "add", machine.tap, "mode", "tap", "vnet_hdr")
    for tap in (SLIRP_TAP, *(machine.tap for machine in plan.machines.values())):
        _ip("link", "set", tap, "mtu", str(MTU), "master", "br0", "up")
    _ip("link", "set", "br0", "mtu", str(MTU), "up")
    # A bridge floods frames for a VM that is off to all its ports, and libslirp, which does not look at hardware
    # addresses, would open the connection to that address in the host's network. So it gets only what is for itself.
    _ip("link", "set", SLIRP_TAP, "type", "bridge_slave", "flood", "off", "learning", "off")
    for number in (GATEWAY, NAMESERVER):
        _run("bridge", "fdb", "add", _slirp_mac(number), "dev", SLIRP_TAP, "master", "static")
    _ip("address", "add", f"{BRIDGE}/{PREFIX}", "dev", "br0")
    _ip("route", "add", "default", "via", GATEWAY)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_Campus(plan, slirp).run())


def _start_slirp(outside: list[tuple[int, int]]) -> subprocess.Popen[bytes]:
    """Connect the network to the outside: no address, rule or interface of the host is touched for it.

    slirp4netns is a child of ours, hence in our PID namespace and gone with it, but works in the host's network.
    """

    def go_outside() -> None:
        die_with_parent()
        for fd, flag in outside:
            setns(fd, flag)

    # /proc is the host's, and so are the ids in it.
    namespace = f"/proc/{os.readlink('/proc/self')}/ns/net"
    ready_read, ready = os.pipe2(os.O_CLOEXEC)
    command = ["slirp4netns", "--disable-host-loopback", f"--mtu={MTU}", f"--ready-fd={ready}"]
    process = subprocess.Popen(
        [*command, "--netns-type=path", namespace, SLIRP_TAP],
        stdin=subprocess.DEVNULL,
        pass_fds=(ready,),
        preexec_fn=go_outside,
    )
    os.close(ready)
    if not os.read(ready_read, 1):
        raise VmError("slirp4netns did not start")
    os.close(ready_read)
    for fd, _ in outside:
        os.close(fd)
    return process


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _slirp_mac(address: str) -> str:
    """Return the hardware address under which libslirp answers for one of its addresses (its slirp.h)."""
    return "52:55:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def _mount(plan: Plan) -> None:
    """Mount the memory of User-Mode Linux, whose size /dev/shm may not have, and names for `run`."""
    memory = sum(machine.memory_mb + 64 for machine in plan.machines.values())
    mount("tmpfs", str(plan.state.scratch), "tmpfs", options=f"size={memory}m,mode=0700")
    for machine in plan.machines.values():
        machine.reboot_script.write_text(REBOOT_SCRIPT)
        machine.reboot_script.chmod(0o700)
    hosts = plan.state.scratch / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{plan.spec.hosts_lines}")
    resolver = plan.state.scratch / "resolv.conf"
    resolver.write_text(f"nameserver {NAMESERVER}\n")
    for source, target in ((hosts, Path("/etc/hosts")), (resolver, Path("/etc/resolv.conf"))):
        if target.exists():
            mount(str(source), str(target.resolve()), "none", MS_BIND)


@dataclass
class _Vm:
    """One VM and its process, if it runs."""

    machine: Machine
    console: Path
    hypervisor: Hypervisor
    process: subprocess.Popen[bytes] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cut: bool = False

    def start(self) -> None:
        if self.process is not None:
            return
        environment = os.environ | {"TMPDIR": str(self.machine.scratch), "HOME": str(self.machine.scratch)}
        with self.console.open("ab") as console:
            self.process = popen_as_init(
                self.hypervisor.command(self.machine),
                program=self.hypervisor.program,
                stdout=console,
                stderr=console,
                env=environment,
            )
        self.ended.clear()
        pidfd = os.pidfd_open(self.process.pid)
        asyncio.get_running_loop().add_reader(pidfd, self._reap, pidfd)
        log(f"{self.machine.name}: booting")

    def _reap(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        status = self.process.wait() if self.process else None
        self.process = None
        if status == REBOOT_STATUS and not self.cut:
            self.start()
            return
        log(f"{self.machine.name}: off (status {status})")
        self.ended.set()

    async def off(self, grace: float) -> bool:
        """Wait for the VM to go off by itself, then cut its power; tell which of both it was."""
        if self.process is None:
            return True
        try:
            await asyncio.wait_for(self.ended.wait(), grace)
        except TimeoutError:
            log(f"{self.machine.name}: power cut")
            self.cut = True
            if self.process:
                self.process.kill()
            await self.ended.wait()
            self.cut = False
            return False
        return True


class _Campus:
    def __init__(self, plan: Plan, slirp: subprocess.Popen[bytes]) -> None:
        self._plan = plan
        self._slirp = slirp
        self._vms = {
            name: _Vm(machine, plan.state.of(plan.spec.host(name)) / "console.log", plan.hypervisor)
            for name, machine in plan.machines.items()
        }

    async def run(self) -> None:
        for (name, port), listener in self._plan.listeners.items():
            address = self._plan.spec.host(name).address
            await asyncio.start_server(Forwarder(address, port), sock=listener, backlog=1024)
        await asyncio.start_unix_server(self._serve, sock=self._plan.control)
        for vm in self._vms.values():
            vm.start()
        slirp_ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(os.pidfd_open(self._slirp.pid), slirp_ended.set)
        await slirp_ended.wait()
        raise VmError(f"slirp4netns ended with status {self._slirp.wait()}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            answer = await self._answer(json.loads(await reader.readline()))
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        vm = self._vms[request["host"]]
        match request["do"]:
            case "start":
                vm.start()
                return {}
            case "off":
                return {"clean": await vm.off(request["grace"])}
        return {"running": vm.process is not None}


@dataclass(frozen=True)
class Forwarder:
    """Carries connections of one published port to the VM, bytes and half-closes in both directions."""

    address: str
    port: int

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        # The event loop forgets a task whose connection ended while the VM's side is still open.
        if task := asyncio.current_task():
            _SERVING.add(task)
            task.add_done_callback(_SERVING.discard)
        try:
            async with asyncio.timeout(10):
                inner_reader, inner_writer = await asyncio.open_connection(self.address, self.port)
        except OSError:
            # A reset, as a closed port would answer: an orderly end could pass for an empty reply.
            _reset(writer)
            return
        _keep_alive(inner_writer)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, inner_writer))
                tasks.create_task(_pump(inner_reader, writer))
        except* OSError:
            _reset(writer)
            _reset(inner_writer)
        else:
            writer.close()
            inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Notice within half a minute that a VM lost its power; it will not say so itself."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
