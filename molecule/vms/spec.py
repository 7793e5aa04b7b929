"""What VMs are asked for: read from JSON, checked before anything starts."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import SpecError
from image import OSES

NETWORK = "10.0.2"
PREFIX = 24
# Our own end of the bridge, then the two addresses libslirp answers on.
BRIDGE, GATEWAY, NAMESERVER = (f"{NETWORK}.{number}" for number in (1, 2, 3))
_FIRST_HOST = 11
_PROJECT = Path(__file__).parents[2]
MAX_HOSTS = 200

MIN_MEMORY_MB = 256
SSH = 22

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOSTNAME = re.compile(_LABEL)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_DOMAIN_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True)
class Port:
    """A port of the guest, published on the host's loopback; `host` 0 takes a free one."""

    guest: int
    host: int = 0


@dataclass(frozen=True)
class Host:
    """One VM."""

    name: str
    os: str
    number: int
    memory_mb: int = 2048
    ports: tuple[Port, ...] = (Port(SSH),)
    aliases: tuple[str, ...] = ()
    # Debian packages that its image has beside those of every image; none are configured.
    packages: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Return its address on the VMs' network."""
        return f"{NETWORK}.{_FIRST_HOST + self.number}"

    @property
    def mac(self) -> str:
        """Return its hardware address, by which it finds its network configuration."""
        return f"02:00:00:00:02:{_FIRST_HOST + self.number:02x}"

    @property
    def tap(self) -> str:
        """Name its end of the network."""
        return f"vm{self.number}"

    @property
    def hosts_line(self) -> str:
        """Return its line of /etc/hosts: the full name first, as `hostname --fqdn` expects."""
        names = sorted([self.name, *self.aliases], key=lambda name: "." not in name)
        return f"{self.address} {' '.join(names)}"


@dataclass(frozen=True)
class Spec:
    """A set of VMs on one network."""

    name: str
    hosts: tuple[Host, ...]

    def host(self, name: str) -> Host:
        """Return the VM of that name."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise SpecError(f"There is no VM {name!r} here; choose one of: {known}.")

    @property
    def hosts_lines(self) -> str:
        """Return the lines of /etc/hosts for all VMs."""
        return "".join(f"{host.hosts_line}\n" for host in self.hosts)


def load(path: Path) -> Spec:
    """Read a spec from its file."""
    try:
        text = path.read_text()
    except OSError as error:
        raise SpecError(f"Cannot read the spec {path}: {error.strerror}.") from error
    try:
        return parse(json.loads(text))
    except json.JSONDecodeError as error:
        raise SpecError(f"{path} is not JSON: {error}.") from error


def parse(data: Any) -> Spec:
    """Check a spec.

    Raises
    ------
    SpecError
        Names the first thing that is wrong, and what it should be.
    """
    fields = _mapping(data, "the spec", required={"name", "hosts"}, optional=set())
    name = _string(fields["name"], "name")
    if not isinstance(fields["hosts"], list) or not 1 <= len(fields["hosts"]) <= MAX_HOSTS:
        raise SpecError(f"hosts must be a list of 1 to {MAX_HOSTS} VMs.")
    hosts = tuple(_host(item, number) for number, item in enumerate(fields["hosts"]))
    _refuse_duplicates([name for host in hosts for name in (host.name, *host.aliases)], "name")
    taken = [port.host for host in hosts for port in host.ports if port.host]
    _refuse_duplicates([str(port) for port in taken], "port of the host")
    return Spec(name=name, hosts=hosts)


def _host(data: Any, number: int) -> Host:
    where = f"hosts[{number}]"
    fields = _mapping(data, where, {"name", "os"}, {"memory_mb", "publish", "aliases", "packages"})
    name = _string(fields["name"], f"{where}.name")
    if not _HOSTNAME.fullmatch(name) or name == "localhost":
        raise SpecError(
            f"{where}.name is {name!r}; a host name has small letters, digits and inner hyphens, at most 63."
        )
    system = fields["os"]
    if system not in OSES:
        raise SpecError(f"{name}: os is {system!r}; choose one of: {', '.join(OSES)}.")
    memory = fields.get("memory_mb", Host.memory_mb)
    if type(memory) is not int or memory < MIN_MEMORY_MB:
        raise SpecError(f"{name}: memory_mb is {memory!r}; give a whole number from {MIN_MEMORY_MB} up.")
    return Host(
        name=name,
        os=system,
        number=number,
        memory_mb=memory,
        ports=_ports(fields.get("publish", []), name),
        aliases=_aliases(fields.get("aliases", []), name),
        packages=_packages(fields.get("packages", []), name),
    )


def _ports(data: Any, name: str) -> tuple[Port, ...]:
    if not isinstance(data, list):
        raise SpecError(f"{name}: publish must be a list of ports.")
    ports = [_port(item, name) for item in data]
    _refuse_duplicates([str(port.guest) for port in ports], f"published port of {name}")
    if all(port.guest != SSH for port in ports):
        ports.insert(0, Port(SSH))
    return tuple(ports)


def _port(data: Any, name: str) -> Port:
    fields = data
    if isinstance(data, dict):
        fields = _mapping(data, f"{name}: publish", {"guest"}, {"host"})
    else:
        fields = {"guest": data}
    for value in fields.values():
        if type(value) is not int or not 1 <= value <= 65535:
            raise SpecError(f"{name}: publish has the port {value!r}; give a whole number from 1 to 65535.")
    return Port(**fields)


def _aliases(data: Any, name: str) -> tuple[str, ...]:
    if not isinstance(data, list):
        raise SpecError(f"{name}: aliases must be a list of names.")
    for alias in data:
        if not isinstance(alias, str) or not _DOMAIN_NAME.fullmatch(alias) or alias == "localhost":
            raise SpecError(f"{name}: the alias {alias!r} is not a domain name; give one like hub.example.org.")
    return tuple(data)


def _packages(data: Any, name: str) -> tuple[str, ...]:
    # A file of the project serves several specs that share an image.
    if isinstance(data, str) and (_PROJECT / data).is_file():
        data = (_PROJECT / data).read_text().split()
    if not isinstance(data, list):
        raise SpecError(f"{name}: packages must be a list of names, or the path of a file of them in the project.")
    for package in data:
        if not isinstance(package, str) or not _PACKAGE.fullmatch(package):
            raise SpecError(f"{name}: {package!r} is no name of a Debian package; give one like slapd.")
    return tuple(sorted(data))


def _mapping(data: Any, where: str, required: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise SpecError(f"{where} must be an object with the keys: {', '.join(sorted(required | optional))}.")
    if unknown := sorted(data.keys() - required - optional):
        raise SpecError(
            f"{where} has the unknown key {unknown[0]!r}; known are: {', '.join(sorted(required | optional))}."
        )
    if missing := sorted(required - data.keys()):
        raise SpecError(f"{where} lacks the key {missing[0]!r}; add it.")
    return data


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise SpecError(f"{where} is {value!r}; give a name.")
    return value


def _refuse_duplicates(values: list[str], what: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise SpecError(f"The {what} {value!r} is given twice; give each once.")
