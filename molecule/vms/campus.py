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

from hypervisor import Hypervisor, Machine
from namespaces import CLONE_NEWNET, MS_BIND, die_with_parent, mount, popen_as_init, private_mounts, unshare
from spec import BRIDGE, GATEWAY, NAMESERVER, PREFIX, Spec
from state import State

# What slirp4netns calls its end; the name is seen inside only.
SLIRP_TAP = "slirp0"
MTU = 1500
_CHUNK = 65536


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


def run_inside(plan: Plan, ready: int, go: int) -> None:
    """Build the network, then run the VMs until killed.

    Parameters
    ----------
    ready
        Pipe to write to when the network namespace exists.
    go
        Pipe to read from until slirp4netns has put its tap into it.
    """
    die_with_parent()
    unshare(CLONE_NEWNET)
    private_mounts()
    _mount(plan)
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    os.write(ready, b"1")
    if not os.read(go, 1):
        return
    for tap in [SLIRP_TAP, *(machine.tap for machine in plan.machines.values())]:
        if tap != SLIRP_TAP:
            _ip("tuntap", "add", tap, "mode", "tap", "vnet_hdr")
        _ip("link", "set", tap, "mtu", str(MTU), "master", "br0", "up")
    _ip("link", "set", "br0", "mtu", str(MTU), "up")
    _ip("address", "add", f"{BRIDGE}/{PREFIX}", "dev", "br0")
    _ip("route", "add", "default", "via", GATEWAY)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_Campus(plan).run())


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stdin=subprocess.DEVNULL)


def _mount(plan: Plan) -> None:
    """Mount the memory of User-Mode Linux, whose size /dev/shm may not have, and names for `run`."""
    memory = sum(machine.memory_mb + 64 for machine in plan.machines.values())
    mount("tmpfs", str(plan.state.scratch), "tmpfs", options=f"size={memory}m,mode=0700")
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

    def start(self) -> None:
        if self.process is not None:
            return
        environment = os.environ | {"TMPDIR": str(self.machine.scratch), "HOME": str(self.machine.scratch)}
        with self.console.open("ab") as console:
            self.process = popen_as_init(
                self.hypervisor.command(self.machine), stdout=console, stderr=console, env=environment
            )
        self.ended.clear()
        pidfd = os.pidfd_open(self.process.pid)
        asyncio.get_running_loop().add_reader(pidfd, self._reap, pidfd)
        log(f"{self.machine.name}: booting")

    def _reap(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        if self.process is not None:
            log(f"{self.machine.name}: off (status {self.process.wait()})")
        self.process = None
        self.ended.set()

    async def off(self, grace: float) -> bool:
        """Wait for the VM to go off by itself, then cut its power; tell which of both it was."""
        if self.process is None:
            return True
        try:
            await asyncio.wait_for(self.ended.wait(), grace)
        except TimeoutError:
            log(f"{self.machine.name}: power cut")
            self.process.kill()
            await self.ended.wait()
            return False
        return True


class _Campus:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
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
        await asyncio.Event().wait()

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
