"""A container's start: files, plan, shim, program; and its end, which the shim tells."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import (
    device_requests,
    endings,
    hooking,
    lifecycle,
    log_options,
    oci_words,
    overlay_mounts,
    owning,
    propagating,
    remains,
    required,
    sandbox,
    secret_files,
    witness,
)
from sampan.engine.core import encode, now_ns
from sampan.engine.joining import with_joined
from sampan.engine.lending import NOTHING
from sampan.engine.lifecycle import Verb
from sampan.engine.linking import with_links
from sampan.engine.own_files import write_files
from sampan.engine.reaching import TRIES
from sampan.engine.restart_policy import wanted
from sampan.engine.translate import rootfs_of
from sampan.engine.volume_options import is_device
from sampan.errors import Conflict, Failed, SampanError, doing
from sampan.runtime import plan as planning
from sampan.spec.state import State, Status
from sampan.supervise import messages
from sampan.units import parse_detach_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.engine.core import Core
    from sampan.engine.lending import Lent
    from sampan.engine.links import Channel, Pending
    from sampan.engine.registry import Container
    from sampan.network.perform import Told
    from sampan.runtime.plan import Plan
    from sampan.spec.docker import RestartPolicy
    from sampan.spec.ending import Ending
    from sampan.spec.runtime import Spec

_LAUNCH_S = 120
_FORK_S = 10
_SUCCESSOR_S = 1.0
_DETACH_KEYS = b"\x10\x11"  # ctrl-p ctrl-q
_COMMIT_S = 0.2
_SETTLE_S = 0.05
"""How long an exit waits to be written down: most containers that end are removed at once, which is one commit less.
The shim keeps the fact meanwhile."""


def start(core: Core, container: Container, detach_keys: str | None = None, lent: Lent = NOTHING) -> bool:
    """Start a created or ended container, and before it what it requires; False when it runs already.

    What is `lent` for its program stays the caller's.
    """
    if not container.running:
        start_required(core, container)
    return _start(core, container, detach_keys, lent)


def start_required(core: Core, container: Container) -> None:
    """See to it that what a container requires runs."""
    from sampan.engine import restarting

    for other in required.before(core, container):
        try:
            restarting.at_once(core, other)
            if not other.running:
                _start(core, other)
        except SampanError as e:  # not as it is: 127 would be of the program that was asked for
            raise Failed(f"can't start {container.name}: it requires {other.name}: {e.message}", e.hint) from e


def _start(core: Core, container: Container, detach_keys: str | None = None, lent: Lent = NOTHING) -> bool:
    keys = parse_detach_keys(detach_keys) if detach_keys else _DETACH_KEYS
    with container.lock:
        if lifecycle.check(Verb.START, container.state, container.id) is lifecycle.ALREADY:
            return False
        launched = Start(core, container, keys, lent=lent)
        try:
            running = launched.wait()
            hooking.started(core, container.id, running.pid)
        except SampanError as e:
            launched.undo(e)
            raise
    if container.image_id:
        core.images.used(container.image_id)
    return True


class Start:
    """One start under way: made with `container.lock` held. Ends with `wait`, or `undo`."""

    def __init__(
        self,
        core: Core,
        container: Container,
        keys: bytes = _DETACH_KEYS,
        *,
        gated: bool = False,
        seen: Told | None = None,
        lent: Lent = NOTHING,
    ) -> None:
        settle(core, container)
        if container.sandbox:
            container.sandbox.release()
        if os.path.isdir(core.dirs.shim(container.id)):  # of a run whose shim nobody could reach
            remains.clear(core, container.id)
        self._core = core
        self._container = container
        self._gated = gated
        self._lent = lent
        with doing(f"can't start {container.name}"):
            self._before = container.state
            self._restarts = self._before.restart_count if self._before.status is Status.RESTARTING else 0
            self._fork()
        try:
            self._prepare(keys, seen)
        except SampanError as e:
            self.undo(e)
            raise

    def _fork(self, after: Channel | None = None) -> None:
        self._keeper = self._core.the_keeper(after)
        self.channel, self._forked = fork_shim(self._core, self._container, self._keeper)

    def _prepare(self, keys: bytes, seen: Told | None) -> None:
        """Send everything at once: the keeper forks while the plan is made, the shim works while the state is saved."""
        core, container = self._core, self._container
        self._sandbox = sandbox.make(core, container, seen)
        write_files(core, container)
        make_sources(core, container)
        spec = self._lent.told(spec_of_run(core, container), has_init=bool(container.body.host_config.init))
        if self._sandbox:
            spec = with_links(core, container, self._sandbox.endpoints, self._sandbox.in_namespace(spec))
        self._spec = spec
        self.plan = self._plan(spec)
        core.note_cgroup(container, spec)
        secrets = secret_files.variables(core, container)
        plan = self._plan(spec, secrets) if secrets else self.plan  # which is told to others
        self._launch = launch_message(core, container, spec, plan, keys, gated=self._gated)
        self._send()
        running = self._running(started_at_ns=now_ns(), restart_count=self._restarts)
        core.store.set_state(container.id, encode(running))

    def _plan(self, spec: Spec, variables: Mapping[str, str] = {}) -> Plan:
        id, bundle = self._container.id, hooking.bundle_of(self._core, self._container.id, spec)
        if spec.process:
            spec = msgspec.structs.replace(spec, process=secret_files.with_variables(spec.process, variables))
        return planning.plan(spec, self._core.host, id=id, bundle=bundle)

    def _running(self, *, pid: int = 0, start_time: int = 0, started_at_ns: int, restart_count: int = 0) -> State:
        return State(
            status=Status.RUNNING,
            pid=pid,
            start_time=start_time,
            started_at_ns=started_at_ns,
            finished_at_ns=self._before.finished_at_ns,
            again=self._before.again and not pid,
            restart_count=restart_count,
            endpoints=self._sandbox.endpoints if self._sandbox else (),
            ports=self._sandbox.ports if self._sandbox else (),
            ending=self._before.ending,
        )

    def _send(self) -> None:
        hooking.write_bundle(self._core, self._container.id, self._spec)
        self.channel.post(messages.Hello())
        if self._sandbox:
            self._sandbox.give(self.channel)
        for fd, message in self._container.attaching:
            self.channel.post(message, (fd,))
        self._launched = self.channel.post(
            self._launch, self._lent.descriptors, then=None if self._gated else self._runs
        )

    def _runs(self, answer: messages.Message) -> None:
        """On the reading thread, so that an exit right behind the answer is seen after it."""
        if isinstance(answer, messages.Launched):
            self._container.become(
                self._running(
                    pid=answer.pid,
                    start_time=answer.start_time,
                    started_at_ns=answer.started_at_ns,
                    restart_count=self._restarts,
                )
            )
            self._core.tell_volumes(self._container, "mount")
            self._core.tell(self._container, "start")
            from sampan.engine import execs, health, timeouts

            execs.run_begins(self._core, self._container)
            health.begin(self._core, self._container)
            timeouts.begin(self._core, self._container)

    def wait(self) -> messages.Launched:
        """Return when the program is being executed, or (gated) everything but that is done."""
        answer = self._answer()
        if self._sandbox:
            self._sandbox.hand_over(self.channel)
        release_attaching(self._container)
        self._container.spec = None
        return answer

    def _answer(self) -> messages.Launched:
        """Begin again where keeper or shim was killed before the program was executed; nothing of it is left."""
        for left in reversed(range(TRIES)):
            try:
                return self._launched.wait(messages.Launched, _LAUNCH_S)
            except SampanError as e:
                if self._container.doomed:
                    raise Conflict(f"can't start {self._container.name}: it is being removed") from None
                if not self._launched.broken:
                    raise oci_words.of_start(e) from None
                if launched := self._successor():
                    return launched
                if not left:
                    raise
                self._once_more()
        raise AssertionError

    def _once_more(self) -> None:
        after = None
        try:
            # A keeper that could not fork has closed the channel; its own words say more.
            self._forked.wait(messages.Forked, _FORK_S)
        except SampanError:
            if not self._forked.broken:
                raise
            after = self._keeper  # it was killed before it forked, and another is on its way
        self._let_go()
        self._fork(after)
        self._send()

    def _successor(self) -> messages.Launched | None:
        """A shim killed right behind the program's start leaves a container that runs: what another takes over."""
        state = remains.written(self._core, self._container.id) if self.channel.gone else None
        if state is None or not state.pid or state.started_at_ns is None:
            return None
        launched = messages.Launched(pid=state.pid, start_time=state.start_time or 0, started_at_ns=state.started_at_ns)
        self._container.shim = None
        self._runs(launched)
        from sampan.engine.reconnect import reconnect_soon

        reconnect_soon(self._core, self._container)
        return launched

    def go(self) -> None:
        """Let the gated program be executed."""
        launched = self._launched.wait(messages.Launched, _LAUNCH_S)
        going = self.channel.post(messages.Go(), then=lambda answer: self._went(answer, launched))
        try:
            going.wait(messages.Done, _LAUNCH_S)
        except SampanError as e:
            raise (e if going.broken else oci_words.of_start(e)) from None

    def _went(self, answer: messages.Message, launched: messages.Launched) -> None:
        if isinstance(answer, messages.Done):
            self._runs(launched)

    def _let_go(self) -> None:
        self._container.shim = None
        self.channel.on_event = None
        remains.dismiss(self.channel)
        remains.clear(self._core, self._container.id, _SUCCESSOR_S if self.channel.gone else 0)
        hooking.over(self._core, self._container.id)

    def undo(self, error: SampanError) -> None:
        """Put the container back to where it was, with the reason."""
        container = self._container
        release_attaching(container)
        self._let_go()
        if container.sandbox:
            container.sandbox.release()
        note_failure(self._core, container, self._before, error)
        if container.body.host_config.auto_remove:
            from sampan.engine.removing import discard

            discard(self._core, container)


