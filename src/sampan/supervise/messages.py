"""What server, keeper, shims and workers say to each other, and how it is framed.

A channel is a unix stream socket. A frame is one byte that counts descriptors, three of length, four of sequence
number (both big-endian), and a MessagePack document `{"type": …}`; the descriptors travel beside the frame's first byte
(SCM_RIGHTS). A request carries a sequence number > 0 and its answer repeats it; an event carries 0. A worker and a shim
answer `Refused` when they can't.

Both ends know `VERSION`; a shim outlives the server that forked it, so version N of the server reads N-1's frames:
fields are only ever added, with defaults. What a later version has added is not sent to a shim of an earlier one, whose
`Status` tells its version: 2 added `AnswerNames`.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from sampan.spec.ending import Counts, Sender, Sent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION = 2


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Anything that travels on a channel."""


# ---------------------------------------------------------------------------------------- server → keeper


class ForkShim(Message, frozen=True, kw_only=True, tag="fork-shim"):
    """Fork a shim for container `id`; beside it one descriptor: the shim's end of its first channel."""

    id: str


class ForkWorker(Message, frozen=True, kw_only=True, tag="fork-worker"):
    """Fork a worker; beside it one descriptor: the worker's end of a channel on which it gets one job and answers."""


class Leave(Message, frozen=True, kw_only=True, tag="leave"):
    """Nothing runs and nobody called for a while: the server ends now. `hold`: keep the socket and start a server when
    somebody connects; else the keeper ends too (unless a connection is already waiting, then it starts a server).
    """

    hold: bool = False


class Restart(Message, frozen=True, kw_only=True, tag="restart"):
    """Execute a new server in this one's place: it has been upgraded."""


class Forked(Message, frozen=True, kw_only=True, tag="forked"):
    """The keeper's answer: the child's pid."""

    pid: int


class Reaped(Message, frozen=True, kw_only=True, tag="reaped"):
    """Event from the keeper: a shim it had forked is gone; if its container runs, a new one is in its place."""

    id: str
    pid: int
    status: int  # as waitpid(2) has it; -1: it was no child of this keeper's, nobody could see it
    replaced_by: int | None = None


# ---------------------------------------------------------------------------------------- server → shim


