"""`-p`, `-P` and `--expose` in the API's body; imported only when one of them is given.

As go-connections' nat.ParsePortSpecs and docker/cli's opts.go read them, in their words.
"""

from __future__ import annotations

from sampan.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sampan.cli.flags import Options

    Json = dict[str, Any]

_MAX = 65535
_PROTOCOLS = ("tcp", "udp", "sctp")


def fill(options: Options, body: Json, host: Json) -> None:
    """Put the published and the exposed ports into the body."""
    exposed: Json = {}
    bindings = bindings_of(options["publish"])
    exposed.update({port: {} for port in bindings})
    for text in options["expose"]:
        exposed.update({port: {} for port in _exposed(text)})
    if exposed:
        body["ExposedPorts"] = exposed
    if bindings:
        host["PortBindings"] = bindings
    if options["publish-all"]:
        host["PublishAllPorts"] = True


def bindings_of(specs: list[str]) -> dict[str, list[dict[str, str]]]:
    """Read all values of -p. Raises Failure with Docker's words."""
    found: dict[str, list[dict[str, str]]] = {}
    for spec in [_long(spec) if "=" in spec else spec for spec in specs]:
        for port, binding in _spec(spec):
            found.setdefault(port, []).append(binding)
    return found


def removal_of(text: str) -> Json:
    """Read a value of --publish-rm: `[ADDRESS:]HOST PORTS[/PROTOCOL]`."""
    rest, _, protocol = text.partition("/")
    address, _, host = rest.rpartition(":")
    form = "name the host's port: 8080, 8000-8010, 53/udp or 127.0.0.1:8080"
    try:
        _numbers(host)
    except ValueError:
        raise _refused(f"invalid port: {text}", form) from None
    if address.isdigit():
        raise _refused(f"invalid port: {text}", form)
    if protocol and protocol.lower() not in _PROTOCOLS:
        raise _refused(f"invalid proto: {protocol}")
    return {"HostIp": _address(address), "HostPort": host, "Type": protocol.lower() or "tcp"}


def _refused(message: str, hint: str = "") -> Failure:
    return Failure(f"sampan: {message}", hint, 125)


def _long(spec: str) -> str:
    """Turn `published=8080,target=80` into `8080:80/tcp`."""
    parameters = {"protocol": "tcp"}
    for field in spec.split(","):
        name, equals, value = field.partition("=")
        if not equals or not name:
            raise _refused(f"invalid publish opts format (should be name=value but got '{field}')")
        parameters[name] = value
    return f"{parameters.get('published', '')}:{parameters.get('target', '')}/{parameters['protocol']}"


def _spec(spec: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Read `[ADDRESS:][HOST PORTS:]CONTAINER PORTS[/PROTOCOL]`: each container port with where it is published."""
    rest, _, container = spec.rpartition(":")
    address, _, host = rest.rpartition(":")
    address = _address(address)
    container, *after = container.split("/")
    protocol = after[0].lower() if after else ""
    if not container:
        raise _refused(f"no port specified: {spec}<empty>")
    first, last = _range(container, f"invalid containerPort: {container}")
    host_first, host_last = _range(host, f"invalid hostPort: {host}") if host else (0, 0)
    if host and last - first != host_last - host_first and first != last:
        raise _refused(f"invalid ranges specified for container and host Ports: {container} and {host}")
    protocol = protocol or "tcp"
    if protocol not in _PROTOCOLS:
        raise _refused(f"invalid proto: {protocol}")
    for number in range(first, last + 1):
        at = str(host_first + number - first) if host else ""
        if host and first == last and host_first != host_last:  # whichever of them is free
            at = f"{host_first}-{host_last}"
        yield f"{number}/{protocol}", {"HostIp": address, "HostPort": at}


def _address(text: str) -> str:
    if text.startswith("["):
        if not text.endswith("]"):
            cause = "missing port in address" if "]" in text else "missing ']' in address"
            raise _refused(f"invalid IP address {text}: address {text}:: {cause}")
        text = text[1:-1]
    if text and not _is_address(text):
        raise _refused(f"invalid IP address: {text}")
    return text


def _is_address(text: str) -> bool:
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def _range(text: str, refusal: str) -> tuple[int, int]:
    try:
        return _numbers(text)
    except ValueError:
        raise _refused(refusal) from None


def _exposed(text: str) -> Iterator[str]:
    if ":" in text:
        raise _refused(f"invalid port format for --expose: {text}")
    numbers, _, protocol = text.partition("/")
    try:
        first, last = _numbers(numbers)
    except ValueError as e:
        raise _refused(f"invalid range format for --expose: {text}, error: {e}") from None
    return (f"{port}/{(protocol or 'tcp').lower()}" for port in range(first, last + 1))


def _numbers(text: str) -> tuple[int, int]:
    if not text:
        raise ValueError("empty string specified for ports")
    first, dash, last = text.partition("-")
    found = [_number(number) for number in (first, last if dash else first)]
    if found[1] < found[0]:
        raise ValueError(f"invalid range specified for port: {text}")
    return found[0], found[1]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > _MAX:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)
