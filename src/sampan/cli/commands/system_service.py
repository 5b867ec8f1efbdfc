"""`sampan system service`: have systemd start the engine at boot, and with it the containers that are to come back."""

from __future__ import annotations

import os
import sys

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure, UsageError
from sampan.cli.output import say, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.session import Session

_DIRECTORY = "/etc/systemd/system"
_WANTED_BY = "multi-user.target"
_UNIT = """\
[Unit]
Description=sampan: containers with a restart policy, and the API at {socket}
After=network-online.target local-fs.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
Environment=SAMPAN_ROOT={root}
ExecStart={program} system start

[Install]
WantedBy={wanted_by}
"""
_NOT_RUNNING = 3  # as of systemctl status


def service(call: Call) -> int:
    """Write the unit and enable it, remove it, print it, or say how things are."""
    verb = call.arguments[0]
    if verb == "print":
        write(unit(call.session))
        return 0
    if verb not in ("install", "uninstall", "status"):
        raise UsageError(f"unknown action: {verb}", "install, uninstall, status or print")
    path = f"{_DIRECTORY}/{_name(call.session)}"
    if verb == "status":
        return _status(call.session, path)
    if not os.path.isdir(_DIRECTORY):
        raise Failure(f"can't {verb} the service: there is no {_DIRECTORY}", "have your init run: sampan system start")
    if verb == "install":
        _install(call, path)
    else:
        _uninstall(path)
    return 0


def unit(session: Session) -> str:
    """Return the unit of this instance."""
    program = os.path.join(os.path.dirname(sys.executable), "sampan")
    return _UNIT.format(socket=session.dirs.socket, root=session.dirs.root, program=program, wanted_by=_WANTED_BY)


def _name(session: Session) -> str:
    from sampan.dirs import DEFAULT_ROOT

    root = session.dirs.root
    return "sampan.service" if root == DEFAULT_ROOT else f"sampan-{root.strip('/').replace('/', '-')}.service"


def _install(call: Call, path: str) -> None:
    from sampan.kernel.newfile import new_file

    try:
        with new_file(path) as file:
            file.write(unit(call.session).encode())
    except OSError as e:
        raise Failure(f"can't write {path}: {(e.strerror or str(e)).lower()}") from None
    say(path)
    _systemctl("daemon-reload")
    _systemctl("enable", os.path.basename(path))


def _uninstall(path: str) -> None:
    if not os.path.exists(path):
        raise Failure(f"there is no {path}", "nothing is installed for this instance")
    _systemctl("disable", os.path.basename(path))
    os.unlink(path)
    _systemctl("daemon-reload")
    say(path)


def _status(session: Session, path: str) -> int:
    """Say whether it is installed, and whether the engine runs, which this does not start; 3 if it does not."""
    from sampan.client.wire import Connection, Unreachable

    enabled = os.path.lexists(f"{_DIRECTORY}/{_WANTED_BY}.wants/{os.path.basename(path)}")
    say(f"unit: {path} ({'enabled' if enabled else 'not enabled'})" if os.path.exists(path) else "unit: not installed")
    connection = Connection(session.socket)
    try:
        connection.connect()
    except Unreachable:
        say("engine: does not run")
        return _NOT_RUNNING
    connection.close()
    told = session.ask("GET", "/info").json()
    say(f"engine: runs: process {told['KeeperPid']}, {told['ContainersRunning']} containers, {session.socket}")
    return 0


def _systemctl(*words: str) -> None:
    """Run systemctl where systemd runs; elsewhere the unit is there for when it does."""
    if not os.path.isdir("/run/systemd/system"):
        return
    import subprocess

    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"systemctl {' '.join(words)}: {done.stderr.strip()}")


COMMAND = Command(
    "service install|uninstall|status|print",
    "Have systemd start the engine at boot, and with it containers that have a restart policy",
    service,
    arguments=(1, 1),
)
