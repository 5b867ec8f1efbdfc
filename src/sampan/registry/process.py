"""The registry as a process: its options, the socket, signals. `python -m sampan.registry serve|gc`, from cli.

It is executed in place of the command line, which never imports a server.
"""

from __future__ import annotations

import gc as collector
import os
import signal
import socket
import sys
import threading

import msgspec

from sampan.errors import InvalidInput, SampanError, doing, from_os_error
from sampan.http11.acceptor import STACK, Acceptor
from sampan.http11.channel import Channel
from sampan.registry import server
from sampan.registry.access import Open
from sampan.registry.call import Policy
from sampan.registry.log import Log
from sampan.registry.store import open_store

_DAY_S = 86400
_QUEUE = 512


class Serve(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `registry serve`, as the command line hands them on."""

    directory: str
    listen: str = "127.0.0.1:5000"
    read_only: bool = False
    no_delete: bool = False
    sparse_indexes: bool = False
    quiet: bool = False
    connections: int = 256


def main(arguments: list[str]) -> int:
    """Do what `serve OPTIONS` (JSON) asks; return the exit status."""
    try:
        match arguments:
            case ["serve", text]:
                return serve(msgspec.json.decode(text, type=Serve))
            case _:
                raise InvalidInput("can't start a registry so: call sampan registry serve")
    except KeyboardInterrupt:
        return 130
    except (msgspec.DecodeError, UnicodeError) as e:
        return _complain(InvalidInput(f"can't read the options: {e}"))
    except OSError as e:
        return _complain(from_os_error(e))
    except SampanError as e:
        return _complain(e)


def _complain(error: SampanError) -> int:
    hint = f"\n  hint: {error.hint}" if error.hint else ""
    print(f"sampan: {error.message}{hint}", file=sys.stderr)
    return error.exit_status


def serve(options: Serve) -> int:
    """Serve until a signal says to end; then requests that have begun are finished."""
    log = Log(quiet=options.quiet)
    store = open_store(options.directory, create=not options.read_only)
    if not options.read_only:
        store.claim()
        store.uploads.remove_stale(_DAY_S)
    policy = Policy(options.read_only, options.no_delete, options.sparse_indexes)
    registry = server.Registry(store, policy, Open(), log)
    with doing(f"can't listen on {options.listen}", "another program may have the port: --listen HOST:PORT"):
        listener = listen(options.listen)
    threading.stack_size(STACK)
    acceptor = Acceptor(listener, _channel, registry.serve, most=options.connections)
    signals = _Signals(acceptor)
    collector.collect()
    collector.freeze()
    print(f"serving {store.root} at http://{address(listener)}", flush=True)
    acceptor.run()
    return signals.finish(log)


def _channel(client: socket.socket) -> Channel:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Channel(client, server.PREAMBLE, server.PATIENCE)


class _Signals:
    """SIGTERM and SIGINT end the registry in good order; a second one ends it at once, which harms nothing either."""

    def __init__(self, acceptor: Acceptor[Channel]) -> None:
        self._acceptor = acceptor
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._first)

    def _first(self, number: int, frame: object) -> None:  # noqa: ARG002
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda number, _: os._exit(128 + number))
        self._acceptor.leave()

    def finish(self, log: Log) -> int:
        if waiting := self._acceptor.owing():
            log.request(f"finishing {waiting} request(s); a second signal ends them")
        while not self._acceptor.finish(3600):
            pass
        return 0


def listen(text: str) -> socket.socket:
    """Open the socket of `HOST:PORT`, `[IPV6]:PORT` or `:PORT`. Raises InvalidInput, OSError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise InvalidInput("it reads HOST:PORT, like 127.0.0.1:5000", "port 0 takes any that is free")
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as e:
        raise InvalidInput(f"{host} is no address of this machine: {e.strerror}") from e
    # Where no host is named, one socket takes both IPv6 and IPv4.
    family, _, _, _, where = next((one for one in found if not host and one[0] == socket.AF_INET6), found[0])
    dual = not host and family == socket.AF_INET6
    return socket.create_server(where[:2], family=family, backlog=_QUEUE, dualstack_ipv6=dual)


def address(listener: socket.socket) -> str:
    """Return HOST:PORT of a listening socket."""
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
