"""What was asked for that something else asked for, or this host, makes void: each is said. Pure.

Docker takes all of these without a word. A script that has them goes on working; whoever reads its output learns it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine import health_options, health_policy, security
from sampan.engine.merge import joined
from sampan.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.spec.docker import ContainerCreate, HostConfig
    from sampan.spec.host import Host

_TIMES = ("interval", "timeout", "start_period", "start_interval", "retries")


def words(asked: ContainerCreate, full: ContainerCreate, host: Host, own_oom_score: int) -> list[str]:
    """Return a warning for each. `full` is the completed body, `own_oom_score` that of this process."""
    return [
        *_capabilities(asked.host_config),
        *_shared_memory(asked.host_config),
        *_labels(asked.host_config, host),
        *_oom_score(asked.host_config, host, own_oom_score),
        *_health(asked, full),
    ]


def _capabilities(hc: HostConfig) -> Iterator[str]:
    add, drop = ({name.upper().removeprefix("CAP_") for name in names or ()} for names in (hc.cap_add, hc.cap_drop))
    if hc.privileged and drop:
        yield "--cap-drop has no effect: --privileged gives all capabilities"
    elif "ALL" in add & drop:
        yield "--cap-drop ALL has no effect: --cap-add ALL gives all capabilities"
    elif both := sorted(add & drop):
        yield f"--cap-add {both[0]} has no effect: --cap-drop {both[0]} takes it away"


def _shared_memory(hc: HostConfig) -> Iterator[str]:
    if hc.shm_size and hc.ipc_mode == "none":
        yield "--shm-size has no effect: with --ipc none there is no /dev/shm"
    elif hc.shm_size and (hc.ipc_mode == "host" or joined(hc.ipc_mode)):
        yield f"--shm-size has no effect: with --ipc {hc.ipc_mode} /dev/shm is not its own"


def _labels(hc: HostConfig, host: Host) -> Iterator[str]:
    labels = [label for label in security.parse(hc.security_opt or ()).labels if label != "disable"]
    if labels and not host.selinux:
        yield f"--security-opt label={labels[0]} has no effect: this kernel runs without SELinux"


def _oom_score(hc: HostConfig, host: Host, own: int) -> Iterator[str]:
    if not hc.oom_score_adj or hc.oom_score_adj >= own:
        return
    if hc.userns_mode not in ("", "host"):  # whatever it may there, it is nothing on the host
        yield f"--oom-score-adj {hc.oom_score_adj} has no effect: in a user namespace it can't be below {own}"
    elif not host.may_raise_rlimits:
        yield f"--oom-score-adj {hc.oom_score_adj} has no effect: below {own} sampan would need CAP_SYS_RESOURCE"


def _health(asked: ContainerCreate, full: ContainerCreate) -> Iterator[str]:
    """Refuse what should be done to an unhealthy container where nothing checks its health, as Podman does."""
    annotations = full.host_config.annotations or {}
    action, startup = health_options.action(annotations), health_options.startup_check(annotations)
    health_options.health_log(annotations)
    if startup is None and (unused := [name for name in health_options.STARTUP if name in annotations]):
        yield f"--{unused[0].removeprefix('sampan.')} has no effect: there is no --health-startup-cmd"
    if health_policy.check_of(full):
        return
    if action != "none":
        raise InvalidInput(
            f"cannot set on-failure action to {action} without a health check", "give it one: --health-cmd"
        )
    if startup is not None:
        raise InvalidInput(
            "cannot set a startup healthcheck when there is no regular healthcheck", "give it one: --health-cmd"
        )
    given = asked.healthcheck
    set_ = [f"health-{name.replace('_', '-')}" for name in _TIMES if given and not given.test and getattr(given, name)]
    set_ += [name.removeprefix("sampan.") for name in health_options.LOG if name in annotations]
    if set_:
        yield f"--{set_[0]} has no effect: there is no --health-cmd, nor one of the image"
