"""Secrets: what `--secret` asks for, how it is mounted, and how they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.dirs import Dirs
from sampan.engine import mounts, secret_files
from sampan.engine.secret_uses import Use, asked
from sampan.engine.secrets import Secrets
from sampan.engine.store import Store
from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.spec.annotations import SECRETS
from sampan.spec.docker import ContainerCreate, HostConfig
from sampan.spec.runtime import Process


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("a", Use(number=0, secret="a", target="/run/secrets/a")),
        ("source=a,type=mount", Use(number=0, secret="a", target="/run/secrets/a")),
        ("a,target=", Use(number=0, secret="a", target="/run/secrets/a")),
        ("a,target=sub/b", Use(number=0, secret="a", target="/run/secrets/sub/b")),
        ("a,target=../../etc/b", Use(number=0, secret="a", target="/etc/b")),
        ("a,target=/../../b", Use(number=0, secret="a", target="/b")),
        ("a,uid=5,gid=6,mode=0400", Use(number=0, secret="a", target="/run/secrets/a", uid=5, gid=6, mode=0o400)),
        ("a,type=env", Use(number=0, secret="a", variable="a")),
        ("a,type=env,target=B", Use(number=0, secret="a", variable="B")),
    ],
)
def test_a_use_is_read_as_podman_reads_it(text: str, use: Use) -> None:
    assert asked({SECRETS: text}) == (use,)


@pytest.mark.parametrize(
    "text",
    [
        ",type=env", "type=env", "a,type", "a,type=file", "a,x=1", "a,uid=-1", "a,uid=x", "a,uid=4294967295", "a,uid=²",
        "a,mode=010000", "a,mode=0o400", "a,mode=", "a,type=env,uid=1", "a,type=env,mode=0400", "a,type=env,target=B=C",
        "a,target=/b\0c",
        "a\n", "a,uid=" + "1" * 5000, "a,mode=9",
    ],
)  # fmt: skip
def test_a_use_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="can't use secret"):
        asked({SECRETS: text})


def test_what_is_asked_for_twice_is_given_once_and_each_use_has_its_number() -> None:
    assert [(use.number, use.secret) for use in asked({SECRETS: "a\nb\na"})] == [(0, "a"), (1, "b")]
    assert asked({}) == asked(None) == ()


def wanted(text: str, *, binds: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    body = ContainerCreate(host_config=HostConfig(annotations={SECRETS: text}, binds=binds))
    return [(mount.type, mount.target) for mount in mounts.wanted(body)]


def test_files_are_in_a_tmpfs_unless_something_is_mounted_there_or_they_are_elsewhere() -> None:
    assert wanted("a") == [("tmpfs", "/run/secrets"), ("secret", "/run/secrets/a")]
    assert wanted("a", binds=("v1:/run/secrets",)) == [("volume", "/run/secrets"), ("secret", "/run/secrets/a")]
    assert wanted("a,target=/x") == [("secret", "/x")]
    assert wanted("a,type=env") == []


@pytest.mark.parametrize("text", ["a,target=/", "a\na,mode=0400", "a,target=/x\nb,target=/x"])
def test_one_place_can_t_have_two(text: str) -> None:
    with pytest.raises(InvalidInput):
        wanted(text)


def test_other_containers_do_not_get_them_with_the_volumes() -> None:
    given = mounts.wanted(ContainerCreate(host_config=HostConfig(annotations={SECRETS: "a"}, binds=("v1:/x",))))

    assert [mount.target for mount in mounts.inherit(given, readonly=False)] == ["/x"]


def test_a_variable_takes_the_place_of_one_that_has_its_name() -> None:
    process = Process(args=("true",), cwd="/", env=("A=1", "B=2"))

    assert secret_files.with_variables(process, {"A": "x=y"}).env == ("B=2", "A=x=y")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"{tmp_path}/state.db")
    yield store
    store.close()


@pytest.fixture
def secrets(tmp_path: Path, store: Store) -> Secrets:
    return Secrets(Dirs(str(tmp_path), str(tmp_path)), store)


def test_one_is_kept_for_its_owner_alone_and_found_by_name_and_id(
    secrets: Secrets, store: Store, tmp_path: Path
) -> None:
    secret, replaced = secrets.put("token", b"\0\xff", {"a": "b"})

    assert not replaced
    assert secrets.read("token") == secrets.read(secret.id) == secrets.read(secret.id[:6]) == b"\0\xff"
    assert list(Secrets(Dirs(str(tmp_path), str(tmp_path)), store)) == [secret]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets" / secret.id).stat().st_mode & 0o777 == 0o600


def test_a_name_is_taken_until_it_is_replaced_or_removed(secrets: Secrets, tmp_path: Path) -> None:
    first, _ = secrets.put("token", b"1", {})
    with pytest.raises(Conflict, match="secret token already exists"):
        secrets.put("token", b"2", {})
    assert secrets.read("token") == b"1"

    second, replaced = secrets.put("token", b"2", {"a": "b"}, replace=True)
    assert replaced
    assert secrets.read("token") == b"2"
    assert (second.created_ns, second.id != first.id) == (first.created_ns, True)
    secrets.remove("token")
    with pytest.raises(NotFound, match="secret token not found"):
        secrets.read("token")
    assert not list((tmp_path / "secrets").iterdir())


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", ".a", "a.", "-a", "a=b", "a,b", "a\n", "ü", "a" * 65])
def test_a_name_that_none_can_have_is_refused(secrets: Secrets, name: str) -> None:
    with pytest.raises(InvalidInput, match="invalid name"):
        secrets.put(name, b"x", {})


@pytest.mark.parametrize("size", [0, 512_000])
def test_data_of_another_size_is_refused(secrets: Secrets, size: int) -> None:
    with pytest.raises(InvalidInput, match="larger than 0 and less than 512000 bytes"):
        secrets.put("token", b"x" * size, {})
    assert not list(secrets)


def test_what_a_crash_has_left_is_swept(secrets: Secrets, tmp_path: Path) -> None:
    kept, _ = secrets.put("token", b"1", {})
    (tmp_path / "secrets" / "0123").write_bytes(b"half")

    secrets.sweep()

    assert [path.name for path in (tmp_path / "secrets").iterdir()] == [kept.id]
