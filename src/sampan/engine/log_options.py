"""`--log-driver` and `--log-opt`: checked when a container is made, and turned into what its shim is told at a start.

Docker finds most mistakes at the start only; here a container that could not start for one is not made.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from sampan.engine import syslog_address
from sampan.engine.log_tags import LoggedContainer, attributes, check_expressions, tag
from sampan.errors import Failed, InvalidInput
from sampan.supervise.messages import LogConfig, LogReceiver
from sampan.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.engine.core import Core
    from sampan.engine.registry import Container

DRIVERS = ("journald", "json-file", "local", "none", "syslog")
JOURNAL = "/run/systemd/journal/socket"

_FILE = {"max-size", "max-file", "compress"}
_PICK = {"labels", "labels-regex", "env", "env-regex", "tag"}
_OF_ALL = {"mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}
_OPTIONS = {
    "json-file": _FILE | _PICK,
    "local": _FILE,
    "journald": _PICK,
    "syslog": _PICK | syslog_address.OPTIONS,
}

_JSON_BYTES, _JSON_FILES = 10_000_000, 3  # Docker never rotates unless told; ours does
_LOCAL_BYTES, _LOCAL_FILES = 20 << 20, 5
_UNLIMITED = 1 << 62
_MOST_FILES = 1000
_TRUE = {"1", "t", "T", "true", "TRUE", "True"}  # strconv.ParseBool
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}
_OF_EACH_LINE = {"", "MESSAGE", "PRIORITY", "SYSLOG_TIMESTAMP", "CONTAINER_PARTIAL_MESSAGE"}
_EXAMPLE = LoggedContainer(id="0" * 64, name="x", image_id="sha256:0", image_name="x", command=("x",), hostname="x")


def check(driver: str, options: Mapping[str, str]) -> None:
    """Raise InvalidInput, in Docker's words, for a driver that is not there and options that it can't have."""
    if driver not in DRIVERS:
        raise InvalidInput(
            f'error looking up logging plugin {driver}: plugin "{driver}" not found', f"there are {', '.join(DRIVERS)}"
        )
    if driver == "none":
        if options:
            raise InvalidInput("invalid logging opts for driver none", "it keeps nothing: leave out --log-opt")
        return
    known = _OPTIONS[driver] | _OF_ALL
    for name in options:
        if name not in known:
            words = f"for log driver {driver}" if driver == "local" else f"for {driver} log driver"
            raise InvalidInput(f"unknown log opt '{name}' {words}", f"there are {', '.join(sorted(known))}")
    buffer_bytes(options)
    check_expressions(options)
    file_of(driver, options, "")
    if driver == "syslog":
        syslog_address.check(options)
    if driver != "local":
        tag(_EXAMPLE, options, "")


def buffer_bytes(options: Mapping[str, str]) -> int | None:
    """Return how much may wait for a slow receiver (mode=non-blocking); None: the container waits."""
    mode = options.get("mode", "")
    if mode not in {"", "blocking", "non-blocking"}:
        raise InvalidInput(f"logger: logging mode not supported: {mode}", "there are blocking and non-blocking")
    size = options.get("max-buffer-size")
    if size is None:
        return 1_000_000 if mode == "non-blocking" else None
    if mode != "non-blocking":
        raise InvalidInput("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    try:
        return parse_bytes(size)
    except InvalidInput as e:
        raise InvalidInput(f"error parsing option max-buffer-size: {e.message}", e.hint) from None


def file_of(driver: str, options: Mapping[str, str], directory: str, id: str = "") -> LogConfig:
    """Return which file is written: the driver's own, or the copy of what is sent elsewhere, which `logs` reads."""
    if driver in {"json-file", "local"}:
        local = driver == "local"
        given = (options.get("max-size"), options.get("max-file"), options.get("compress"))
        config = _limits(given, (_LOCAL_BYTES, _LOCAL_FILES) if local else (_JSON_BYTES, _JSON_FILES), compress=local)
        if config.compress and (config.max_files < 2 or config.max_bytes == _UNLIMITED):
            raise InvalidInput(
                "compression cannot be enabled when max file count is 1"
                if local
                else "compress cannot be true when max-file is less than 2 or max-size is not set"
            )
        path = f"{directory}/container.log" if local else f"{directory}/{id}-json.log"
        return replace(config, path=path, form="local" if local else "json")
    given = (options.get("cache-max-size"), options.get("cache-max-file"), options.get("cache-compress"))
    config = _limits(given, (_LOCAL_BYTES, _LOCAL_FILES), compress=True)
    if _yes("cache-disabled", options.get("cache-disabled"), default=False):
        return LogConfig()
    return replace(config, path=f"{directory}/container-cached.log", form="local")


