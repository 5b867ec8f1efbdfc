"""What went wrong, on standard error and in the log file: engines read the log's last error."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.errors import SampanError
    from sampan.oci.options import Given


def complain(error: SampanError, command: str, options: Given) -> None:
    """Say an error; a log that can't be written does not hide it."""
    where = f"{command} failed: " if command in ("create", "exec", "run") else ""
    hint = f"\n  hint: {error.hint}" if error.hint else ""
    sys.stderr.write(f"sampan-runtime: {where}{error.message}{hint}\n")
    _log(options, "error", f"sampan-runtime {where}{error.message}")


def warn(text: str, options: Given) -> None:
    """Say what was done in part only."""
    if not options.value("log"):
        sys.stderr.write(f"sampan-runtime: warning: {text}\n")
    _log(options, "warning", text)


def debug(text: str, options: Given) -> None:
    """Say what is done."""
    _log(options, "debug", text)


def _log(options: Given, level: str, text: str) -> None:
    path = options.value("log")
    if not path:
        return
    moment = timestamp()
    if options.value("log-format") == "json":
        from sampan.client.jsontext import dumps

        line = dumps({"level": level, "msg": text, "time": moment})
    else:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        line = f'time="{moment}" level={level} msg="{quoted}"'
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        sys.stderr.write(f"sampan-runtime: can't write the log {path}: {e.strerror}\n")
        return
    try:
        os.write(fd, f"{line}\n".encode("utf-8", "surrogateescape"))
    finally:
        os.close(fd)


def timestamp(ns: int | None = None) -> str:
    """Return a moment, or now, as RFC 3339 in UTC."""
    seconds, rest = divmod(time.time_ns() if ns is None else ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
