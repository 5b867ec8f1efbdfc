"""What a process does once before it is forked many times, so that each fork has fewer pages of its own.

A fork shares a page until it writes to it. Running a function for the first time writes a good deal that stays the
same from then on (the interpreter specialises its code, fills caches of types and attributes), and a new object goes
into any half-empty page of the allocator. So the nursery plays a shim's birth and life before it forks shims, and fills
the holes: what a shim makes then comes to lie side by side. Measured on Python 3.11 with 50 shims, MiB for each: 1.41
become 1.16, and after much output 1.62 become 1.36, by the birth and the filling alone.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
from typing import TYPE_CHECKING

from sampan.kernel.process import trim_memory
from sampan.supervise import logs, messages as m, shim, state as facts
from sampan.supervise.handover import BEGIN, Handover, give

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.supervise.loop import Loop

_TIMES = 10  # 3.11 specialises a function that has run eight times
_EMPTY_BYTES = sys.getsizeof(b"")
_MALLOCS_BYTES = 1040  # objects of more than 512 bytes are malloc's
_LARGE_BYTES = 100_000
_MOST_HOLES = 20_000
_LINES = 100
_NEIGHBOURS = 24  # objects that lie one behind the other: they fill no holes

_filling: list[object] = []


def rehearse(birth: Callable[[], None]) -> None:
    """Play a shim's birth and life, and leave nothing open of it but what the caller closes anyway."""

    def play() -> None:
        birth()
        _play()

    for _ in range(_TIMES):
        play()
    gc.collect()
    trim_memory()  # makes of small pieces of malloc's large ones
    _fill_holes()


def _fill_holes() -> None:
    """Use up what the allocators have left between what there is."""
    for size in range(48, _MALLOCS_BYTES, 16):
        _fill(bytes, size - _EMPTY_BYTES)
    _fill(object)
    _fill(float, 1)
    bytes(_LARGE_BYTES)  # for this malloc sorts what is free, which it would do in each fork else


def _fill(make: Callable[..., object], *arguments: int) -> None:
    """Make objects of one size until they come to lie one behind the other."""
    before, neighbours = 0, 0
    for _ in range(_MOST_HOLES):
        new = make(*arguments)
        _filling.append(new)
        neighbours = neighbours + 1 if 0 < id(new) - before <= sys.getsizeof(new) + 32 else 0
        if neighbours == _NEIGHBOURS:
            break
        before = id(new)


def _play() -> None:
    """Hand over a container that isn't one, let it say a few lines, and stop."""
    with contextlib.ExitStack() as closing:

        def open_fd(fd: int) -> int:
            closing.callback(os.close, fd)
            return fd

        def pair() -> tuple[socket.socket, socket.socket]:
            ours, theirs = socket.socketpair()
            return closing.enter_context(ours), closing.enter_context(theirs)

        def bound(type: int) -> socket.socket:
            sock = closing.enter_context(socket.socket(socket.AF_INET, type))
            sock.bind(("127.0.0.1", 0))
            return sock

        output, end = os.pipe()
        udp, tcp = bound(socket.SOCK_DGRAM), bound(socket.SOCK_STREAM)
        tcp.listen()
        listening, _ = pair()
        server, first = pair()
        keeper, _ = pair()
        pidfd = open_fd(os.pidfd_open(os.getpid()))
        published, _ = pair()
        beside = [open_fd(os.open("/", os.O_PATH)), listening.fileno(), first.fileno(), pidfd, open_fd(output)]
        beside.append(published.fileno())
        beside += [os.dup(udp.fileno()), os.dup(tcp.fileno())]
        file = open_fd(os.memfd_create("names"))
        os.write(file, b"sampan names 1 net\nweb 192.0.2.1 192.0.2.2\n")
        given = _HANDOVER._replace(names=((f"/proc/self/fd/{file}",), (), (), False, False))

        def launch(shim_: socket.socket) -> None:
            with contextlib.suppress(BrokenPipeError):  # the keeper may end a nursery that rehearses still
                give(shim_, given, beside)
                shim_.send(BEGIN)
            os._exit(0)

        loop = shim.begin(keeper, launch, 0.0)
        assert loop
        m.send(server, m.Hello(), 1)
        m.send(server, m.Attach(streams=frozenset({"stdout"})), 2, [pair()[0].fileno()])
        os.write(end, b"a line of output\n" * 200)
        os.close(end)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, contextlib.suppress(OSError):  # lo may be down
            client.sendto(_QUERY, udp.getsockname())
            client.sendto(_QUERY, udp.getsockname())
        _log_to_receivers(loop, closing.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)))
        loop.call_later(0.002, loop.stop)
        loop.run()
        loop.close()


def _log_to_receivers(loop: Loop, receiver: socket.socket) -> None:
    """Log as drivers do that send messages and keep a file for `logs`."""
    receiver.bind("")  # an address of the kernel's choice
    addresses = ((os.fsdecode(receiver.getsockname()), 0),)
    for fields, syslog in ((b"", None), (None, ("", 3, "", "", False)), (None, ("rfc5424micro", 3, "", "", False))):
        sent_to = ("unixgram", addresses, None, fields, syslog, None)
        log = logs.opened(loop, ("/dev/null", 0, 1, "local", True, b"", sent_to))
        assert log
        log.write("stdout", b"a line of output\n" * _LINES)  # more than the receiver's queue takes: it waits
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(4096, socket.MSG_DONTWAIT):
                pass
        log.close()


_QUERY = b"\0\1\1\0\0\1\0\0\0\0\0\0\3web\0\0\1\0\1"

_HANDOVER = Handover(
    id="",
    directory="/",
    state=facts.encode(facts.State(id="", shim_pid=0)),
    gated=False,
    pid=0,
    start_time=0,
    streams=("stdout",),
    inodes=(("stdout", 0),),
    stdin_once=False,
    own_pid_namespace=True,
    log=("/dev/null", 0, 1, "json", False, b"", None),
    cgroups=(),
    listens=True,
    unread=b"",
    unread_fds=0,
    clients=(),
    names=None,
    ports=(("",), (("tcp", "", 0, 0),), 0),
)
