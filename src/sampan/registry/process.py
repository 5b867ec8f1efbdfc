"""The registry as a process: its options, the socket, signals. `python -m sampan.registry serve|gc`, from cli.

It is executed in place of the command line, which never imports a server.
"""

from __future__ import annotations

import gc as collector
import os
import resource
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Failed, InvalidInput, SampanError, doing, from_os_error
from sampan.http11.acceptor import STACK, Acceptor
from sampan.http11.channel import Channel
from sampan.registry import durable, server
from sampan.registry.access import Known, KnownOrPulling, Open
from sampan.registry.call import Policy
from sampan.registry.collect import STALE_S, Settings, collect
from sampan.registry.htpasswd import Htpasswd
from sampan.registry.log import Log
from sampan.registry.store import open_store
from sampan.spec.decoding import decode_json
from sampan.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.registry.access import Access
    from sampan.registry.store import Store

_HOUR_S = 3600
_QUEUE = 512


class Serve(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `registry serve`, as the command line hands them on."""

    directory: str
    name: str = ""
    listen: str = "127.0.0.1:5000"
    read_only: bool = False
    no_delete: bool = False
    sparse_indexes: bool = False
    quiet: bool = False
    connections: int = 256
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""
    htpasswd: str = ""
    anonymous_pull: bool = False


class Gc(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `registry gc`."""

    directory: str
    older_s: float = 3600
    untagged: bool = False
    dry_run: bool = False
    quiet: bool = False


def main(arguments: list[str]) -> int:
    """Do what `serve OPTIONS` or `gc OPTIONS` (JSON) asks; return the exit status."""
    try:
        match arguments:
            case ["serve", text]:
                return serve(decode_json(text, Serve))
            case ["gc", text]:
                return collect_garbage(decode_json(text, Gc))
            case _:
                raise InvalidInput("can't start a registry so: call sampan registry")
    except KeyboardInterrupt:
        return 130
    except (msgspec.DecodeError, UnicodeError) as e:
        return _complain(InvalidInput(f"can't read the options: {e}"))
    except OSError as e:
        return _complain(from_os_error(e))
    except SampanError as e:
        return _complain(e)
    except Exception as e:
        return _complain(Failed(f"this should not have happened: {type(e).__name__}: {e}"))


def _complain(error: SampanError) -> int:
    hint = f"\n  hint: {error.hint}" if error.hint else ""
    print(f"sampan: {error.message}{hint}", file=sys.stderr)
    return error.exit_status


def serve(options: Serve) -> int:
    """Serve until a signal says to end; then requests that have begun are finished."""
    if options.connections < 1:
        raise InvalidInput("can't serve so: --max-connections must be 1 or more")
    _raise_limit(options.connections)
    log = Log(quiet=options.quiet)
    policy = Policy(options.read_only, options.no_delete, options.sparse_indexes)
    make_channel, access = _channels(options, log), _access(options, log)
    with doing(f"can't listen on {options.listen}", "another program may have the port: --listen HOST:PORT"):
        listener = listen(options.listen)
    store = open_store(options.directory, name=options.name, create=not options.read_only)
    if not options.read_only:
        store.claim()
        threading.Thread(target=_give_up_stale, args=(store, log), name="stale", daemon=True).start()
    registry = server.Registry(store, policy, access, log)
    threading.stack_size(STACK)
    acceptor = Acceptor(listener, make_channel, registry.serve, most=options.connections)
    signals = _Signals(acceptor)
    collector.collect()
    collector.freeze()
    print(f"serving {store.root} at {_scheme(options)}://{address(listener)}", flush=True)
    acceptor.run()
    listener.close()
    return signals.finish(log)


def _raise_limit(connections: int) -> None:
    """Let the process open what so many connections need: a socket, a file and a lock each. Raises InvalidInput."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 3 * connections + 50
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise InvalidInput(
            f"can't serve {connections} connections: they need {needed} open files, and the limit is {hard}",
            "raise it (ulimit -Hn), or take fewer: --max-connections",
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _give_up_stale(store: Store, log: Log) -> None:
    """Remove the uploads that nobody goes on with, now and every hour."""
    while True:
        try:
            store.uploads.remove_stale(STALE_S)
        except OSError as e:
            log.problem(f"can't remove stale uploads: {e}")
        time.sleep(_HOUR_S)


def collect_garbage(options: Gc) -> int:
    """Remove what nothing leads to, and say what."""
    store = open_store(options.directory, create=False)
    settings = Settings(options.older_s, options.untagged, options.dry_run)
    store.check()
    with doing(f"can't collect garbage in {store.root}"):
        durable.make_directory(f"{store.private}/tmp")
        found = collect(store, settings, (lambda _: None) if options.quiet else print)
    did = "would remove" if options.dry_run else "removed"
    print(
        f"{did} {found.blobs} blobs ({format_bytes(found.size)}), {found.links} links, {found.manifests} manifests, "
        f"{found.uploads} uploads"
    )
    return 0


def _scheme(options: Serve) -> str:
    return "https" if options.tls_cert else "http"


def _access(options: Serve, log: Log) -> Access:
    if not options.htpasswd:
        if options.anonymous_pull:
            raise InvalidInput("--anonymous-pull means something only beside --htpasswd", "without it, all may do all")
        return Open()
    users = Htpasswd(options.htpasswd, log)
    return KnownOrPulling(users, tls=bool(options.tls_cert)) if options.anonymous_pull else Known(users)


def _channels(options: Serve, log: Log) -> Callable[[socket.socket], Channel]:
    """Return what makes a channel of a connection."""
    if bool(options.tls_cert) != bool(options.tls_key):
        raise InvalidInput("--tls-cert and --tls-key belong together")
    if not options.tls_cert:
        if options.client_ca:
            raise InvalidInput("--client-ca means something only beside --tls-cert and --tls-key")
        return _plain_channel
    from sampan.registry.tls import Certificates, TlsChannel

    certificates = Certificates(options.tls_cert, options.tls_key, options.client_ca, log)

    def make(client: socket.socket) -> Channel:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return TlsChannel(client, server.PREAMBLE, server.PATIENCE, context=certificates.context(), log=log)

    return make


def _plain_channel(client: socket.socket) -> Channel:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Channel(client, server.PREAMBLE, server.PATIENCE)


class _Signals:
    """SIGTERM and SIGINT end the registry in good order; a second one ends it at once, which harms nothing either."""

    def __init__(self, acceptor: Acceptor[Channel]) -> None:
        self._acceptor = acceptor
        acceptor.leave_at_signals()
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
    # Where no host is named, one socket takes both IPv6 and IPv4; a kernel may be without IPv6.
    dual = not host and socket.has_dualstack_ipv6()
    wanted = (socket.AF_INET6 if dual else socket.AF_INET) if not host else found[0][0]
    family, _, _, _, where = next(one for one in found if one[0] == wanted)
    return socket.create_server(where[:2], family=family, backlog=_QUEUE, dualstack_ipv6=dual)


def address(listener: socket.socket) -> str:
    """Return HOST:PORT of a listening socket."""
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
