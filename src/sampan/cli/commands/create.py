"""`sampan create`, and what `run` has in common with it."""

from __future__ import annotations

import os

from sampan.cli.body import body_of
from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.options import CONTAINER
from sampan.cli.output import say, warn
from sampan.cli.session import ServerError, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from sampan.cli.flags import Options

_SDNOTIFY = Flag("sdnotify", "string", "Podman's", unsupported="systemd is told at the start: sampan run has it")
_PRESERVE_FDS = Flag("preserve-fds", "int", "Podman's", unsupported="they are given at the start: sampan run has it")
_PULL = ("always", "missing", "newer", "never", "")


def create(call: Call) -> int:
    """Create a container and print its id."""
    options = call.options
    body = body_of(options, call.arguments[0], call.arguments[1:])
    id = create_container(call.session, options, body)
    if options["explain"]:
        from sampan.cli.explain import print_and_remove, print_plan

        if options["explain"] != "text":
            return print_and_remove(call.session, id, options["explain"])
        print_plan(call.session, f"/containers/{id}")
    say(id)
    return 0


def create_container(session: Session, options: Options, body: dict[str, Any]) -> str:
    """Create it, with a pull where the policy asks for one; write the cidfile; return the id."""
    policy = options["pull"]
    if policy not in _PULL:
        raise Failure(
            f'sampan: invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"',
            "or newer, as podman has it",
            125,
        )
    _check_explain(options)
    if session.config().get("proxies"):
        from sampan.cli import proxies

        body["Env"] = proxies.add(body.get("Env") or [], proxies.configured(session.config(), session.socket))
    credentials = _api_socket(session, options, body)
    with _IdFile(options["cidfile"]) as id_file:
        if policy in ("always", "newer") and body["Image"]:
            _pull(session, options, body["Image"], policy)
        if options["replace"]:
            _make_room(session, options["name"])
        target = "/containers/create"
        if options["name"] or options["platform"]:
            from sampan.client.wire import query

            target += query(name=options["name"], platform=options["platform"])
        try:
            answer = session.ask("POST", target, body).json()
        except ServerError as e:
            if e.text.startswith("invalid reference format"):  # Docker's client finds it out by itself
                raise Failure(e.text, e.hint) from None
            if e.http_status != 404 or policy == "never" or not _is_missing(e.text):
                raise
            warn(f"Unable to find image '{_with_tag(body['Image'])}' locally")
            _pull(session, options, body["Image"], "always")
            answer = session.ask("POST", target, body).json()
        id = str(answer["Id"])
        for warning in answer.get("Warnings") or ():
            warn(f"WARNING: {warning}")
        if credentials:
            from sampan.cli.api_socket import put_credentials

            put_credentials(session, id, credentials)
        id_file.write(id)
    return id


def _api_socket(session: Session, options: Options, body: dict[str, Any]) -> dict[str, dict[str, str]]:
    """--use-api-socket: return the credentials to be put into the container."""
    if not options["use-api-socket"]:
        return {}
    from sampan.cli.api_socket import give_socket

    return give_socket(session, body)


def _make_room(session: Session, name: str) -> None:
    """Remove the container of this name, if there is one."""
    if not name:
        raise Failure("sampan: cannot replace container without --name being set", "", 125)
    from sampan.client.wire import quote

    try:
        session.ask("DELETE", f"/containers/{quote(name)}?force=1&v=1").read()
    except ServerError as e:
        if e.http_status != 404:
            raise


def _is_missing(text: str) -> bool:
    """Whether the image is not there, or there for another platform; 404 is also for what it is meant to join."""
    return "o such image" in text or "does not match the specified platform" in text


def _check_explain(options: Options) -> None:
    if options["explain"] not in ("", "text", "sh", "json"):
        raise Failure(f"sampan: invalid value for --explain: {options['explain']}", "text, sh or json", 125)


def _with_tag(image: str) -> str:
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in last else f"{image}:latest"


def _pull(session: Session, options: Options, image: str, policy: str) -> None:
    """Pull it; progress goes to standard error, since output is the container's id."""
    from sampan.cli.commands.pull import pull_image

    pull_image(session, _with_tag(image), options, policy)


class _IdFile:
    """--cidfile: made before the container, so that it is known to be writable; removed again if there is no id."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        if not self._path:
            return self
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise Failure(
                f"container ID file found, make sure the other container isn't running or delete {self._path}"
            ) from None
        except OSError as e:
            cause = f"open {self._path}: {(e.strerror or '').lower()}"
            raise Failure(f"failed to create the container ID file: {cause}") from None
        return self

    def write(self, id: str) -> None:
        """Fill the file, if there is one."""
        if self._descriptor >= 0:
            os.write(self._descriptor, id.encode())
            os.close(self._descriptor)
            self._descriptor = -1

    def __exit__(self, *ignored: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            os.unlink(self._path)


COMMAND = Command(
    "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    create,
    flags=(*CONTAINER, _SDNOTIFY, _PRESERVE_FDS),
    arguments=(1, None),
    interspersed=False,
)