class LogReceiver(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who gets each line as a message: syslog, as `logmessages.Syslog` says it, or with `journal` the journal.

    `network` and `addresses` as in `link.Receiver`, `tls` as in `tls.Settings`. `journal` are the fields of every
    message. `buffer_bytes` None: a slow receiver holds the container up.
    """

    network: str
    addresses: tuple[tuple[str, int], ...]
    tls: tuple[str, str, str, str, bool] | None = None
    journal: bytes | None = None
    syslog: tuple[str, int, str, str, bool] | None = None
    buffer_bytes: int | None = None


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the container's output is kept, rotated: `path` None keeps nothing. `receiver` gets it too.

    `form` is json (Docker's json-file) or local; `attributes` a member of each of json's objects, as JSON with a comma
    before it. Files of the past are compressed with `compress`.
    """

    path: str | None = None
    max_bytes: int = 10_000_000
    max_files: int = 3
    form: Literal["json", "local"] = "json"
    compress: bool = False
    attributes: bytes = b""
    receiver: LogReceiver | None = None


class Hello(Message, frozen=True, kw_only=True, tag="hello", omit_defaults=False):
    """The first request on a channel to a shim; answered with `Status`."""

    version: int = VERSION


class Launch(Message, frozen=True, kw_only=True, tag="launch"):
    """Make the container and, unless `gated`, execute its program. Answered by `Launched` or `Refused`.

    `spec` is the OCI configuration as JSON bytes and `plan` the plan encoded by `runtime.plan.encode`. With `gated` the
    program is executed at `Go`.
    """

    id: str
    spec: bytes
    plan: bytes
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    console_size: tuple[int, int] | None = None  # rows, columns
    log: LogConfig = LogConfig()
    detach_keys: bytes = b"\x10\x11"
    gated: bool = False


class Go(Message, frozen=True, kw_only=True, tag="go"):
    """Let a gated container, or with `exec_id` a gated exec, execute its program. Answered by `Done` or `Refused`."""

    exec_id: str | None = None


class Exec(Message, frozen=True, kw_only=True, tag="exec"):
    """Run another process in the container. `process` is the OCI `process` object as JSON bytes.

    Beside it at most one descriptor: a hijacked client connection to attach as `Attach` does. Answered by `Launched`
    (its pid and step times) or `Refused`, and then nothing was sent to the client. `greeting` is sent to it before any
    output, once the process exists: an HTTP answer that need not wait for `Launched`. In the end it is shut.
    """

    exec_id: str
    process: bytes
    plan: bytes
    tty: bool = False
    streams: frozenset[Literal["stdin", "stdout", "stderr"]] = frozenset()
    console_size: tuple[int, int] | None = None
    detach_keys: bytes = b"\x10\x11"
    already_read: bytes = b""
    greeting: bytes = b""
    gated: bool = False


class Attach(Message, frozen=True, kw_only=True, tag="attach"):
    """Serve a hijacked client connection (the descriptor beside it), the HTTP answer to which is already sent.

    Before `Launch` as well: then the client waits for the container. Answered by `Done` or `Refused`.
    Without a terminal, output is in frames of Docker's eight-byte header; with one it is raw. `already_read` are bytes
    that the server's HTTP parser had read past the request: they are the start of the client's standard input.
    End of file from the client closes the standard input only.
    """

    streams: frozenset[Literal["stdin", "stdout", "stderr"]]
    detach_keys: bytes = b"\x10\x11"
    already_read: bytes = b""


class Resize(Message, frozen=True, kw_only=True, tag="resize"):
    """Set a terminal's size. `exec_id` None: the container's own."""

    rows: int
    columns: int
    exec_id: str | None = None


class Signal(Message, frozen=True, kw_only=True, tag="signal"):
    """Send a signal to the container's init (or an exec's process), or with `everyone` to all in its cgroup.

    `sender`: who wants it, which is told again with the end that may come of it.
    """

    number: int
    exec_id: str | None = None
    everyone: bool = False
    sender: Sender | None = None


class Freeze(Message, frozen=True, kw_only=True, tag="freeze"):
    """Pause (`frozen`) or resume all processes of the container."""

    frozen: bool


class Update(Message, frozen=True, kw_only=True, tag="update"):
    """Write cgroup files of the running container: (controller, file, text), as `runtime.cgroups` computed them."""

    writes: tuple[tuple[str, str, str], ...]
    groups: tuple[tuple[str, str], ...] = ()  # all that it then needs: those that it lacks are made, in v1


class AnswerNames(Message, frozen=True, kw_only=True, tag="answer-names"):
    """Answer DNS queries in the container's network namespace. Answered by `Done` or `Refused`.

    Beside it the sockets, bound there to 127.0.0.11: of UDP, then the listening one of TCP. Without them what is
    answered changes, on those that are there. Best sent before `Launch`: the shim itself decodes no message then, and
    stays smaller.
    """

    files: tuple[str, ...]  # RUN/networks/ID.names of the networks that it is on, in the order in which they are asked
    links: tuple[tuple[str, str], ...] = ()  # names of its own for others: (alias, name)
    servers: tuple[str, ...] = ()  # asked for the rest from where the container is; none: the host's, from the host
    forward: bool = True  # whether the host's servers are asked
    qualified: bool = False  # a name of one label is not asked for: resolv.conf says `ndots`, resolvers add a domain


class PublishedPort(msgspec.Struct, frozen=True, array_like=True):
    """One socket of the host. `address` "" is every one of its addresses, IPv4 and IPv6."""

    protocol: str
    address: str
    number: int
    container_port: int

    @property
    def place(self) -> tuple[str, str, int]:
        """Where it is bound."""
        return self.protocol, self.address, self.number


class HoldPorts(Message, frozen=True, kw_only=True, tag="hold-ports"):
    """Hold these published ports, and no others, until the container ends; what comes to them goes to the `targets`.

    Beside it the sockets of `ports` from number `first` on, which the server has bound. With `more`, only sockets are
    given: the others, and what they are, follow in another message. The shim binds the rest by itself, now or when it
    can. Answered by `Done`. Few ports are best given before `Launch`, as with `AnswerNames`.
    """

    targets: tuple[str, ...] = ()  # the container's addresses, the one to be tried first before the other
    ports: tuple[PublishedPort, ...] = ()
    first: int = 0
    more: bool = False


class Forget(Message, frozen=True, kw_only=True, tag="forget"):
    """The server has recorded the exit: remove the shim's directory and end. Refused while the container runs."""


# ---------------------------------------------------------------------------------------- shim → server


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one operation of the plan took: its index in the plan, and nanoseconds."""

    index: int
    ns: int


class Launched(Message, frozen=True, kw_only=True, tag="launched"):
    """The process exists: `pid` as the host sees it, `start_time` in clock ticks since boot (proc(5), field 22)."""

    pid: int
    start_time: int
    started_at_ns: int  # of the wall clock
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()  # what was done otherwise than asked for: a limit that had to be lower


class Done(Message, frozen=True, kw_only=True, tag="done"):
    """It is done."""


class Refused(Message, frozen=True, kw_only=True, tag="refused"):
    """It failed: an error class of `sampan.errors` by name, with its message and hint."""

    error: str
    message: str
    hint: str = ""


class Exited(Message, frozen=True, kw_only=True, tag="exited"):
    """Event: the container's init has ended; all output up to here is in the log and with the attached clients.

    `exit_code` is Docker's: the program's own, or 128 + the signal's number. None: nobody could see it, because shim
    and keeper were both killed. `oom_killed`: the kernel killed a process of the container at its memory limit.
    """

    exit_code: int | None
    finished_at_ns: int
    oom_killed: bool = False
    signal: int = 0  # which has ended it; 0: it has ended by itself
    core_dumped: bool = False
    sent: tuple[Sent, ...] = ()  # the latest that came by `Signal`
    counts: Counts | None = None  # None where it ended well


class ExecExited(Message, frozen=True, kw_only=True, tag="exec-exited"):
    """Event: a process started by `Exec` has ended."""

    exec_id: str
    exit_code: int
    pid: int


class ExecStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One exec in a shim's `Status`."""

    exec_id: str
    pid: int
    exit_code: int | None = None


class Status(Message, frozen=True, kw_only=True, tag="status", omit_defaults=False):
    """All that a shim knows; also what it writes to state.json, atomically, at each change."""

    version: int = VERSION
    id: str
    shim_pid: int
    phase: Literal["empty", "creating", "created", "running", "paused", "exited"] = "empty"
    pid: int | None = None
    start_time: int | None = None
    started_at_ns: int | None = None
    exited: Exited | None = None
    execs: tuple[ExecStatus, ...] = ()
    cgroups: tuple[tuple[str, str], ...] = ()  # (controller, absolute directory); v2: ("", directory)
    lost_output: bool = False  # a shim and the keeper were both killed: what was written meanwhile is not in the log
    dropped_log_lines: int = 0  # the disk was full
    names: AnswerNames | None = None  # the last one


# ------------------------------------------------------------------------------------------ keeper ↔ shim


class Become(Message, frozen=True, kw_only=True, tag="become"):
    """To a shim that was forked ahead of need: be that of `id`. Beside it one descriptor: its first channel."""

    id: str


class Keep(Message, frozen=True, kw_only=True, tag="keep"):
    """A new keeper to a shim that has lost its own: answered with a `Hold` for each process, then `Done`."""


class Hold(Message, frozen=True, kw_only=True, tag="hold"):
    """Keep what is beside it while the process runs: its pidfd, then the duplicates of `streams`, in this order.

    `name` is "" for the container's init, else the exec's id. A shim forked in the place of a killed one gets them.
    """

    name: str
    pid: int
    start_time: int
    streams: tuple[str, ...]  # of stdin, stdout, stderr; or terminal


class Release(Message, frozen=True, kw_only=True, tag="release"):
    """Close the duplicate of one stream of a process, or with `stream` None forget the process."""

    name: str
    stream: str | None = None


class Collected(Message, frozen=True, kw_only=True, tag="collected"):
    """A process whose shim was killed became the keeper's child, and has ended with this status of waitpid(2)."""

    pid: int
    status: int


# ---------------------------------------------------------------------------------------- server → worker


class Unpack(Message, frozen=True, kw_only=True, tag="unpack"):
    """Unpack one layer: beside it one descriptor from which the compressed tar is read to its end.

    Verifies the compressed digest and the diff id while streaming. The layer is complete when `Unpacked` is answered.
    With a `size`, the worker holds the directory that `target` is in (`image.unfinished`); where the input ends before
    that many bytes it answers `Parked`, and waits at its socket there for `Feed`.
    """

    target: str  # the directory to make, which must not exist: …/tmp/X, renamed by the server
    digest: str | None = None  # of the bytes as read; None: not checked
    diff_id: str | None = None  # of the tar; None: computed only
    keep_blob: bool = False  # also keep the bytes as read
    limits: bytes = b"{}"  # `spec.image.LayerLimits` as JSON
    size: int | None = None  # of the bytes to be read


class Unpacked(Message, frozen=True, kw_only=True, tag="unpacked"):
    """The worker's answer."""

    digest: str
    diff_id: str
    compressed_bytes: int
    content_bytes: int  # of all regular files
    tar_bytes: int = 0
    selection: str = (
        ""  # of `LayFiles`: the digest of the files as they were read, which `SelectFiles` may not have seen
    )


class Pack(Message, frozen=True, kw_only=True, tag="pack"):
    """Write one layer's tar, compressed as `image.compression.Compression` says: beside it the descriptor to write to.

    The layer is written out and verified when `Packed` is answered; without it, what was written is not to be used.
    """

    layer: str  # its directory
    kind: Literal["gzip", "zstd", "none"]
    level: int | None = None


class Packed(Message, frozen=True, kw_only=True, tag="packed"):
    """The worker's answer."""

    digest: str
    size: int
    diff_id: str


class Position(Message, frozen=True, kw_only=True, tag="position"):
    """To a worker that waits: how far is it? Answered by `Parked`. `Forget` lets it give up instead."""


class Parked(Message, frozen=True, kw_only=True, tag="parked"):
    """The worker's input has ended early: it has taken in so many bytes, and waits for those that follow."""

    compressed_bytes: int


class Feed(Message, frozen=True, kw_only=True, tag="feed"):
    """To a worker that waits: beside it one descriptor that gives the bytes that follow. Answered as `Unpack` is."""


class Changes(Message, frozen=True, kw_only=True, tag="changes"):
    """Write what a container has changed, as the API has it, to the descriptor beside it. Answered by `Done`."""

    layers: tuple[str, ...]  # topmost first: the container's own directory, then its image's
    root: tuple[int, int, int, tuple[tuple[str, bytes], ...]]  # what the root directory was: rootfs.overlay.Metadata
    own: tuple[str, ...] = ()  # where the engine has mounts of its own


class Map(Message, frozen=True, kw_only=True, tag="map"):
    """Find out where the bytes of layers are: beside it the descriptor of a file to write that to.

    It is the JSON of a `spec.docker.ImageMap`, whole when `Done` is answered.
    """

    layers: tuple[str, ...]  # their directories, the lowest first
    numbers: tuple[int, ...]  # of each in its image
    depth: int
    top: int
    nodes: int


class Compose(Message, frozen=True, kw_only=True, tag="compose"):
    """Make a layer of what a container has changed, or with `whole` of all its files. Answered by `Unpacked`."""

    target: str  # the directory to make, which must not exist: …/tmp/X, renamed by the server
    layers: tuple[str, ...]  # these three as in `Changes`
    root: tuple[int, int, int, tuple[tuple[str, bytes], ...]]
    own: tuple[str, ...] = ()
    newest_ns: int | None = None  # later times of files become this
    whole: bool = False


class Settle(Message, frozen=True, kw_only=True, tag="settle"):
    """Make a layer of what a container has changed, in the place of the directory that it wrote to, which is gone then.

    Nobody may write there any more. Answered by `Unpacked`.
    """

    target: str  # these four as in `Compose`
    layers: tuple[str, ...]
    root: tuple[int, int, int, tuple[tuple[str, bytes], ...]]
    own: tuple[str, ...] = ()
    newest_ns: int | None = None


class Squash(Message, frozen=True, kw_only=True, tag="squash"):
    """Make one layer in the place of several. Answered by `Unpacked`."""

    target: str  # as in `Compose`
    layers: tuple[str, ...]  # topmost first, with those below
    count: int  # how many of them become one
    root: tuple[int, int, int, tuple[tuple[str, bytes], ...]] | None = (
        None  # what the layer makes of the root directory
    )


class SelectFiles(Message, frozen=True, kw_only=True, tag="select-files"):
    """Find out which files a COPY or ADD of a build takes, and their digest. Answered by `FilesSelected`."""

    job: bytes  # `build.jobs.Select` as JSON


class FilesSelected(Message, frozen=True, kw_only=True, tag="files-selected"):
    """The worker's answer: as `build.jobs.Selected`."""

    digest: str
    files: int
    content_bytes: int


class LayFiles(Message, frozen=True, kw_only=True, tag="lay-files"):
    """Write a layer of what a COPY or ADD takes, or of a WORKDIR's directory. Answered by `Unpacked`."""

    job: bytes  # `build.jobs.Lay` as JSON


class CompareLayers(Message, frozen=True, kw_only=True, tag="compare-layers"):
    """Find the first difference between the files of two layers, `build.comparing`. Answered by `LayersCompared`."""

    first: str  # their directories
    second: str


class LayersCompared(Message, frozen=True, kw_only=True, tag="layers-compared"):
    """The worker's answer, in words; "" where they have the same files."""

    difference: str = ""


class FindSecrets(Message, frozen=True, kw_only=True, tag="find-secrets"):
    """Look for secrets in a directory, `build.leaks`. Answered by `SecretsFound`."""

    directory: str
    secrets: dict[str, bytes]  # by id


class SecretsFound(Message, frozen=True, kw_only=True, tag="secrets-found"):
    """The worker's answer: the first one, in words; "" where there is none."""

    leak: str = ""


class FetchFiles(Message, frozen=True, kw_only=True, tag="fetch-files"):
    """Get files of a build from elsewhere: beside it, of an archive, may be one descriptor. Answered by `FilesFetched`.

    What comes is on the disk when that is answered; nothing is where it fails.
    """

    job: bytes  # `build.jobs.Fetch` as JSON


class FilesFetched(Message, frozen=True, kw_only=True, tag="files-fetched"):
    """The worker's answer."""

    fetched: bytes  # `build.jobs.Fetched` as JSON


class Export(Message, frozen=True, kw_only=True, tag="export"):
    """Write all files of a container as a tar to the descriptor beside it. Answered by `Done`."""

    layers: tuple[str, ...]  # topmost first


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A container as who carries its files finds it: by its first process, or by the plan that mounts its root."""

    pid: int = 0  # 0: it does not run
    start_time: int = 0
    plan: bytes = b""  # encoded by `runtime.plan.encode`; only its overlays and its binds are performed
    uid_mappings: tuple[tuple[int, int, int], ...] = ()  # of its user namespace, as in MakeNamespaces
    gid_mappings: tuple[tuple[int, int, int], ...] = ()


class StatPath(Message, frozen=True, kw_only=True, tag="stat-path"):
    """Tell what a path in a container is, following no link at its end. Answered by `PathFound`."""

    place: Place
    path: str


class PathFound(Message, frozen=True, kw_only=True, tag="path-found"):
    """The answer: `mode` as stat(2) has it, `link_target` where a link leads in the end, inside the container."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str = ""


class ReadPath(Message, frozen=True, kw_only=True, tag="read-path"):
    """Write a tar of a path in a container to the descriptor beside it. Answered by `Done`."""

    place: Place
    path: str


class WritePath(Message, frozen=True, kw_only=True, tag="write-path"):
    """Unpack what comes from the descriptor beside it into a directory of a container. Answered by `Done`."""

    place: Place
    path: str
    keep_kinds: bool = False  # a directory does not become anything else, nor anything else a directory
    user: str = ""  # whose all is that is written, as /etc/passwd there has it; "": as the archive says


class RunHooks(Message, frozen=True, kw_only=True, tag="run-hooks"):
    """Run hooks of one point of a container's life in their order. Answered by `Done`, or by what failed.

    `hooks` and `state` are the OCI configuration's and state's objects as JSON bytes. Those of poststop are all run.
    """

    stage: str
    hooks: bytes
    state: bytes
    directory: str


class MakeNamespaces(Message, frozen=True, kw_only=True, tag="make-namespaces"):
    """Make a user namespace and a network namespace that it owns. Answered by `NamespacesMade`.

    They last until the channel is closed. With `user_namespace` the network's owner is that one. A mapping is
    (id in the container, id outside, how many).
    """

    uid_mappings: tuple[tuple[int, int, int], ...]
    gid_mappings: tuple[tuple[int, int, int], ...]
    user_namespace: str = ""


class NamespacesMade(Message, frozen=True, kw_only=True, tag="namespaces-made"):
    """A process is in them."""

    pid: int


class Remove(Message, frozen=True, kw_only=True, tag="remove"):
    """Remove a directory tree of a container's or a layer's, following nothing out of it. Answered by `Done`."""

    path: str


Request = (
    ForkShim | ForkWorker | Leave | Restart
    | Hello | Launch | Go | Exec | Attach | Resize | Signal | Freeze | Update | AnswerNames | HoldPorts | Forget
    | Unpack | Pack | Position | Feed | Map | Remove | Changes | Compose | Settle | Squash | Export
    | SelectFiles | LayFiles | FetchFiles | FindSecrets | CompareLayers
    | StatPath | ReadPath | WritePath | RunHooks | MakeNamespaces
    | Keep | Hold | Release | Become
)  # fmt: skip
Answer = (
    Forked | Launched | Done | Refused | Status | Unpacked | Packed | Parked
    | FilesSelected | FilesFetched | SecretsFound | LayersCompared | PathFound | NamespacesMade
)  # fmt: skip
Event = Reaped | Exited | ExecExited | Collected

# ------------------------------------------------------------------------------------------------- framing

MAX_LENGTH = (1 << 24) - 1
"""Bytes in one frame's document."""

MAX_DESCRIPTORS = 64
"""Descriptors beside one frame; the kernel's own limit is 253 (SCM_MAX_FD)."""

_HEADER = struct.Struct(">II")
_ANCILLARY = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
_READ = 1 << 16
# As plain integers: an operation on a member of an IntFlag runs Python code, in every shim's own pages.
_NOSIGNAL = int(socket.MSG_NOSIGNAL)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC = int(socket.MSG_CTRUNC)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Request | Answer | Event)


