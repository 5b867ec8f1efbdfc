"""The key of a step in the cache: what its files depend on, and nothing else. Pure.

That is the content below it (layers by diff id), the instruction after substitution, and the digests of the files that
it reads. Secrets, agents and proxies are not in it, and neither are what a mount of type cache holds and how much
memory a step may use. `Facts` are the same in words, for `why`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, assert_never

import msgspec

from sampan.spec.build import (
    Add,
    BindMount,
    CacheMount,
    Copy,
    NoFiles,
    Origin,
    OriginKind,
    Remote,
    Run,
    SecretMount,
    SshMount,
    TmpfsMount,
    Workdir,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampan.spec.build import InlineFile, Mount, Step

_VERSION = "1"
"""Of what keys are made of: another one makes all that is kept unfindable."""

Fact = tuple[str, str]


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a step reads beside its instruction.

    `files` are digests of selections by what they are for: "" are the sources of COPY and ADD, else the target of a
    mount. `below` says how the parent came about, for people: "FROM debian:12", "RUN make".
    """

    parent: tuple[str, ...]  # diff ids, lowest first
    below: str
    files: tuple[Fact, ...] = ()
    platform: str = ""
    epoch_s: int | None = None
    add_hosts: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key was made of."""

    instruction: str  # as the Dockerfile has it
    parent: str
    below: str
    values: tuple[Fact, ...]  # what is given, by what people call it; in the order in which it is compared
    files: tuple[Fact, ...] = ()


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key, and what it was made of."""

    id: str  # sha256:…
    facts: Facts


def parent_id(diff_ids: Sequence[str]) -> str:
    """Name the content of layers that lie on each other."""
    return digest(*diff_ids)


def key(step: Step, inputs: Inputs) -> Key | None:
    """Return the key of a step; None for one that makes no files."""
    if step.empty_layer:
        return None
    facts = Facts(
        instruction=step.written or step.text,
        parent="" if _stands_alone(step) else parent_id(inputs.parent),
        below="" if _stands_alone(step) else inputs.below,
        values=tuple(_values(step, inputs)),
        files=inputs.files,
    )
    parts = [_VERSION, facts.parent, *(part for fact in (*facts.values, *facts.files) for part in fact)]
    return Key(id=digest(*parts), facts=facts)


def digest(*parts: str) -> str:
    """Digest texts so that no two lists of them give the same."""
    hash = hashlib.sha256()
    for part in parts:
        encoded = part.encode(errors="surrogateescape")
        hash.update(b"%d:" % len(encoded))
        hash.update(encoded)
    return f"sha256:{hash.hexdigest()}"


def _stands_alone(step: Step) -> bool:
    """With --link, a layer is the same whatever lies below."""
    return isinstance(step.op, (Copy, Add)) and step.op.link


def _values(step: Step, inputs: Inputs) -> Iterator[Fact]:
    match step.op:
        case Run() as run:
            yield from _run(run)
            yield from (("--add-host", host) for host in inputs.add_hosts)
        case Copy() as copy:
            yield from _files(copy, "COPY")
        case Add() as add:
            yield from _files(add, "ADD")
            yield "--checksum", add.checksum
            yield "--keep-git-dir", str(add.keep_git_dir)
            yield "--unpack", str(add.unpack)
        case Workdir(path=path, user=user):
            yield "the directory", path
            yield "the user", user
        case NoFiles():
            return
        case _:
            assert_never(step.op)
    yield "the platform", inputs.platform
    yield "SOURCE_DATE_EPOCH", "" if inputs.epoch_s is None else str(inputs.epoch_s)


def _run(run: Run) -> Iterator[Fact]:
    yield "the command", "\0".join(run.argv)
    yield from (("the document " + file.name, file.text) for file in run.files)
    yield from (_variable(each) for each in run.env)
    yield "the user", run.user
    yield "the directory", run.workdir
    yield from ((f"--mount at {_target(mount)}", _mount(mount)) for mount in run.mounts)
    yield "--network", run.network
    yield "--security", run.security


def _variable(text: str) -> Fact:
    name, _, value = text.partition("=")
    return f"the variable {name}", value


def _target(mount: Mount) -> str:
    return mount.target or (mount.id if isinstance(mount, (SecretMount, SshMount)) else "")


def _mount(mount: Mount) -> str:
    match mount:
        case BindMount(origin=origin, source=source, readonly=readonly):
            return f"bind {_origin(origin)} {source} {readonly}"
        case CacheMount(id=id, origin=origin, source=source):
            return f"cache {id} {_origin(origin) if origin else ''} {source}"
        case TmpfsMount():
            return "tmpfs"
        case SecretMount(id=id, env=env, mode=mode, uid=uid, gid=gid):
            return f"secret {id} {env} {mode:o} {uid} {gid}"
        case SshMount(id=id, mode=mode, uid=uid, gid=gid):
            return f"ssh {id} {mode:o} {uid} {gid}"
        case _:
            assert_never(mount)


def _origin(origin: Origin) -> str:
    """What is read counts by its digest; that it comes from another place of the same content does not matter."""
    return OriginKind.SCRATCH if origin.kind is OriginKind.SCRATCH else ""


def _files(op: Copy | Add, verb: str) -> Iterator[Fact]:
    yield "the verb", verb
    for source in op.sources:
        yield "a source", source.value if isinstance(source, Remote) else source
    yield from (_document(file) for file in op.inline)
    yield "the destination", op.destination
    yield "--chown", op.owner
    yield "--chmod", op.mode
    yield "--link", str(op.link)
    yield "--parents", str(op.parents)
    yield from (("--exclude", pattern) for pattern in op.exclude)


def _document(file: InlineFile) -> Fact:
    return f"the document {file.name}", file.text
