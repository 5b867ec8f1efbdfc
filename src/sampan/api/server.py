"""The server process: `python -m sampan.api.server --root ROOT --listen-fd N [--keeper-fd M] [--host-fd H]`.

The keeper starts it behind a socket that listens already. One thread per connection; the engine does the work.

An upgrade replaces the files underneath a running server, so every module that any call could want is imported at the
start, and none that only the keeper's other children want. What only a registry is spoken to with is a third of that,
so it follows a moment later, out of the first call's way.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import msgspec

import sampan
from sampan import dirs
from sampan.api import routes, versions
from sampan.api.call import Call, Serving
from sampan.api.hangups import Hangups
from sampan.api.http import ApiChannel
from sampan.engine.engine import Engine
from sampan.errors import Failed, InvalidInput, SampanError, from_os_error
from sampan.http11.acceptor import STACK, Acceptor
from sampan.http11.channel import ClientGone
from sampan.kernel.process import share_one_heap, trim_memory
from sampan.spec.docker import ErrorResponse
from sampan.supervise.stderr import use_log

if TYPE_CHECKING:
    from sampan.http11.channel import Request

MOST_CONNECTIONS = 4096
"""Each costs a thread."""

_BROKEN_FOR_S = 3
_FINISH_S = 3
_OUT_OF_THE_WAY_S = 0.5


class Server:
    """Accepts connections until the engine says that nobody needs it.

    `engine` may be the error that kept it from opening: then every call is answered with it.
    """

    def __init__(self, engine: Engine | SampanError, listener: socket.socket) -> None:
        self.engine = engine
        self._hangups = Hangups()
        self._identity = f"Server: Sampan/{sampan.__version__} ({os.uname().sysname.lower()})\r\n"
        self._acceptor = Acceptor(listener, self._channel, self._serve, most=MOST_CONNECTIONS)

    def run(self, for_s: float | None = None) -> None:
        """Accept until `leave`, or for so long. What waits in the socket's queue then is for the next server."""
        self._acceptor.run(for_s)

    def leave_at_signals(self) -> None:
        """Leave at SIGTERM and SIGINT. For the main thread."""
        self._acceptor.leave_at_signals()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.leave())

    def leave(self) -> None:
        """Stop accepting; may be called from any thread and from a signal's handler."""
        self._acceptor.leave()

    def finish(self) -> None:
        """Give the calls that have not answered yet a moment to do so."""
        self._acceptor.finish(_FINISH_S)

    # ---------------------------------------------------------------------------------------- one connection

    def _channel(self, client: socket.socket) -> ApiChannel:
        return ApiChannel(client, self._identity)

    def _serve(self, channel: ApiChannel) -> None:
        counted = False
        try:
            while (request := self._next(channel)) is not None:
                if not counted and isinstance(self.engine, Engine):
                    self.engine.connection_opened(request.headers.get("user-agent", ""))
                    counted = True
                self._answer(channel, request)
        finally:
            if counted and isinstance(self.engine, Engine):
                self.engine.connection_closed()

    def _next(self, channel: ApiChannel) -> Request | None:
        try:
            return channel.next()
        except InvalidInput as e:
            _refuse(channel, e)
            return None

    def _answer(self, channel: ApiChannel, request: Request) -> None:
        """Find the handler of a request and let it answer; whatever it raises becomes an answer too."""
        channel.for_version(versions.say(versions.GREATEST))
        try:
            if isinstance(self.engine, SampanError):
                raise self.engine
            if _is_newer(request.headers.get("user-agent", "")) and "sampan-again" not in request.headers:
                self._make_room(channel)
                return
            version_text, path = routes.split_version(request.path)
            version = versions.negotiate(version_text)
            handler, variables = routes.find(request.method, path)
            serving = Serving(self.engine, self._hangups)
            handler(Call(channel, request, server=serving, version=version, path=variables))
        except ClientGone:
            raise
        except SampanError as e:
            _refuse(channel, e)
        except OSError as e:
            _refuse(channel, from_os_error(e))
        except Exception as e:
            traceback.print_exc()
            _refuse(channel, Failed(f"internal error: {type(e).__name__}: {e}", "the server's log has more"))

    def _make_room(self, channel: ApiChannel) -> None:
        """A newer client calls: let the keeper execute the newer server, and the client ask that one.

        It asks again at once, so nothing is accepted any more before it is told to.
        """
        assert isinstance(self.engine, Engine)
        self.leave()
        self.engine.restart_server()
        channel.reply(503, b"", headers={"Sampan-Restarting": "1", "Connection": "close"})


