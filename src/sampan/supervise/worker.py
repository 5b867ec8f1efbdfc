"""The worker: forked by the keeper for a job that takes a core or a while; it answers and ends.

Of layers, and for builds, it may do several, one after another.
"""

from __future__ import annotations

import gc
import importlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import sampan
from sampan.errors import Failed, InvalidInput, SampanError, doing
from sampan.supervise import messages as m
from sampan.supervise.launcher import refusal
from sampan.supervise.parking import Parking

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    _Composing = m.Changes | m.Compose | m.Settle | m.Squash | m.Export
    _Building = m.SelectFiles | m.LayFiles | m.FetchFiles | m.FindSecrets | m.CompareLayers


def _installed() -> tuple[int, int]:
    found = os.stat(sampan.__file__)
    return found.st_ino, found.st_mtime_ns


_INSTALLED = _installed()
_IMPORTED = (
    "zstandard",
    "sampan.image.unpack",
    "sampan.image.pack",
    "sampan.supervise.composing",
    "sampan.supervise.building",
)
# Answers after which it does.
_GO_ON = m.Unpacked | m.Packed | m.FilesSelected | m.FilesFetched | m.SecretsFound | m.LayersCompared


def prepare() -> None:
    """Import, in the keeper before its first worker, what takes each of them a third of a small layer's time."""
    if _installed() == _INSTALLED:
        with suppress(ImportError):  # the worker tells what is missing
            for name in _IMPORTED:
                importlib.import_module(name)


def run(sock: socket.socket) -> None:
    """Do what the first request asks for. After a layer that went well there may be another: half of it is starting."""
    gc.enable()
    decoder = m.Decoder()
    try:
        while (frame := m.receive(sock, decoder)) and _serve(sock, frame):
            pass
    except OSError:  # its server has ended
        pass


def _serve(sock: socket.socket, frame: m.Frame) -> bool:
    """Do a job and answer; return whether another may follow."""
    if isinstance(frame.message, m.Unpack) and frame.message.size is not None:
        another = _unpack_patiently(sock, frame.seq, frame.message, frame.fds[0])
    elif isinstance(frame.message, m.MakeNamespaces):
        another = _hold_namespaces(sock, frame.seq, frame.message)
    else:
        answer = _answer(lambda: _do(frame, sock))
        m.send(sock, answer, frame.seq)
        another = isinstance(answer, _GO_ON)
    for fd in frame.fds if another else ():
        os.close(fd)
    return another


def _answer(do: Callable[[], m.Message]) -> m.Message:
    try:
        return do()
    except (SampanError, OSError) as e:
        return refusal(e)


def _do(frame: m.Frame, sock: socket.socket) -> m.Message:
    match frame.message:
        case m.Unpack():
            return _unpack(frame.message, frame.fds[0])
        case m.Pack():
            return _pack(frame.message, frame.fds[0])
        case m.Changes() | m.Compose() | m.Settle() | m.Squash() | m.Export():
            return _compose(frame.message, frame.fds, sock)
        case m.SelectFiles() | m.LayFiles() | m.FetchFiles() | m.FindSecrets() | m.CompareLayers():
            return _build(frame.message, frame.fds, sock)
        case m.StatPath() | m.ReadPath() | m.WritePath():
            return _carry(frame.message, frame.fds, sock)
        case m.Map():
            return _map(frame.message, frame.fds[0])
        case m.RunHooks():
            return _run_hooks(frame.message)
        case m.Remove(path=path):
            from sampan.kernel.trees import remove_tree

            remove_tree(path)
            return m.Done()
        case _:
            raise InvalidInput(f"a worker can't do {type(frame.message).__name__}")


def _run_hooks(job: m.RunHooks) -> m.Message:
    import msgspec

    from sampan.runtime import hooks
    from sampan.spec.runtime import ContainerState, Hook

    wanted = msgspec.json.decode(job.hooks, type=tuple[Hook, ...])
    state = msgspec.json.decode(job.state, type=ContainerState)
    if job.stage != "poststop":
        hooks.run(wanted, job.stage, state, job.directory)
    elif failed := hooks.run_all(wanted, job.stage, state, job.directory):
        raise failed[0]
    return m.Done()


def _compose(job: _Composing, fds: tuple[int, ...], sock: socket.socket) -> m.Message:
    _check_installed("read the container's files")
    from sampan.supervise import composing

    composing.end_with(sock)
    if isinstance(job, m.Compose):
        return composing.compose(job)
    if isinstance(job, m.Settle):
        return composing.settle(job)
    if isinstance(job, m.Squash):
        return composing.squash(job)
    return composing.export(job, fds[0]) if isinstance(job, m.Export) else composing.tell_changes(job, fds[0])


