"""`exec ID PROGRAM …`: another process in a running container."""

from __future__ import annotations

import os

from msgspec.structs import replace

from sampan.errors import Conflict, InvalidInput
from sampan.oci import filters, making
from sampan.oci.log import warn
from sampan.oci.options import Option
from sampan.runtime import container
from sampan.runtime.container import Arrangement
from sampan.runtime.plan import plan_exec
from sampan.runtime.probe import probe
from sampan.spec.decoding import decode_document
from sampan.spec.runtime import Capabilities, Process, Spec, User, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation
    from sampan.oci.options import Given
    from sampan.oci.store import Record
    from sampan.runtime.container import Running

USAGE = "[OPTIONS] ID PROGRAM [ARGUMENT...]"
OPTIONS = (
    Option("process p", "file with the process, as config.json has it"),
    Option("console-socket", "unix socket that gets the terminal's master"),
    Option("cwd", "working directory in the container"),
    Option("env e", "set a variable: NAME=VALUE"),
    Option("tty t", "make a terminal", "flag"),
    Option("user u", "UID[:GID]"),
    Option("additional-gids g", "more groups, by number"),
    Option("detach d", "return when the program runs", "flag"),
    Option("pid-file", "file to write the process's pid to"),
    Option("process-label", "SELinux label"),
    Option("apparmor", "AppArmor profile"),
    Option("no-new-privs", "let the program gain no privileges", "flag"),
    Option("cap c", "add a capability"),
    Option("preserve-fds", "pass so many descriptors from 3 on to the program"),
    Option("cgroup", "run in this group below the container's: [CONTROLLER:]PATH"),
    Option("ignore-paused", "wait for a paused container to go on", "flag"),
)


def perform(invocation: Invocation) -> int:
    """Execute the program; return its exit code, or 0 where it is not waited for."""
    given = invocation.given
    detached = given.flag("detach")
    id, *arguments = given.arguments or [""]
    record = invocation.store.find(id)
    status = record.status
    if status not in ("created", "running", "paused"):
        raise Conflict(f"cannot exec in a {status} container")
    if status == "paused" and not given.flag("ignore-paused"):
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    spec = read(record.config())
    process = _process(given, arguments, spec)
    making.check_terminal(process, given, detached=detached)
    if not detached:
        from sampan.oci import foreground

        foreground.hold_signals()
    running = _execute(invocation, record, process, spec)
    if detached:
        return 0
    return foreground.stay(running, subreaper=False)


def _execute(invocation: Invocation, record: Record, process: Process, spec: Spec) -> Running:
    given = invocation.given
    plan = making.without_keyring(plan_exec(process, spec, probe(), id=record.id, bundle=record.facts["bundle"]), given)
    cgroups = _below(record.cgroups, given.values("cgroup"))
    plan = filters.kept(making.into_cgroups(plan, cgroups))
    stdio = None if process.terminal else making.STANDARD
    pidfd = record.pidfd()
    try:
        running = container.exec_process(
            plan,
            pidfd,
            stdio,
            console_size=making.size_of(process),
            arrangement=Arrangement(kept=making.inherited(given)),
        )
    finally:
        os.close(pidfd)
    for word in running.warnings:
        warn(word, invocation.options)
    try:
        making.hand_over(running, given)
    except BaseException:
        making.kill(running)
        raise
    return running


def _process(given: Given, arguments: list[str], spec: Spec) -> Process:
    """Return the process that is asked for: the file's, else the container's own with what the options change."""
    if path := given.value("process"):
        with open(path, "rb", buffering=0) as file:
            return decode_document(file.readall(), Process, path)
    if not arguments:
        raise InvalidInput("can't execute anything: no program is given", "exec ID PROGRAM, or --process FILE")
    own = spec.process or Process()
    return replace(
        own,
        args=tuple(arguments),
        terminal=given.flag("tty"),
        cwd=given.value("cwd") or own.cwd,
        env=(*own.env, *given.values("env")),
        user=_user(given, own.user),
        capabilities=_with(own.capabilities, given.values("cap")),
        no_new_privileges=own.no_new_privileges or given.flag("no-new-privs"),
        apparmor_profile=given.value("apparmor") or own.apparmor_profile,
        selinux_label=given.value("process-label") or own.selinux_label,
    )


def _user(given: Given, own: User) -> User:
    more = tuple(_number(word) for word in given.values("additional-gids"))
    asked = given.value("user")
    if not asked:
        return replace(own, additional_gids=(*own.additional_gids, *more))
    uid, _, gid = asked.partition(":")
    groups = (*own.additional_gids, *more)
    return replace(own, uid=_number(uid), gid=_number(gid) if gid else own.gid, username="", additional_gids=groups)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise InvalidInput(f"can't use {text!r} as a user or group: it is no number")
    return int(text)


def _with(own: Capabilities | None, names: list[str]) -> Capabilities | None:
    if not names:
        return own
    sets = own or Capabilities()
    more = tuple(name.upper() for name in names)
    return Capabilities(
        bounding=(*sets.bounding, *more),
        effective=(*sets.effective, *more),
        inheritable=sets.inheritable,
        permitted=(*sets.permitted, *more),
        ambient=sets.ambient,
    )


def _below(cgroups: tuple[tuple[str, str], ...], asked: list[str]) -> dict[str, str]:
    """Return the groups to use in the place of the container's own: [CONTROLLER[,…]:]PATH, PATH below its group."""
    found: dict[str, str] = {}
    for word in asked:
        controllers, colon, path = word.rpartition(":")
        wanted = set(controllers.split(",")) if colon else None
        for controller, directory in cgroups:
            if wanted is None or controller in wanted:
                found[directory] = inside = os.path.normpath(f"{directory}/{path.lstrip('/')}")
                if not f"{inside}/".startswith(f"{directory}/") or not os.path.isdir(inside):
                    raise InvalidInput(f"can't use the control group {word}: the container has none of this name")
        if wanted and not wanted & {c for c, _ in cgroups}:
            raise InvalidInput(f"can't use the control group {word}: the container has none of that controller")
    return found
