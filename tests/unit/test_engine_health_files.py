"""Where runs of health checks are noted besides the container's own record."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.engine.health_files import placed, write
from sampan.engine.health_options import health_log
from sampan.errors import SampanError
from sampan.spec.annotations import HEALTH_LOG_DESTINATION
from sampan.spec.docker import ContainerCreate, HostConfig
from sampan.spec.state import Health


def directory_of(path: Path) -> str:
    given = ContainerCreate(image="i", host_config=HostConfig(annotations={HEALTH_LOG_DESTINATION: str(path)}))
    return health_log(placed(given).host_config.annotations or {}).directory


def test_links_to_the_directory_are_followed_when_the_container_is_made_and_not_later(tmp_path: Path) -> None:
    real, other, link = tmp_path / "shared/real", tmp_path / "other", tmp_path / "link"
    for directory in (real, other):
        directory.mkdir(parents=True)
    link.symlink_to(real)
    directory = directory_of(link)

    write(directory, "ab", Health())
    assert [path.name for path in real.iterdir()] == ["ab-healthcheck.log"]
    real.rename(tmp_path / "shared/moved")  # by a container that has what is above
    real.symlink_to(other)
    with pytest.raises(SampanError, match=r"can't write .*ab-healthcheck\.log"):
        write(directory, "ab", Health())
    assert not list(other.iterdir())