class ProtocolError(Exception):
    """The other end sent what is no frame, or a message of an unknown type: close the channel."""


class Frame(NamedTuple):
    """One message as received; the receiver owns `fds` and closes them."""

    message: Message
    seq: int
    fds: tuple[int, ...]


def encode(message: Message, seq: int = 0, descriptors: int = 0) -> bytes:
    """Return the frame's bytes; `descriptors` counts those that the caller sends beside the first of them."""
    document = _encoder.encode(message)
    if len(document) > MAX_LENGTH or descriptors > MAX_DESCRIPTORS:
        raise ProtocolError(f"frame too large: {len(document)} bytes, {descriptors} descriptors")
    return _HEADER.pack(descriptors << 24 | len(document), seq) + document


def send(sock: socket.socket, message: Message, seq: int = 0, fds: Sequence[int] = ()) -> None:
    """Send one frame on a blocking socket, with duplicates of `fds`, which stay the caller's.

    Not for two threads at once on one socket. A gone peer raises BrokenPipeError, never SIGPIPE.
    """
    data = encode(message, seq, len(fds))
    sent = send_some(sock, data, fds)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:], _NOSIGNAL)


def send_some(sock: socket.socket, data: bytes | memoryview, fds: Sequence[int] = ()) -> int:
    """Send a frame's beginning, with its descriptors; return how many bytes went."""
    if not fds:
        return sock.send(data, _NOSIGNAL)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    return sock.sendmsg([data], rights, _NOSIGNAL)


