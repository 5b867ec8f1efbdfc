"""What a container's program may do, and the steps by which a process becomes it, computed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Unsupported
from sampan.runtime import ops
from sampan.spec import runtime as oci
from sampan.spec.defaults import seccomp
from sampan.spec.defaults.capabilities import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sampan.spec.host import Host

_UNLIMITED = 2**64 - 1
_USUAL_UMASK = 0o022


class Rights:
    """What the program may do here: what was asked for, less what this process can't give, each with a word."""

    def __init__(self, process: oci.Process, host: Host, *, other_user: bool) -> None:
        self._words: list[str] = []
        asked = process.capabilities or oci.Capabilities()
        # In a user namespace of its own a process has them all, over that namespace.
        have = frozenset(ALL) if other_user else host.capabilities
        self.capabilities = oci.Capabilities(
            bounding=self._given(asked.bounding, have),
            effective=self._given(asked.effective, have),
            permitted=self._given(asked.permitted, have),
            inheritable=self._given(asked.inheritable, have),
            # What is not permitted and inheritable as well can't be raised; capabilities(7). runc leaves it out, too.
            ambient=self._given(
                tuple(n for n in asked.ambient if n in asked.permitted and n in asked.inheritable), have
            ),
        )
        raise_limits = host.may_raise_rlimits and not other_user
        self.rlimits = tuple(self._clamped(r, dict(host.rlimits), raise_limits=raise_limits) for r in process.rlimits)
        self.warnings = tuple(dict.fromkeys(self._words))

    def _given(self, names: tuple[str, ...], have: frozenset[str]) -> tuple[str, ...]:
        for name in sorted(set(names) - have):
            self._words.append(f"{name} can't be given to the container: sampan does not have it here")
        return tuple(n for n in names if n in have)

    def _clamped(self, limit: oci.Rlimit, hard_limits: dict[str, int], *, raise_limits: bool) -> ops.SetRlimit:
        soft, hard = limit.soft, limit.hard
        most = _unlimited(hard_limits.get(limit.type, _UNLIMITED))
        if not raise_limits and most != _UNLIMITED and _unlimited(hard) > most:
            word = "unlimited" if _unlimited(hard) == _UNLIMITED else hard
            self._words.append(f"{limit.type} {word} was lowered to {most}, the most that sampan may give here")
            soft, hard = min(_unlimited(soft), most), most
        return ops.SetRlimit(limit.type, _none(soft), _none(hard))


def _unlimited(number: int) -> int:
    return _UNLIMITED if number < 0 else number


def _none(number: int) -> int | None:
    return None if _unlimited(number) == _UNLIMITED else number


def become_the_program(
    process: oci.Process, rights: Rights, spec: oci.Spec, *, at_start: Iterable[ops.Inside] = ()
) -> Iterator[ops.Inside]:
    """Give up all that the program is not to have; the filter last, for it may forbid the rest.

    `at_start` is done by the process as it is then, right before the program.
    """
    yield ops.ChangeDirectory(process.cwd)
    yield ops.SetUmask(_USUAL_UMASK if process.user.umask is None else process.user.umask)
    yield from rights.rlimits
    capabilities = rights.capabilities
    yield ops.DropBounding(capabilities.bounding)
    yield ops.BecomeUser()
    if process.no_new_privileges:
        yield ops.SetNoNewPrivileges()
    final = ops.SetCapabilities(
        capabilities.effective, capabilities.permitted, capabilities.inheritable, capabilities.ambient
    )
    filter = _filter(spec, capabilities)
    if filter and not process.no_new_privileges and "CAP_SYS_ADMIN" not in capabilities.effective:
        admin = "CAP_SYS_ADMIN"
        effective, permitted = (*capabilities.effective, admin), (*dict.fromkeys((*capabilities.permitted, admin)),)
        yield ops.SetCapabilities(effective, permitted, capabilities.inheritable, (), until_filtered=True)
        yield filter
        yield final
    else:
        yield final
        if filter:
            yield filter
    yield from at_start
    yield ops.Execute(process.args, process.env)


def agent(
    spec: oci.Spec, state: oci.ContainerState, status: str
) -> tuple[list[ops.ConnectListener], list[ops.DescribeProcess]]:
    """Return what is done for the program that answers the calls which the filter asks about."""
    profile = spec.linux.seccomp
    if profile is None or not _notifies(profile):
        return [], []
    state = msgspec.structs.replace(state, status=status)
    return [ops.ConnectListener(profile.listener_path)], [ops.DescribeProcess(state, profile.listener_metadata)]


def _notifies(profile: oci.Seccomp) -> bool:
    return any(rule.action == "SCMP_ACT_NOTIFY" for rule in profile.syscalls)


def _filter(spec: oci.Spec, capabilities: oci.Capabilities) -> ops.SetFilter | None:
    if (own := spec.linux.seccomp) is not None:
        return ops.SetFilter("spec", "", msgspec.json.encode(own), own.flags, _notifies(own))
    profile = spec.annotations.get(oci.SECCOMP, "unconfined")
    if profile == "unconfined":
        return None
    if profile != "default":
        return ops.SetFilter(profile)
    variant = seccomp.variant(capabilities.bounding)
    if variant is None:
        judged = ", ".join(sorted(seccomp.JUDGED & frozenset(capabilities.bounding)))
        raise Unsupported(
            f"can't set the default seccomp filter: none is compiled for the capabilities {judged or '(none)'}",
            "put a profile into linux.seccomp, or give the default capabilities, all or none",
        )
    return ops.SetFilter(profile, variant)
