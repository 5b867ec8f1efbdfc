"""`commit`: an image of a container. Its layer is what the container has changed, made in the time that this takes."""

from __future__ import annotations

from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING

import msgspec

from sampan.build.changes import apply
from sampan.engine import directory_roots, stopping, systemd
from sampan.engine.changing import WORK_S, own_mounts, rootfs_of
from sampan.engine.core import now_ns
from sampan.errors import Conflict, InvalidInput, Unsupported, doing
from sampan.spec.decoding import convert
from sampan.spec.image import ExecutionConfig, HealthCheck, HistoryEntry, ImageConfig, RootFS, decode_config
from sampan.spec.state import Status
from sampan.supervise import messages
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.engine.requests import CommitQuery
    from sampan.image.layers import Pins
    from sampan.spec.docker import ContainerConfig, ContainerCreate
    from sampan.spec.image import Rootfs
    from sampan.spec.reference import Reference

EMPTY_TAR = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""The digest of a tar of nothing: such a layer is left out, as Docker does."""


def commit(core: Core, container: Container, query: CommitQuery, given: ContainerConfig | None) -> str:
    """Make an image of what a container is now; return its id. `given` is the configuration in the request, if any."""
    reference = _reference(core, query.reference)
    rootfs = rootfs_of(core, container)
    parent = _parent(core, container, rootfs, squash=query.squash)
    execution = configuration(container.body, parent.execution, given, query.changes)
    with core.images.working() as pins, doing(f"can't commit {container.name}"):
        layers = () if query.squash else parent.diff_ids
        for diff_id in layers:
            pins.add(diff_id)
        with _held(container):
            diff_id = _compose(core, container, rootfs, query, pins)
        step = HistoryEntry(
            created=format_timestamp(now_ns() if query.epoch_s is None else query.epoch_s * 10**9),
            created_by=" ".join(container.body.cmd or ()) or None,
            author=query.author or None,
            comment=query.comment or None,
            empty_layer=True if diff_id == EMPTY_TAR else None,
        )
        if diff_id != EMPTY_TAR:
            layers = (*layers, diff_id)
        config = msgspec.structs.replace(
            _platform(parent),
            created=step.created,
            author=query.author or None,
            config=execution,
            rootfs=RootFS(diff_ids=layers),
            history=(step,) if query.squash else (*(parent.history or ()), step),
        )
        image = core.images.add(msgspec.json.encode(config), tags=(reference,) if reference else ())
    if reference:
        core.bus.tell("image", "tag", image.id, {"name": reference.familiar()})
    named = {"comment": query.comment, "imageID": image.id, "imageRef": reference.familiar() if reference else ""}
    core.tell(container, "commit", named)
    return image.id


def _reference(core: Core, text: str) -> Reference | None:
    if not text:
        return None
    reference = core.reference(text)
    if reference.digest is not None:
        raise InvalidInput("cannot commit to digest reference", "give the image a name and a tag")
    core.images.check_name(reference)
    return reference


def _parent(core: Core, container: Container, rootfs: Rootfs, *, squash: bool) -> ImageConfig:
    """Return the configuration of the image that the container is made of, which may have no name any more."""
    if container.image_id and "/" not in rootfs.lowerdirs:
        return decode_config(core.images.document(container.image_id))
    if not squash:
        where = "its image is this machine's own root" if container.image_id else "it runs from a directory"
        raise Unsupported(
            f"can't commit {container.name}: {where}, which is no layer of an image",
            "`sampan diff` tells what it has changed; `sampan commit --squash` makes an image of all its files, "
            "`sampan export` a tar",
        )
    if not container.image_id:
        return directory_roots.image_config(core.host.architecture)
    return core.images.resolve(container.image_id).config


def _platform(parent: ImageConfig) -> ImageConfig:
    return ImageConfig(
        architecture=parent.architecture,
        os=parent.os,
        variant=parent.variant,
        os_version=parent.os_version,
        os_features=parent.os_features,
    )


@contextmanager
def _held(container: Container) -> Iterator[None]:
    """Let nobody start, pause or remove a container in the block."""
    with container.lock:
        if container.removed or container.state.status in (Status.REMOVING, Status.DEAD):
            raise Conflict(f"You cannot commit container {container.id} which is being removed")
        container.committing = True
        try:
            yield
        finally:
            container.committing = False


def _compose(core: Core, container: Container, rootfs: Rootfs, query: CommitQuery, pins: Pins) -> str:
    """Make the layer; return its diff id."""
    with core.images.layers.scratch() as target, closing(core.worker()) as channel:
        job = messages.Compose(
            target=target,
            layers=rootfs.layers,
            root=core.snapshots.root(rootfs),
            own=own_mounts(core, container),
            newest_ns=None if query.epoch_s is None else query.epoch_s * 10**9,
            whole=query.squash,
        )
        with stopping.still(core, container) if query.pause else nullcontext():
            layer = channel.ask(job, messages.Unpacked, timeout_s=WORK_S)
        if layer.diff_id != EMPTY_TAR:
            core.images.layers.adopt(target, layer, pins)
    return layer.diff_id


# ------------------------------------------------------------------------------------------------- the configuration


def configuration(
    body: ContainerCreate, image: ExecutionConfig, given: ContainerConfig | None, changes: tuple[str, ...]
) -> ExecutionConfig:
    """Return the new image's: what the request gives, then the container's, and the changes. Pure.

    What names this container only (its host name, its terminal) is no part of it: the same content, the same digest.
    """
    own = _execution(body)
    own = msgspec.structs.replace(
        own,
        healthcheck=_health(own.healthcheck, image.healthcheck),
        stop_signal=image.stop_signal if systemd.gave_signal(body) else own.stop_signal,
    )
    changed = apply(_execution(given) if given is not None else own, changes)
    return in_order(merge(changed, own))


def _execution(config: ContainerConfig) -> ExecutionConfig:
    health = config.healthcheck
    return ExecutionConfig(
        user=config.user or None,
        exposed_ports=config.exposed_ports or None,
        env=tuple(config.env) if config.env else None,
        entrypoint=tuple(config.entrypoint) if config.entrypoint else None,
        cmd=tuple(config.cmd) if config.cmd else None,
        healthcheck=convert(health, HealthCheck, from_attributes=True) if health is not None else None,
        args_escaped=config.args_escaped or None,
        volumes=config.volumes or None,
        working_dir=config.working_dir or None,
        labels=config.labels or None,
        stop_signal=config.stop_signal or None,
        stop_timeout=config.stop_timeout,
        on_build=tuple(config.on_build) if config.on_build else None,
        shell=tuple(config.shell) if config.shell else None,
    )


def merge(first: ExecutionConfig, second: ExecutionConfig) -> ExecutionConfig:
    """Complete a configuration by another, as Docker's daemon does: daemon/commit.go, merge."""
    names = {text.partition("=")[0] for text in first.env or ()}
    env = (*(first.env or ()), *(text for text in second.env or () if text.partition("=")[0] not in names))
    cmd, entrypoint = first.cmd, first.entrypoint
    if not entrypoint:
        cmd = cmd or second.cmd
        entrypoint = second.entrypoint if entrypoint is None else entrypoint
    return msgspec.structs.replace(
        first,
        user=first.user or second.user,
        exposed_ports={**(second.exposed_ports or {}), **(first.exposed_ports or {})} or None,
        env=env or None,
        labels={**(second.labels or {}), **(first.labels or {})} or None,
        cmd=cmd,
        entrypoint=entrypoint,
        healthcheck=_health(first.healthcheck, second.healthcheck),
        working_dir=first.working_dir or second.working_dir,
        volumes={**(second.volumes or {}), **(first.volumes or {})} or None,
        stop_signal=first.stop_signal or second.stop_signal,
        stop_timeout=second.stop_timeout if first.stop_timeout is None else first.stop_timeout,
        shell=first.shell or second.shell,
    )


def in_order(config: ExecutionConfig) -> ExecutionConfig:
    """Put the names of what has no order into one, as Go writes them."""
    given = {name: getattr(config, name) for name in ("exposed_ports", "labels", "volumes")}
    return msgspec.structs.replace(config, **{name: dict(sorted(d.items())) for name, d in given.items() if d})


def _health(first: HealthCheck | None, second: HealthCheck | None) -> HealthCheck | None:
    """Fill in what the first leaves at its default; a test of its own keeps the second's times."""
    if first is None or second is None:
        return first or second
    return HealthCheck(
        test=first.test or second.test,
        interval=first.interval or second.interval,
        timeout=first.timeout or second.timeout,
        start_period=first.start_period or second.start_period,
        start_interval=first.start_interval or second.start_interval,
        retries=first.retries or second.retries,
    )
