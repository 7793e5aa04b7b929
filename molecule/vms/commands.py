"""The command line: what people, the Makefile and Molecule's playbooks call."""

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import image
import spec as specs
from archive import File, write_archive
from campus import MTU, Plan
from errors import SpecError, VmError
from hypervisor import OVERRIDE, Hypervisor, Machine, choose, require_packages
from namespaces import CLONE_NEWNET, CLONE_NEWNS, setns
from spec import GATEWAY, NAMESERVER, PREFIX, SSH, Host, Port, Spec
from state import State
from supervisor import KEEP, fork_supervisor, wait_supervisor

OFF_SECONDS = 20
LOOPBACK = "127.0.0.1"


def main(arguments: list[str]) -> int:
    """Run one command; return its exit status."""
    options = _parser().parse_args(arguments)
    # Also where a shell started us in the background, with SIGINT ignored.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return int(options.call(options) or 0)
    except VmError as error:
        print(f"vms: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("vms: interrupted", file=sys.stderr)
        return 130


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vms", description="VMs for demo and tests.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, call: object, text: str, state: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(call=call)
        if state:
            command.add_argument("--state", type=Path, required=True, help="directory of these VMs")
        return command

    add("hypervisor", _hypervisor, "Print the hypervisor chosen.", state=False)
    add("packages", _packages, "Print the Debian packages needed on this machine.", state=False)
    build = add("image", _image, "Build an image unless it is there; print its path.", state=False)
    build.add_argument("os", choices=sorted(image.OSES))
    build.add_argument("packages", nargs="*", help="Debian packages beside those of every image")
    up = add("up", _up, "Boot VMs and wait until they answer.")
    up.add_argument("--spec", type=Path, required=True, help="JSON file that says which")
    add("down", _down, "Power the VMs off and remove them.")
    for name, call, text in (
        ("start", _start, "Boot one VM again."),
        ("stop", _stop, "Power one VM off, keeping its disk."),
        ("power-cut", _power_cut, "Take the power from one VM, keeping its disk."),
    ):
        add(name, call, text).add_argument("host")
    run = add("run", _run, "Run a command inside the VMs' network.")
    run.add_argument("command", nargs="+")
    return parser


def _chosen() -> Hypervisor:
    return choose(os.environ.get(OVERRIDE))


def _state(options: argparse.Namespace) -> State:
    return State(options.state.resolve())


def _hypervisor(_: argparse.Namespace) -> None:
    print(_chosen().name)


def _packages(_: argparse.Namespace) -> None:
    print(" ".join(_chosen().packages()))


def _image(options: argparse.Namespace) -> None:
    hypervisor = _chosen()
    require_packages(hypervisor)
    print(image.ensure(options.os, hypervisor, options.packages))


def _up(options: argparse.Namespace) -> None:
    spec = specs.load(options.spec)
    state = _state(options)
    lock = state.take()
    if lock is None:
        _confirm(state, options.spec)
        return
    try:
        # Whatever is here is from VMs that are gone: their supervisor would hold the lock.
        state.clear(keep_lock=True)
        state.spec.write_text(options.spec.read_text())
        hypervisor = _chosen()
        require_packages(hypervisor)
        _require_memory(spec)
        listeners = _listen(spec)
        _boot(spec, state, hypervisor, listeners, lock)
    except BaseException:
        state.clear()
        raise


def _confirm(state: State, spec: Path) -> None:
    """Accept that the VMs are up already, if they are these."""
    if not state.summary.exists():
        raise VmError(f"Another command is starting VMs in {state.directory}; wait for it, or give another --state.")
    if json.loads(state.spec.read_text()) != json.loads(spec.read_text()):
        raise VmError(f"Other VMs are up in {state.directory}; remove them first with: down --state {state.directory}")
    print(f"The VMs in {state.directory} are up already.", file=sys.stderr)


def _require_memory(spec: Spec) -> None:
    wanted = sum(host.memory_mb for host in spec.hosts)
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) // 1024
    if wanted > available:
        raise SpecError(
            f"The VMs ask for {wanted} MB of memory and {available} MB are available; lower memory_mb or stop others."
        )


def _listen(spec: Spec) -> dict[tuple[str, int], socket.socket]:
    """Bind the published ports, so that a port that is taken stops us before anything starts."""
    listeners: dict[tuple[str, int], socket.socket] = {}
    # Fixed ports first, lest a free one takes them.
    wanted = [(host, port) for host in spec.hosts for port in host.ports]
    for host, port in sorted(wanted, key=lambda pair: pair[1].host == 0):
        listeners[host.name, port.guest] = _bind(host, port)
    return listeners


def _bind(host: Host, port: Port) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port.host))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise SpecError(
            f"{host.name}: port {port.host} of this machine is taken ({error.strerror});"
            " give another one, or none to take a free one."
        ) from error
    return listener