def _build(job: _Building, fds: tuple[int, ...], sock: socket.socket) -> m.Message:
    _check_installed("build")
    from sampan.supervise import building, composing

    composing.end_with(sock)
    return building.do(job, fds)


def _carry(job: m.StatPath | m.ReadPath | m.WritePath, fds: tuple[int, ...], sock: socket.socket) -> m.Message:
    _check_installed("copy the container's files")
    from sampan.supervise import archiving, composing

    composing.end_with(sock)
    match job:
        case m.StatPath():
            return archiving.stat_path(job)
        case m.ReadPath():
            return archiving.read_path(job, fds[0])
        case m.WritePath():
            return archiving.write_path(job, fds[0])


def _unpack(job: m.Unpack, fd: int, more: Callable[[int], int] | None = None) -> m.Unpacked:
    _check_installed("unpack")
    import msgspec

    from sampan.image.unpack import unpack_layer
    from sampan.spec.image import LayerLimits

    limits = msgspec.json.decode(job.limits, type=LayerLimits)
    layer = unpack_layer(
        fd,
        job.target,
        digest=job.digest,
        diff_id=job.diff_id,
        keep_blob=job.keep_blob,
        limits=limits,
        size=job.size,
        more=more,
    )
    return m.Unpacked(
        digest=layer.digest,
        diff_id=layer.diff_id,
        compressed_bytes=layer.compressed_bytes,
        content_bytes=layer.content_bytes,
        tar_bytes=layer.tar_bytes,
    )


def _pack(job: m.Pack, fd: int) -> m.Packed:
    _check_installed("pack")
    from sampan.image.compression import Compression
    from sampan.image.pack import pack_layer

    packed = pack_layer(job.layer, fd, compression=Compression(job.kind, job.level))
    return m.Packed(digest=packed.digest, size=packed.size, diff_id=packed.diff_id)


def _map(job: m.Map, fd: int) -> m.Done:
    _check_installed("map")
    import msgspec

    from sampan.image.map_report import Wanted, report

    wanted = Wanted(depth=job.depth, top=job.top, nodes=job.nodes)
    with doing("can't map"), open(fd, "wb", closefd=False) as file:
        file.write(msgspec.json.encode(report(job.layers, job.numbers, wanted)))
    return m.Done()


def _hold_namespaces(sock: socket.socket, seq: int, job: m.MakeNamespaces) -> bool:
    """Have a process in the namespaces until the other end is closed."""
    _check_installed("make namespaces")
    from sampan.kernel.namespaces import CLONE, setns
    from sampan.runtime.idmap import closing_fd, process_in
    from sampan.spec.runtime import IdMapping

    uids, gids = (
        tuple(IdMapping(container_id=inner, host_id=outer, size=size) for inner, outer, size in rows)
        for rows in (job.uid_mappings, job.gid_mappings)
    )
    try:
        kinds = CLONE.NEWNET | CLONE.NEWUSER
        if job.user_namespace:
            kinds = CLONE.NEWNET
            with closing_fd(os.open(job.user_namespace, os.O_RDONLY | os.O_CLOEXEC)) as fd:
                setns(fd, CLONE.NEWUSER)
        with doing("can't make a user namespace"), process_in(kinds, uids, gids) as pid:
            m.send(sock, m.NamespacesMade(pid=pid), seq)
            sock.recv(1)
    except (SampanError, OSError) as e:
        m.send(sock, refusal(e), seq)
    return False


def _check_installed(verb: str) -> None:
    # Not every module is imported by the keeper, which stays small: what is on the disk must be what it is.
    if _installed() != _INSTALLED:
        raise Failed(f"can't {verb}: sampan was upgraded since its keeper started", "run the command once more")


def _unpack_patiently(sock: socket.socket, seq: int, job: m.Unpack, fd: int) -> bool:
    """Unpack a layer whose input may come in several parts, from several servers; return whether all came from one."""
    try:
        parking = Parking(os.path.dirname(job.target), sock, seq)
    except OSError as e:
        m.send(sock, refusal(e), seq)
        return False
    answer = _answer(lambda: _unpack(job, fd, parking.more))
    try:
        while isinstance(answer, m.Unpacked) and not parking.answer(answer):
            os.close(parking.wait(answer.compressed_bytes))  # its server was killed: the next one wants the layer
    except SampanError as e:
        answer = refusal(e)
    if isinstance(answer, m.Unpacked):
        parking.close()
        return parking.undisturbed
    parking.remove()
    parking.answer(answer)
    return False
