"""What was asked for and can have no effect is said, and the rest is not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sampan.engine import without_effect
from sampan.engine.merge import complete
from sampan.errors import InvalidInput
from sampan.spec.image import ExecutionConfig, HealthCheck
from support.engine import HOST, request


def words(
    host_config: dict[str, Any], image: ExecutionConfig | None = None, host: Any = HOST, **fields: Any
) -> list[str]:
    asked = request(host_config, **fields)
    return without_effect.words(asked, complete(asked, image or ExecutionConfig()), host, 0)


@pytest.mark.parametrize(
    ("host_config", "said"),
    [
        ({"Privileged": True, "CapDrop": ["NET_RAW"]}, "--cap-drop has no effect: --privileged gives all capabilities"),
        ({"CapAdd": ["all"], "CapDrop": ["ALL"]}, "--cap-drop ALL has no effect: --cap-add ALL gives all capabilities"),
        ({"CapAdd": ["CAP_CHOWN"], "CapDrop": ["chown"]}, "--cap-add CHOWN has no effect: --cap-drop CHOWN takes"),
        ({"ShmSize": 1, "IpcMode": "none"}, "--shm-size has no effect: with --ipc none there is no /dev/shm"),
        ({"ShmSize": 1, "IpcMode": "host"}, "--shm-size has no effect: with --ipc host /dev/shm is not its own"),
        ({"ShmSize": 1, "IpcMode": "container:a"}, "--shm-size has no effect: with --ipc container:a /dev/shm"),
        ({"SecurityOpt": ["label=type:x_t"]}, "--security-opt label=type:x_t has no effect: this kernel runs without"),
        ({"OomScoreAdj": -5}, "--oom-score-adj -5 has no effect: below 0 sampan would need CAP_SYS_RESOURCE"),
    ],
)
def test_what_can_have_no_effect_is_said(host_config: dict[str, Any], said: str) -> None:
    found = words(host_config)

    assert len(found) == 1
    assert found[0].startswith(said)


@pytest.mark.parametrize(
    "host_config",
    [
        {},
        {"CapAdd": ["CHOWN"], "CapDrop": ["ALL"]},
        {"CapAdd": ["ALL"], "CapDrop": ["CHOWN"]},
        {"Privileged": True, "CapAdd": ["CHOWN"]},
        {"ShmSize": 1, "IpcMode": "shareable"},
        {"IpcMode": "host"},
        {"OomScoreAdj": 5},
        {"SecurityOpt": ["label=disable"]},
    ],
)
def test_what_has_its_effect_is_not_spoken_of(host_config: dict[str, Any]) -> None:
    assert words(host_config) == []


def test_a_host_that_can_do_it_is_not_spoken_of() -> None:
    host = msgspec.structs.replace(HOST, may_raise_rlimits=True, selinux=True)

    assert words({"OomScoreAdj": -5, "SecurityOpt": ["label=type:x_t"]}, host=host) == []
    assert words({"OomScoreAdj": -5, "UsernsMode": "auto"}, host=host) == [
        "--oom-score-adj -5 has no effect: in a user namespace it can't be below 0"
    ]


def test_times_of_a_health_check_that_is_not_there() -> None:
    check = {"Healthcheck": {"StartPeriod": 10**9}}
    image = ExecutionConfig(healthcheck=HealthCheck(test=("CMD", "true")))

    assert words({}, **check) == ["--health-start-period has no effect: there is no --health-cmd, nor one of the image"]
    assert words({}, image, **check) == []
    assert words({}, Healthcheck={"Test": ["CMD", "true"], "Interval": 10**9}) == []


def test_nothing_is_done_to_the_unhealthy_where_nothing_checks() -> None:
    action = {"Annotations": {"sampan.health-on-failure": "kill"}}

    with pytest.raises(InvalidInput, match="cannot set on-failure action to kill without a health check"):
        words(action)
    assert words(action, Healthcheck={"Test": ["CMD", "true"]}) == []


def test_a_startup_check_needs_a_health_check() -> None:
    startup = {"Annotations": {"sampan.health-startup-cmd": "true"}}

    with pytest.raises(InvalidInput, match="cannot set a startup healthcheck when there is no regular healthcheck"):
        words(startup)
    assert words(startup, Healthcheck={"Test": ["CMD", "true"]}) == []


def test_what_is_about_a_startup_check_or_a_log_that_is_not_there() -> None:
    about = {"Annotations": {"sampan.health-startup-retries": "3"}}
    log = {"Annotations": {"sampan.health-max-log-count": "3"}}

    assert words(about, Healthcheck={"Test": ["CMD", "true"]}) == [
        "--health-startup-retries has no effect: there is no --health-startup-cmd"
    ]
    assert words(log) == ["--health-max-log-count has no effect: there is no --health-cmd, nor one of the image"]