def note_failure(core: Core, container: Container, before: State, error: SampanError) -> None:
    """Have a container be in the state from before a start that failed, with the reason."""
    code = error.exit_status if error.exit_status in (126, 127) else 128
    state = msgspec.structs.replace(
        before,
        error=error.message,
        exit_code=code,
        status=Status.CREATED if before.status is Status.CREATED else Status.EXITED,
        ending=endings.of_failed_start(error, code, now_ns()),
    )
    container.last_exit = (code, error.message)
    container.become(state)
    core.save(container)


def fork_shim(core: Core, container: Container, keeper: Channel) -> tuple[Channel, Pending]:
    """Ask the keeper for a shim and return the channel to it at once, before it exists."""
    channel, theirs = core.links.pair(f"the shim of {container.name}")
    listen(core, container, channel)

    def answered(answer: messages.Message) -> None:
        if isinstance(answer, messages.Refused):
            channel.close()

    forked = keeper.post(messages.ForkShim(id=container.id), (theirs.fileno(),), then=answered)
    theirs.close()
    container.shim = channel
    return channel, forked


def listen(core: Core, container: Container, channel: Channel) -> None:
    """Have what the shim tells reach the container's state."""

    def event(message: messages.Message) -> None:
        match message:
            case messages.Exited():
                exited(core, container, message)
            case messages.ExecExited():
                from sampan.engine.execs import ended

                ended(core, container, message)
            case _:  # a newer shim may tell more
                pass

    def gone(channel: Channel) -> None:
        if container.shim is channel and container.running and not core.closing:
            from sampan.engine.reconnect import reconnect_soon

            container.shim = None
            reconnect_soon(core, container)

    channel.on_event = event
    channel.on_gone = gone