def _limits(
    given: tuple[str | None, str | None, str | None], defaults: tuple[int, int], *, compress: bool
) -> LogConfig:
    size, files, packed = given
    count = defaults[1]
    if files is not None:
        if not files.isascii() or not files.isdigit() or len(files) > 9 or int(files) >= _MOST_FILES:
            raise InvalidInput(f'strconv.Atoi: parsing "{files[:80]}": invalid syntax', "max-file is a number from 1")
        count = int(files)
        if count < 1:
            raise InvalidInput("max-file cannot be less than 1")
    limit = defaults[0]
    if size is not None:
        limit = _UNLIMITED if size == "-1" else parse_bytes(size) or _UNLIMITED
    packs = _yes("compress", packed, default=compress and count > 1)
    return LogConfig(max_bytes=limit, max_files=count, compress=packs)


def _yes(name: str, text: str | None, *, default: bool) -> bool:
    if text is None:
        return default
    if text not in _TRUE | _FALSE:
        if name.startswith("cache"):
            raise InvalidInput(f"invalid value for option {name}: {text}", "it is true or false")
        raise InvalidInput(f'strconv.ParseBool: parsing "{text}": invalid syntax', f"{name} is true or false")
    return text in _TRUE


# ---------------------------------------------------------------------------------------------------- a start


def log_file(core: Core, container: Container) -> LogConfig:
    """Return which file a container's log is in, of what form and with what limits; `path` None: in none."""
    log = container.body.host_config.log_config
    if log.type == "none":
        return LogConfig()
    return file_of(log.type, log.config or {}, core.dirs.container(container.id), container.id)


def configured(core: Core, container: Container) -> LogConfig:
    """Return what the shim is told. Raises SampanError where nobody is there to take what is to be sent."""
    log = container.body.host_config.log_config
    driver, options = log.type, log.config or {}
    file = log_file(core, container)
    if driver == "json-file":
        return replace(file, attributes=_json_attributes(_logged(container), options))
    if driver == "syslog":
        return replace(file, receiver=_syslog(_logged(container), options))
    if driver == "journald":
        # `logs` asks the journal itself, where there is a program for it.
        kept = LogConfig() if journalctl() else file
        return replace(kept, receiver=_journal(_logged(container), options))
    return file


def journalctl() -> str | None:
    """Return the path of the program that reads the journal."""
    import shutil

    return shutil.which("journalctl")


def _logged(container: Container) -> LoggedContainer:
    body = container.body
    return LoggedContainer(
        id=container.id,
        name=container.name,
        image_id=container.image_id,
        image_name=container.image_name,
        command=(*(body.entrypoint or ()), *(body.cmd or ())),
        hostname=socket.gethostname(),
        labels=body.labels or {},
        env=body.env or (),
    )


def _json_attributes(container: LoggedContainer, options: Mapping[str, str]) -> bytes:
    found = attributes(container, options)
    if name := tag(container, options, ""):
        found["tag"] = name
    return b',"attrs":' + msgspec.json.encode(dict(sorted(found.items()))) if found else b""


def _syslog(container: LoggedContainer, options: Mapping[str, str]) -> LogReceiver:
    destination = syslog_address.parse(options)
    return LogReceiver(
        network=destination.network,
        addresses=syslog_address.reachable(destination),
        tls=destination.tls,
        syslog=(
            options.get("syslog-format", ""),
            syslog_address.facility(options.get("syslog-facility", "")),
            container.hostname,
            # An image's label may be in it: a newline would begin another message.
            "".join(c if c.isprintable() else "_" for c in tag(container, options, "{{.ID}}")),
            destination.network == "tls" and options.get("syslog-format", "").startswith("rfc5424"),
        ),
        buffer_bytes=buffer_bytes(options),
    )


def _journal(container: LoggedContainer, options: Mapping[str, str]) -> LogReceiver:
    if not os.path.exists(JOURNAL):
        raise Failed(
            "failed to initialize logging driver: journald is not enabled on this host",
            f"it listens at {JOURNAL} where it runs; --log-driver local needs nothing",
        )
    name = tag(container, options, "{{.ID}}")
    picked = attributes(container, options, _field_name)
    fields = {
        **{name: value for name, value in picked.items() if name not in _OF_EACH_LINE},
        "CONTAINER_ID": container.id[:12],
        "CONTAINER_ID_FULL": container.id,
        "CONTAINER_NAME": container.name,
        "CONTAINER_TAG": name,
        "IMAGE_NAME": container.image_name,
        "SYSLOG_IDENTIFIER": name,
        "CONTAINER_LOG_EPOCH": f"{time.time_ns():x}",  # of this run: the container's earlier ones have others
    }
    return LogReceiver(
        network="unixgram",
        addresses=((JOURNAL, 0),),
        journal=b"".join(_field(name, value) for name, value in fields.items()),
        buffer_bytes=buffer_bytes(options),
    )


def _field_name(name: str) -> str:
    """Return a label's name as one of the journal's: capitals, digits and underscores, of which it does not begin."""
    return "".join(c.upper() if c.isascii() and c.isalnum() else "_" for c in name).lstrip("_")


def _field(name: str, value: str) -> bytes:
    """Return a field in the native protocol: one with a newline has its length before it."""
    data = value.encode("utf-8", "surrogateescape")
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return b"%b=%b\n" % (name.encode(), data)
