"""What a container's output is logged to: a file of either form, a receiver, or both at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from sampan.supervise.compressing import Compressor
from sampan.supervise.link import Receiver
from sampan.supervise.local_file import LocalFile
from sampan.supervise.logfile import LogFile
from sampan.supervise.logmessages import Syslog, journal
from sampan.supervise.logsender import LogSender

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.supervise.loop import Loop
    from sampan.supervise.messages import LogConfig


class Log(Protocol):
    """What streams write to."""

    on_drained: Callable[[], None]
    """Called when what `holds_up` may go on."""

    @property
    def dropped_lines(self) -> int:
        """How many could not be logged."""

    @property
    def holds_up(self) -> bool:
        """Whether more output must wait."""

    @property
    def pending(self) -> bool:
        """Whether something is still done for it, after `close` too."""

    def write(self, stream: str, data: bytes | bytearray | memoryview) -> None:
        """Log what came on a stream just now."""

    def end(self, stream: str) -> None:
        """Log what the stream has left without a newline."""

    def close(self) -> None:
        """Log the rest of every stream."""


class Both:
    """A receiver, and the file that `logs` reads."""

    def __init__(self, sender: LogSender, file: LogFile) -> None:
        self._sender = sender
        self._file = file

    @property
    def dropped_lines(self) -> int:
        """How many the file lacks, or the receiver, whichever are more."""
        return max(self._sender.dropped_lines, self._file.dropped_lines)

    @property
    def on_drained(self) -> Callable[[], None]:
        """Called when the receiver has taken enough."""
        return self._sender.on_drained

    @on_drained.setter
    def on_drained(self, callback: Callable[[], None]) -> None:
        self._sender.on_drained = callback

    @property
    def holds_up(self) -> bool:
        """Whether the receiver is slow."""
        return self._sender.holds_up

    @property
    def pending(self) -> bool:
        """Whether either is not done."""
        return self._sender.pending or self._file.pending

    def write(self, stream: str, data: bytes | bytearray | memoryview) -> None:
        """Log it to both."""
        data = bytes(data)  # copied once, not by each
        self._file.write(stream, data)
        self._sender.write(stream, data)

    def end(self, stream: str) -> None:
        """End it in both."""
        self._file.end(stream)
        self._sender.end(stream)

    def close(self) -> None:
        """Close both."""
        self._file.close()
        self._sender.close()


def plain(config: LogConfig) -> tuple[Any, ...]:
    """Return the configuration as values only, for a shim that decodes nothing."""
    receiver = msgspec.structs.astuple(config.receiver) if config.receiver else None
    return (*msgspec.structs.astuple(config)[:-1], receiver)


def opened(loop: Loop, config: tuple[Any, ...]) -> Log | None:
    """Return what `config` (of `plain`) logs to; None where nothing is kept."""
    *file_config, receiver = config
    file = _file(loop, *file_config)
    if not receiver:
        return file
    network, addresses, tls, fields, syslog, buffer_bytes = receiver
    message = journal(fields) if fields is not None else Syslog(*syslog).message
    sender = LogSender(loop, Receiver(network, addresses, tls), message, buffer_bytes)
    return Both(sender, file) if file else sender


def _file(
    loop: Loop, path: str | None, max_bytes: int, max_files: int, form: str, compress: bool, attributes: bytes
) -> LogFile | None:
    if path is None:
        return None
    compressor = Compressor(loop, path, max_files) if compress else None
    if form == "local":
        return LocalFile(path, max_bytes, max_files, compressor=compressor)
    return LogFile(path, max_bytes, max_files, attributes=attributes, compressor=compressor)
