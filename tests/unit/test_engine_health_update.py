"""What `update` makes of a container's health check."""

from __future__ import annotations

import pytest

from sampan.engine.health_update import merged
from sampan.errors import InvalidInput
from sampan.spec.docker import ContainerCreate, HealthConfig, HealthUpdate, HostConfig

S = 10**9
STARTUP = {"sampan.health-startup-cmd": "up", "sampan.health-startup-retries": "3"}
BODY = ContainerCreate(
    healthcheck=HealthConfig(test=("CMD", "a"), interval=S), host_config=HostConfig(annotations={"a": "b", **STARTUP})
)
OFF = HealthUpdate(healthcheck=HealthConfig(test=("NONE",)))


def test_what_is_given_takes_the_place_of_what_was() -> None:
    given = HealthUpdate(healthcheck=HealthConfig(retries=7), annotations={"sampan.health-startup-retries": "9"})

    found = merged(BODY, given)

    assert found.healthcheck == HealthConfig(test=("CMD", "a"), interval=S, retries=7)
    assert found.host_config.annotations == {"a": "b", **STARTUP, "sampan.health-startup-retries": "9"}


def test_without_a_health_check_there_is_no_startup_check_either_and_one_may_come_again() -> None:
    off = merged(BODY, OFF)

    assert off.host_config.annotations == {"a": "b"}
    again = merged(off, HealthUpdate(healthcheck=HealthConfig(test=("CMD-SHELL", "b"))))
    assert again.healthcheck == HealthConfig(test=("CMD-SHELL", "b"), interval=S)


@pytest.mark.parametrize(
    ("body", "given", "message"),
    [
        (ContainerCreate(), HealthUpdate(healthcheck=HealthConfig(retries=3)), "healthcheck command is not set"),
        (ContainerCreate(), HealthUpdate(annotations=STARTUP), "healthcheck command is not set"),
        (
            merged(BODY, OFF),
            HealthUpdate(annotations={"sampan.health-startup-retries": "3"}),
            "startup healthcheck command is not set",
        ),
        (
            ContainerCreate(),
            HealthUpdate(annotations={"sampan.health-on-failure": "kill"}),
            "cannot set on-failure action to kill without a health check",
        ),
        (BODY, HealthUpdate(annotations={"sampan.rootfs": "/"}), "can't update annotation sampan.rootfs"),
        (BODY, HealthUpdate(annotations={"sampan.health-on-failure": "cry"}), "invalid health-on-failure action"),
        (BODY, HealthUpdate(healthcheck=HealthConfig(interval=1)), "Interval in Healthcheck cannot be less than 1ms"),
    ],
)
def test_what_makes_no_sense_is_refused(body: ContainerCreate, given: HealthUpdate, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        merged(body, given)
