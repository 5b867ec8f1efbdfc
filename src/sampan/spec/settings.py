"""What a user may set, in TOML. Pure: text in, structs out; errors name the file and the key.

    [store]
    keep-blobs = true

    [build]
    min-free-percent = 20

    [limits]
    max-layer-bytes = "512g"

    [devices]
    cdi-spec-dirs = ["/etc/cdi"]

    [registries]
    default = "docker.io"

    [registries."docker.io"]
    mirrors = ["mirror.example:5000"]

docs/reference/configuration.md has all of it.
"""

from __future__ import annotations

import difflib
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec

from sampan.errors import InvalidInput
from sampan.spec.decoding import convert
from sampan.spec.image import LayerLimits
from sampan.spec.reference import DEFAULT_REGISTRY, is_name, is_registry
from sampan.units import parse_bytes, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

S = TypeVar("S", bound=msgspec.Struct)

DOCKER_HUB = "registry-1.docker.io"
_HUB_NAMES = (DEFAULT_REGISTRY, "index.docker.io", DOCKER_HUB)
CERTIFICATES = ("/etc/sampan/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d")

_Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]


class Store(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What the store keeps."""

    keep_blobs: bool = False  # layers also as they were transferred


class Build(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """How much of the disk that it is on may be taken by what builds keep; after each build what is too much goes."""

    reserved_percent: _Percent = 10  # stays, however full the disk is
    max_used_percent: _Percent = 75
    min_free_percent: _Percent = 20


class Devices(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """How devices are found that are asked for by name."""

    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")  # of CDI files; the last one's devices count


class Registry(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What is special about one registry, or about a part of it."""

    mirrors: tuple[str, ...] = ()  # [http[s]://]host[:port][/prefix], tried in this order before itself
    location: str = ""  # host[:port][/prefix] that is meant instead
    insecure: bool = False  # https without verification, or plain http
    blocked: bool = False


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a repository is, or may be found as well."""

    host: str
    repository: str
    insecure: bool = False
    scheme: str = ""  # the one that a mirror's address begins with


class Registries(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """How registries are reached."""

    default: str = DEFAULT_REGISTRY  # where names without a registry are
    tries: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5  # of one request, the first included
    wait_s: _Seconds = msgspec.field(name="wait", default=0.5)  # before the second try; then twice as long each time
    timeout_s: _Seconds = msgspec.field(name="timeout", default=60.0)  # of silence on a connection
    known: dict[str, Registry] = {}  # by host[:port], or by the beginning of a name: host/namespace
    certificates: tuple[str, ...] = CERTIFICATES  # directories of HOST[:PORT]/*.crt, *.cert, *.key

    def places(self, registry: str, repository: str) -> tuple[Place, ...]:
        """Return where to look for a repository: its mirrors, and last the registry itself. Raises InvalidInput."""
        name = f"{registry}/{repository}"
        prefix, found = self._of(name)
        if found.blocked:
            raise InvalidInput(f"can't use {name}: registry {prefix} is blocked in the configuration")
        rest = name.removeprefix(prefix)
        own = self._place(found.location + rest if found.location else name)
        if found.insecure:
            own = msgspec.structs.replace(own, insecure=True)
        return (*(self._place(mirror + rest) for mirror in found.mirrors), own)

    def place(self, registry: str) -> Place:
        """Return where a registry is: what is said to it is about no repository. Raises InvalidInput."""
        _, found = self._of(registry)
        if found.blocked:
            raise InvalidInput(f"can't use {registry}: it is blocked in the configuration")
        host = (found.location or registry).partition("/")[0]
        return Place(
            host=DOCKER_HUB if host in _HUB_NAMES else host,
            repository="",
            insecure=found.insecure or self.is_insecure(host),
        )

    def is_insecure(self, host: str) -> bool:
        """Tell whether a host may speak without TLS, or show a certificate that nobody knows."""
        found = self.known.get(_usual(host))
        return found is not None and found.insecure

    def _of(self, name: str) -> tuple[str, Registry]:
        """Return the table with the longest beginning of a name."""
        prefix = name
        while prefix not in self.known and "/" in prefix:
            prefix = prefix.rpartition("/")[0]
        return prefix, self.known.get(prefix, Registry())

    def _place(self, address: str) -> Place:
        scheme, _, rest = address.rpartition("://")
        host, _, repository = rest.partition("/")
        if not repository:
            raise InvalidInput(f"can't use {address} in place of a repository: it names a registry only")
        insecure = scheme == "http" or self._of(rest)[1].insecure
        return Place(
            host=DOCKER_HUB if host in _HUB_NAMES else host,
            repository=repository,
            insecure=insecure,
            scheme=scheme,
        )


class Userns(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Who the users of containers are on the host."""

    default: Literal["host", "remap", "auto"] = "host"  # where --userns says nothing
    ids_of: str = "sampan"  # whose entries of /etc/subuid and /etc/subgid they are


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    store: Store = Store()
    build: Build = Build()
    limits: LayerLimits = LayerLimits()
    devices: Devices = Devices()
    registries: Registries = Registries()
    userns: Userns = Userns()


DEFAULT_REGISTRIES = Registries()

_NO_KEYS = frozenset(("known", "certificates"))


def parse(documents: Iterable[tuple[str, str]], certificates: tuple[str, ...] = CERTIFICATES) -> Settings:
    """Read files, given as name and text; a key's value in the last file that has it counts.

    Raises InvalidInput that names the file and the key.
    """
    settings, known = Settings(), dict[str, Registry]()
    for name, text in documents:
        try:
            document = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as e:
            raise InvalidInput(f"can't read {name}: {str(e)[:200]}") from e
        file = _File(name)
        tables = file.keys(document, "", ("store", "build", "limits", "devices", "registries", "userns"))
        given = file.table(tables.get("registries", {}), "registries")
        hosts = {key: value for key, value in given.items() if isinstance(value, dict) and is_name(key)}
        for key, table in hosts.items():
            host = _usual(key)
            known[host] = file.merge(known.get(host, Registry()), table, f'registries."{key}"')
        plain = {key: value for key, value in given.items() if key not in hosts}
        settings = Settings(
            store=file.merge(settings.store, tables.get("store", {}), "store"),
            build=file.merge(settings.build, tables.get("build", {}), "build"),
            limits=file.merge(settings.limits, tables.get("limits", {}), "limits"),
            devices=file.merge(settings.devices, tables.get("devices", {}), "devices"),
            registries=file.merge(settings.registries, plain, "registries"),
            userns=file.merge(settings.userns, tables.get("userns", {}), "userns"),
        )
    registries = msgspec.structs.replace(settings.registries, known=known, certificates=certificates)
    return msgspec.structs.replace(settings, registries=registries)


def _usual(name: str) -> str:
    """Return the name under which Docker Hub is known."""
    host, slash, rest = name.partition("/")
    return f"{DEFAULT_REGISTRY}{slash}{rest}" if host in _HUB_NAMES else name


class _File:
    """Says where in which file something is wrong."""

    def __init__(self, name: str) -> None:
        self._name = name

    def merge(self, old: S, table: object, at: str) -> S:
        """Return a struct with the values of a table."""
        fields = {f.encode_name: f for f in msgspec.structs.fields(old) if f.name not in _NO_KEYS}
        new = {}
        for key, value in self.keys(table, at, fields).items():
            name, where = fields[key].name, f"{at}.{key}"
            try:
                new[name] = convert(_number(name, value), fields[key].type)
            except (msgspec.ValidationError, InvalidInput) as e:
                raise self._wrong(where, str(e)) from e
            if fault := _fault_of_names(name, new[name]):
                raise self._wrong(where, fault)
        return msgspec.structs.replace(old, **new)

    def keys(self, table: object, at: str, allowed: Iterable[str]) -> dict[str, Any]:
        """Return a table, all of whose keys are allowed."""
        found = self.table(table, at)
        for key in found:
            if key not in allowed:
                near = difflib.get_close_matches(key, allowed, 1)
                hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(allowed)}"
                raise self._wrong(f"{at}.{key}".lstrip("."), "there is no such key", hint)
        return found

    def table(self, value: object, at: str) -> dict[str, Any]:
        """Return a table."""
        if not isinstance(value, dict):
            raise self._wrong(at, "this is a table", f"write [{at}] on a line of its own, and its keys below")
        return value

    def _wrong(self, at: str, cause: str, hint: str = "") -> InvalidInput:
        return InvalidInput(f"can't use {self._name}: {at}: {cause}", hint)


def _number(name: str, value: object) -> object:
    """Read sizes and durations that are text."""
    if isinstance(value, str) and name.endswith("_bytes"):
        return parse_bytes(value)
    if isinstance(value, str) and name.endswith("_s"):
        return parse_duration(value) / 10**9
    return value


def _fault_of_names(name: str, value: Any) -> str:
    """Say what of a value is no registry; "" where all is well."""
    addresses = value if name == "mirrors" else (value,) if name == "location" and value else ()
    for address in addresses:
        bare = address.removeprefix("https://").removeprefix("http://") if name == "mirrors" else address
        if not is_name(bare):
            return f"{address[:200]!r} does not read host[:port][/prefix]"
    if name == "default" and not is_registry(value):
        return f"{value[:200]!r} is no registry: it reads host[:port]"
    return ""
