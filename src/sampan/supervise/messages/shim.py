"""What the server asks of a shim, and what a shim tells."""

from __future__ import annotations

from typing import Literal

import msgspec

from sampan.spec.ending import Counts, Sender, Sent
from sampan.supervise.messages.base import VERSION, Message


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
    program is executed at `Go`. The descriptors beside it are the program's, from 3 on.
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

    Beside it at most one descriptor, a hijacked client connection to attach as `Attach` does, and behind it as many as
    `kept` says, which are the process's, from 3 on. Answered by `Launched`
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
    kept: int = 0


class Attach(Message, frozen=True, kw_only=True, tag="attach"):
    """Serve a hijacked client connection (the descriptor beside it), the HTTP answer to which is already sent.

    Before `Launch` as well: then the client waits for the container. Answered by `Done` or `Refused`.
    Without a terminal, output is in frames of Docker's eight-byte header; with one it is raw. `already_read` are bytes
    that the server's HTTP parser had read past the request: they are the start of the client's standard input.
    End of file from the client closes the standard input only.
    With `websocket` it is one instead, where output is in messages of that opcode.
    """

    streams: frozenset[Literal["stdin", "stdout", "stderr"]]
    detach_keys: bytes = b"\x10\x11"
    already_read: bytes = b""
    websocket: int = 0


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


Messages = (
    Hello | Launch | Go | Exec | Attach | Resize | Signal | Freeze | Update | AnswerNames | HoldPorts | Forget
    | Launched | Exited | ExecExited | Status
)  # fmt: skip