def _boot(
    spec: Spec,
    state: State,
    hypervisor: Hypervisor,
    listeners: dict[tuple[str, int], socket.socket],
    lock: int,
) -> None:
    images = _images(spec, hypervisor)
    _write_ssh(spec, state, listeners)
    state.scratch.mkdir()
    machines = {host.name: _machine(spec, state, host, images[host.os, host.packages]) for host in spec.hosts}
    for machine in machines.values():
        hypervisor.make_disk(machine)
    with state.listen() as control:
        plan = Plan(spec, state, hypervisor, machines, listeners, control)
        supervisor, keep = fork_supervisor(plan, lock)
    try:
        _wait_for_ssh(state, [host.name for host in spec.hosts], hypervisor.boot_seconds, supervisor)
        _write_summary(spec, state, hypervisor, listeners)
        os.write(keep, KEEP)
    except BaseException:
        os.kill(supervisor, signal.SIGTERM)
        if not wait_supervisor(supervisor, 20):
            os.kill(supervisor, signal.SIGKILL)
            wait_supervisor(supervisor, 10)
        raise
    finally:
        os.close(keep)


def _images(spec: Spec, hypervisor: Hypervisor) -> dict[tuple[str, tuple[str, ...]], Path]:
    """Build what is missing, all at the same time."""
    wanted = sorted({(host.os, host.packages) for host in spec.hosts})
    program = [sys.executable, str(Path(__file__).parent), "image"]
    environment = os.environ | {OVERRIDE: hypervisor.name}
    builds = {
        (system, packages): subprocess.Popen(
            [*program, system, *packages], stdout=subprocess.PIPE, text=True, env=environment
        )
        for system, packages in wanted
    }
    try:
        outputs = {key: build.communicate()[0].strip() for key, build in builds.items()}
    except BaseException:
        for build in builds.values():
            build.terminate()
        for build in builds.values():
            build.wait()
        raise
    for (system, _), build in builds.items():
        if build.returncode != 0:
            raise VmError(f"The {image.OSES[system]} image was not built; see above.")
    return {key: Path(output) for key, output in outputs.items()}


def _machine(spec: Spec, state: State, host: Host, base: Path) -> Machine:
    directory = state.of(host)
    directory.mkdir(exist_ok=True)
    configuration = directory / "configuration.tar"
    write_archive(configuration, _configuration(spec, state, host))
    return Machine(
        name=host.name,
        memory_mb=host.memory_mb,
        mac=host.mac,
        tap=host.tap,
        mtu=MTU,
        image=base,
        disk=directory / "disk",
        configuration=configuration,
        scratch=state.scratch,
    )