class Decoder:
    """Puts frames together from what is read; one for each channel, for blocking and non-blocking sockets alike."""

    def __init__(self, data: bytes = b"", fds: Sequence[int] = ()) -> None:
        self._data = bytearray(data)
        self._fds: deque[int] = deque(fds)

    def read(self, sock: socket.socket) -> bool:
        """Read once from `sock`; False at its end. BlockingIOError passes through."""
        data, ancillary, flags, _ = sock.recvmsg(_READ, _ANCILLARY, _CLOEXEC)
        for level, type, rights in ancillary:
            if (level, type) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._fds.extend(memoryview(rights)[: len(rights) // 4 * 4].cast("i"))
        if flags & _CTRUNC:
            raise ProtocolError("descriptors were lost: too many came, or this process may open no more")
        self._data += data
        return bool(data)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that are whole."""
        while len(self._data) >= _HEADER.size:
            word, seq = _HEADER.unpack_from(self._data)
            end = _HEADER.size + (word & MAX_LENGTH)
            if len(self._data) < end:
                return
            document = bytes(memoryview(self._data)[_HEADER.size : end])
            del self._data[:end]
            yield self._frame(document, seq, word >> 24)

    def _frame(self, document: bytes, seq: int, descriptors: int) -> Frame:
        if descriptors > len(self._fds):
            raise ProtocolError(f"{descriptors} descriptors were announced, {len(self._fds)} came")
        fds = tuple(self._fds.popleft() for _ in range(descriptors))
        try:
            return Frame(_decoder.decode(document), seq, fds)
        except msgspec.DecodeError as e:
            for fd in fds:
                os.close(fd)
            raise ProtocolError(str(e)) from e

    def rest(self) -> tuple[bytes, tuple[int, ...]]:
        """Return what was read and is no whole frame yet, or was not asked for: for another decoder to go on with."""
        return bytes(self._data), tuple(self._fds)

    def close(self) -> None:
        """Close the descriptors that no frame has claimed."""
        while self._fds:
            os.close(self._fds.popleft())


def receive(sock: socket.socket, decoder: Decoder) -> Frame | None:
    """Wait on a blocking socket for the next frame; None at its end. Keeps what it read too much in `decoder`."""
    while True:
        for frame in decoder.frames():
            return frame
        if not decoder.read(sock):
            return None