def _refuse(channel: ApiChannel, error: SampanError) -> None:
    """Answer an error. In the middle of an answer only breaking the connection can say that it failed."""
    if channel.answered:
        raise ClientGone
    body = ErrorResponse(message=error.message, hint=error.hint, kind=type(error).__name__)
    channel.reply(error.http_status, msgspec.json.encode(body) + b"\n")


def _is_newer(user_agent: str) -> bool:
    """Tell whether a client of ours is newer than this server."""
    name, _, version = user_agent.partition(" ")[0].partition("/")
    return name == "sampan" and version != sampan.__version__ and _numbers(version) > _numbers(sampan.__version__)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() and len(part) < 9 else 0 for part in version.split(".")[:4])


# -------------------------------------------------------------------------------------------- the process


_PACKAGES = ("engine", "image", "rootfs", "runtime", "spec", "supervise.messages", "api", "kernel")
_OF_OTHERS = {
    *(f"sampan.image.{name}" for name in ("compose", "map", "map_report", "pack", "settle", "small_files")),
    "sampan.rootfs.diff",
}
"""What only the keeper's children do, as is all of `supervise` but its messages: a test says whether that is so."""
_ALONE = (
    "sampan.supervise.tls",
    "encodings.idna", "stringprep", "zlib", "lzma", "bz2", "tarfile", "calendar", "getpass", "_strptime",
)  # fmt: skip


def import_everything(after_s: float = 0) -> None:
    """Import every module that a later call could want."""
    import importlib
    import pkgutil

    time.sleep(after_s)

    for name in _PACKAGES:
        package = importlib.import_module(f"sampan.{name}")
        for module in pkgutil.walk_packages(package.__path__, f"sampan.{name}."):
            if module.name not in _OF_OTHERS:
                importlib.import_module(module.name)
    for name in _ALONE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is here now stays: the collector needs not look at it again
    trim_memory()


def main(arguments: list[str]) -> int:
    """Serve; return the process's exit status."""
    given = dict(zip(arguments[::2], arguments[1::2], strict=False))
    if "--root" not in given or "--listen-fd" not in given:
        print(
            "usage: python -m sampan.api.server --root ROOT --listen-fd N [--keeper-fd M] [--host-fd H]",
            file=sys.stderr,
        )
        return 125
    use_log()
    listener = socket.socket(fileno=int(given["--listen-fd"]))
    keeper, host = (int(given[name]) if name in given else None for name in ("--keeper-fd", "--host-fd"))
    if host is not None:
        os.set_inheritable(host, False)
    share_one_heap()
    threading.stack_size(STACK)
    try:
        engine = Engine.open(dirs.find(given["--root"]), keeper, listener.fileno(), host)
    except (SampanError, OSError) as e:
        return _serve_error(e if isinstance(e, SampanError) else from_os_error(e), listener)
    server = Server(engine, listener)
    server.leave_at_signals()
    engine.on_idle(server.leave)
    threading.Thread(target=import_everything, args=(_OUT_OF_THE_WAY_S,), name="imports", daemon=True).start()
    server.run()
    server.finish()
    engine.close()
    return 0


def _serve_error(error: SampanError, listener: socket.socket) -> int:
    """Tell every client why there is no engine, for a while: then the keeper tries again."""
    print(f"sampan: {error.message}", file=sys.stderr)
    error.message = f"can't start the engine: {error.message}"
    Server(error, listener).run(_BROKEN_FOR_S)
    return 1


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # threads that still wait for a client or a container end with the process