def _configuration(spec: Spec, state: State, host: Host) -> dict[str, File]:
    """Return the files that make one VM differ from the others; the last one says that all are there."""
    network = (
        f"[Match]\nMACAddress={host.mac}\n\n[Link]\nMTUBytes={MTU}\n\n"
        f"[Network]\nAddress={host.address}/{PREFIX}\nGateway={GATEWAY}\nDNS={NAMESERVER}\n"
        "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    )
    key = _host_key(state, host)
    return {
        "/etc/hostname": File(f"{host.name}\n"),
        "/etc/hosts": File(f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{spec.hosts_lines}"),
        "/etc/resolv.conf": File(f"nameserver {NAMESERVER}\n"),
        "/etc/systemd/network/10-vm.network": File(network),
        "/etc/ssh/ssh_host_ed25519_key": File(key.read_text(), mode=0o600),
        "/etc/ssh/ssh_host_ed25519_key.pub": File(key.with_suffix(".pub").read_text()),
        "/home/admin/.ssh/authorized_keys": File(state.key.with_suffix(".pub").read_text(), mode=0o600, owner=1000),
        "/etc/vm-configured": File(""),
    }


def _host_key(state: State, host: Host) -> Path:
    return state.of(host) / "ssh_host_ed25519_key"


def _write_ssh(spec: Spec, state: State, listeners: dict[tuple[str, int], socket.socket]) -> None:
    """Make all keys, so that no host key is ever accepted on trust."""
    _make_key(state.key, "admin")
    known, config = [], []
    for host in spec.hosts:
        state.of(host).mkdir()
        key = _host_key(state, host)
        _make_key(key, host.name)
        kind, value = key.with_suffix(".pub").read_text().split()[:2]
        known.append(f"{host.name} {kind} {value}\n")
        port = listeners[host.name, SSH].getsockname()[1]
        config.append(f"Host {host.name}\n  HostName {LOOPBACK}\n  Port {port}\n  HostKeyAlias {host.name}\n\n")
    config.append(
        f"Host *\n  User admin\n  IdentityFile {_quote(state.key)}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {_quote(state.known_hosts)}\n  GlobalKnownHostsFile none\n"
        "  StrictHostKeyChecking yes\n  BatchMode yes\n  ServerAliveInterval 15\n  LogLevel ERROR\n"
    )
    state.known_hosts.write_text("".join(known))
    state.ssh_config.write_text("".join(config))


def _quote(path: Path) -> str:
    return f'"{str(path).replace("%", "%%")}"'


def _make_key(path: Path, comment: str) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _wait_for_ssh(state: State, names: list[str], seconds: float, supervisor: int | None = None) -> None:
    start = time.monotonic()
    waiting = list(names)
    print(f"Booting {', '.join(names)} …", file=sys.stderr, flush=True)
    while waiting:
        for name in list(waiting):
            if supervisor is not None and os.waitpid(supervisor, os.WNOHANG)[0]:
                raise VmError(f"The VMs did not start:\n{_tail(state.log)}")
            elapsed = time.monotonic() - start
            if _answers(state, name):
                waiting.remove(name)
                print(f"{name} answers after {elapsed:.0f} s.", file=sys.stderr, flush=True)
            elif elapsed > seconds:
                console = state.directory / name / "console.log"
                raise VmError(f"{name} does not answer after {seconds:.0f} s. Its console said:\n{_tail(console)}")
        time.sleep(0.2)


def _answers(state: State, name: str) -> bool:
    try:
        return state.ssh(name, "true", timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-30:]) if path.exists() else ""


def _write_summary(
    spec: Spec, state: State, hypervisor: Hypervisor, listeners: dict[tuple[str, int], socket.socket]
) -> None:
    """Write what users of the VMs need to know; its being there says that `up` is complete."""
    hosts = {
        host.name: {
            "address": host.address,
            "aliases": list(host.aliases),
            "console": str(state.console(host)),
            "memory_mb": host.memory_mb,
            "os": host.os,
            "ports": {str(port.guest): listeners[host.name, port.guest].getsockname()[1] for port in host.ports},
            "ssh_port": listeners[host.name, SSH].getsockname()[1],
        }
        for host in spec.hosts
    }
    summary = {
        "name": spec.name,
        "hypervisor": hypervisor.name,
        "hosts": hosts,
        "identity_file": str(state.key),
        "ssh_config": str(state.ssh_config),
        "supervisor_pid": state.process("supervisor"),
        "log": str(state.log),
    }
    temporary = state.summary.with_suffix(".new")
    temporary.write_text(json.dumps(summary, indent=2) + "\n")
    temporary.rename(state.summary)


def _down(options: argparse.Namespace) -> None:
    state = _state(options)
    if not state.directory.exists():
        return
    if state.is_held() and state.summary.exists():
        print("Powering the VMs off …", file=sys.stderr, flush=True)
        names = list(state.read()["hosts"])
        _power_off(state, names, grace=OFF_SECONDS)
    state.end_supervisor()
    state.clear()


def _power_off(state: State, names: list[str], grace: float) -> None:
    """Ask guests to power off, all at the same time; those that do not lose their power."""
    asks = [
        subprocess.Popen(
            ["ssh", "-F", str(state.ssh_config), "-o", "ConnectTimeout=5", name, "sudo systemctl poweroff"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in names
    ]
    deadline = time.monotonic() + grace
    for name in names:
        answer = state.ask(do="off", host=name, grace=max(0.0, deadline - time.monotonic()))
        if not answer["clean"]:
            print(f"{name} did not power off in {grace} s; its power was cut.", file=sys.stderr)
    for ask in asks:
        ask.kill()
        ask.wait()


def _known(options: argparse.Namespace) -> State:
    state = _state(options)
    hosts = state.read()["hosts"]
    if options.host not in hosts:
        raise SpecError(f"There is no VM {options.host!r} in {state.directory}; choose one of: {', '.join(hosts)}.")
    return state


def _start(options: argparse.Namespace) -> None:
    state = _known(options)
    state.ask(do="start", host=options.host)
    _wait_for_ssh(state, [options.host], _chosen().boot_seconds)


def _stop(options: argparse.Namespace) -> None:
    _power_off(_known(options), [options.host], grace=OFF_SECONDS)


def _power_cut(options: argparse.Namespace) -> None:
    _known(options).ask(do="off", host=options.host, grace=0)


def _run(options: argparse.Namespace) -> NoReturn:
    state = _state(options)
    state.read()
    inside = state.process("inside")
    directory = Path.cwd()
    for kind, flag in (("net", CLONE_NEWNET), ("mnt", CLONE_NEWNS)):
        fd = os.open(f"/proc/{inside}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        setns(fd, flag)
    os.chdir(directory)
    if not shutil.which(options.command[0]):
        raise VmError(f"There is no program {shlex.quote(options.command[0])}.")
    os.execvp(options.command[0], options.command)