def make_sources(core: Core, container: Container) -> None:
    """See to it that what is mounted is there: missing directories of -v, volumes, and the image's lower ones."""
    if binds := [mount.source for mount in container.mounts if mount.type == "bind"]:
        propagating.check_seen(binds, core.host_fd)
    for mount in container.mounts:
        if mount.create_source or (mount.type == "volume" and not is_device(mount.driver_options)):
            with doing(f"error while creating mount source path '{mount.source}'"):
                if not os.path.lexists(mount.source):
                    os.makedirs(mount.source, 0o755)
    overlay_mounts.make(container.mounts)
    owning.give(core, container)
    core.snapshots.make_ready(rootfs_of(core.spec(container)))


def spec_of_run(core: Core, container: Container) -> Spec:
    """Return the configuration of the next run: with what is known only then, processes to join, and devices."""
    spec = propagating.through_host(with_joined(core, core.spec(container)), core.host_fd)
    return device_requests.given(core, container.body.host_config, spec)


def launch_message(
    core: Core, container: Container, spec: Spec, plan: Plan, keys: bytes, *, gated: bool
) -> messages.Launch:
    """Return what the shim is told."""
    body = container.body
    size = body.host_config.console_size
    return messages.Launch(
        id=container.id,
        spec=encode(spec),
        plan=planning.encode(plan),
        tty=body.tty,
        open_stdin=body.open_stdin,
        stdin_once=body.stdin_once,
        console_size=size if body.tty and all(size) else None,
        log=log_options.configured(core, container),
        detach_keys=keys,
        gated=gated,
    )


