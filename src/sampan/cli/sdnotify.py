"""`--sdnotify`: tell systemd that the container of a `Type=notify` unit has started, or let it tell. sd_notify(3).

The container's processes are in no control group of the unit: systemd takes their messages once MAINPID names them.
"""

from __future__ import annotations

import os

from sampan.cli.each import container
from sampan.cli.failure import Failure
from sampan.cli.output import warn
from sampan.cli.session import ServerError
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.session import Session

MODES = ("container", "conmon", "healthy", "ignore")
_INSIDE = "/run/notify/notify.sock"  # as runc and crun have it


def bind(mode: str, body: dict[str, Any], *, detached: bool) -> None:
    """Give the container systemd's socket, where its own program is to tell. Raises Failure."""
    if mode not in MODES:
        raise Failure(f'sampan: invalid sdnotify value "{mode}": must be container, conmon, healthy or ignore', "", 125)
    if mode == "healthy" and not detached:
        raise Failure("sampan: --sdnotify=healthy waits, and is for what runs in the background", "add -d", 125)
    socket = os.environ.get("NOTIFY_SOCKET", "")
    if mode != "container" or not socket:
        return
    if not socket.startswith("/"):
        raise Failure(f"sampan: can't bind NOTIFY_SOCKET={socket}: it is no path", "--sdnotify=conmon needs none", 125)
    mount = {"Type": "bind", "Source": socket, "Target": _INSIDE}
    body["HostConfig"].setdefault("Mounts", []).append(mount)
    body["Env"] = [*(body.get("Env") or ()), f"NOTIFY_SOCKET={_INSIDE}"]


def started(session: Session, id: str, mode: str) -> None:
    """Tell systemd, if it asks for that, which process is the container that was started, and when this is enough."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if mode == "ignore" or not path:
        return
    pid = _state(session, id).get("Pid")
    ready = ["READY=1"] if mode == "conmon" else []
    if words := ([f"MAINPID={pid}"] if pid else []) + ready:
        _send(path, "\n".join(words))
    if mode == "healthy":
        _wait_until_healthy(session, id)
        _send(path, "READY=1")


def _state(session: Session, id: str) -> dict[str, Any]:
    """Return the container's state, {} where it has ended already and is removed."""
    try:
        state: dict[str, Any] = session.ask("GET", container(id, "/json")).json()["State"]
    except ServerError as e:
        if e.http_status != 404:
            raise
        return {}
    return state


def _wait_until_healthy(session: Session, id: str) -> None:
    """Return after the first check that passes, of whichever server. Raises Failure where there are none."""
    from sampan.client.wire import ConnectionLost

    target = f"/events{query(filters={'container': {id: True}, 'type': {'container': True}})}"
    while True:
        happening = session.open("GET", target).lines()
        try:
            if _is_healthy(session, id) or any(_is_healthy(session, id) for _ in happening):
                return
        except ConnectionLost:
            pass


def _is_healthy(session: Session, id: str) -> bool:
    state = _state(session, id)
    if not state.get("Running"):
        hint = f"sampan why {id[:12]}" if state else ""
        raise Failure("sampan: the container ended before it was healthy", hint, 125)
    if "Health" not in state:
        raise Failure("sampan: --sdnotify=healthy: the container has no health check", "give one: --health-cmd", 125)
    return bool(state["Health"]["Status"] == "healthy")


def _send(path: str, text: str) -> None:
    """Send one message; a path that begins with @ is of the abstract namespace."""
    import _socket

    address = "\0" + path[1:] if path.startswith("@") else path
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        socket.sendto(text.encode(), address)
    except OSError as e:
        warn(f"WARNING: can't tell systemd at {path}: {(e.strerror or '').lower()}")
    finally:
        socket.close()