def release_attaching(container: Container) -> None:
    """Close our copies of the connections that waited for the start."""
    waiting, container.attaching = container.attaching, []
    for fd, _ in waiting:
        os.close(fd)


# ---------------------------------------------------------------------------------------------------------- ends


def exited(core: Core, container: Container, event: messages.Exited) -> None:
    """Take note of a container's end: memory at once, the disk soon. On the reading thread, or with the lock held."""
    if not container.running:
        return
    event = witness.testified(container, event)
    ending = endings.of_exit(event, container.state)
    ending = endings.with_kernel_records(ending, container.id, event.oom_killed, core.kernel_log)
    ending = core.oom_watch.completed(container, ending)
    policy = container.body.host_config.restart_policy
    if networks := container.sandbox:
        networks.over = True  # before who waits for the end looks
    state = container.change(lambda state: _after(state, event, ending, policy))
    witness.let_go(container)
    if networks:
        core.janitor.later(f"give back the networks of {container.name}", networks.release)
    container.written.clear()  # it may have changed them
    core.oom_watch.ended(container, ending, oom_killed=event.oom_killed)
    duration = max(0, event.finished_at_ns - state.started_at_ns) // 10**9
    facts = {"exitCode": str(state.exit_code), "execDuration": str(duration), **endings.attributes(ending)}
    core.tell(container, "die", facts)
    core.tell_volumes(container, "unmount")
    remove = container.body.host_config.auto_remove
    core.janitor.later(
        f"record the end of {container.name}", lambda: _after_exit(core, container), 0 if remove else _SETTLE_S
    )
    if state.status is Status.RESTARTING:
        from sampan.engine import restarting

        restarting.after(core, container)


def _after(state: State, event: messages.Exited, ending: Ending, policy: RestartPolicy) -> State:
    """Return the state of a container that has ended so. Pure."""
    state = msgspec.structs.replace(
        state,
        pid=0,
        start_time=0,
        exit_code=ending.exit_code,
        exit_unknown=ending.unknown,
        oom_killed=event.oom_killed,
        finished_at_ns=event.finished_at_ns,
        error="how it ended is not known: its shim and the keeper were both killed" if ending.unknown else "",
        endpoints=(),
        ports=(),
        ending=ending,
    )
    again = wanted(policy, state)
    status = Status.RESTARTING if again else Status.EXITED
    return msgspec.structs.replace(state, status=status, restart_count=state.restart_count + again)


def _after_exit(core: Core, container: Container) -> None:
    if container.committing or container.restarts:
        what = f"record the end of {container.name}"
        core.janitor.later(what, lambda: _after_exit(core, container), _COMMIT_S)
        return
    with container.lock:
        if container.removed or container.running:
            return
        _look_around(core, container)
        if container.body.host_config.auto_remove:
            from sampan.engine.removing import discard

            discard(core, container)
        else:
            settle(core, container)


def _look_around(core: Core, container: Container) -> None:
    """Add to a container's end, if it was no good one, what need not be known at once, or was not yet."""
    state = container.state
    if state.ending and state.exit_code and state.ending.at_ns == state.finished_at_ns:
        container.update(ending=looked_around(core, container, state.ending))


def looked_around(core: Core, container: Container, ending: Ending) -> Ending:
    """Complete an end of just now by what the kernel's log has of it, and by which disks are full."""
    ending = endings.with_kernel_records(ending, container.id, container.state.oom_killed, core.kernel_log)
    if ending.full_disks or not ending.exit_code:
        return ending
    disks = endings.full_disks([("its files", core.dirs.container(container.id)), *_volumes(container)])
    return msgspec.structs.replace(ending, full_disks=disks)


def _volumes(container: Container) -> Iterator[tuple[str, str]]:
    """Yield the volumes that are directories of ours: a server that another one's name leads to may not answer."""
    for mount in container.mounts:
        if mount.type == "volume" and not is_device(mount.driver_options):
            yield f"the volume {mount.name}", mount.source


def settle(core: Core, container: Container) -> None:
    """Write an exit down and let the shim go, if that is not done yet. With the lock held."""
    channel = container.shim
    if channel is None or container.running:
        return
    core.save(container)
    container.shim = None
    remains.see_off(core, container.id, remains.forget(channel))
    channel.close()
    hooking.over(core, container.id)
