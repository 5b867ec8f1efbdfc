"""Images mounted in a container beside its own: read-only or not, in part, pinned while they are needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.sampan import Sampan


@pytest.fixture(scope="module")
def layered(shared: Sampan, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make an image of three layers, of which the last removes a file and replaces another."""
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text(
        "FROM busybox\n"
        "RUN mkdir -p /data/sub && echo one >/data/a && echo two >/data/b && ln -s /data/sub /to && ln -s /../.. /out\n"
        "RUN echo three >/data/a && rm /data/b && echo four >/data/sub/c && chmod 700 /data/sub\n"
    )
    shared("build", "-q", "-t", "layered", context)
    return "layered"


def run(sampan: Sampan, *args: str) -> str:
    return sampan("run", "--rm", "--network", "none", *args).out


def test_an_image_shows_as_its_layers_together_and_nothing_can_be_written(sampan: Sampan, layered: str) -> None:
    mount = f"type=image,source={layered},target=/i"

    assert run(sampan, "--mount", mount, "busybox", "cat", "/i/data/a", "/i/data/sub/c") == "three\nfour\n"
    assert run(sampan, "--mount", mount, "busybox", "ls", "/i/data") == "a\nsub\n"
    refused = sampan("run", "--rm", "--mount", mount, "busybox", "touch", "/i/x", check=False)
    assert "Read-only file system" in refused.err
    own = run(
        sampan, "--mount", "type=image,src=busybox,dst=/i", "busybox", "sh", "-c", "ls /i/bin/sh; touch /i/x; true"
    )
    assert own == "/i/bin/sh\n"


@pytest.mark.parametrize(
    ("subpath", "said"), [("data", "a\nsub\n"), ("to", "c\n"), ("data/a", "/i\n"), ("out/data", "a\nsub\n")]
)
def test_a_part_of_an_image_is_mounted(sampan: Sampan, layered: str, subpath: str, said: str) -> None:
    for word in ("subpath", "image-subpath"):
        assert (
            run(sampan, "--mount", f"type=image,src={layered},dst=/i,{word}={subpath}", "busybox", "ls", "/i") == said
        )


@pytest.mark.parametrize("users", ["host", "remap"])
def test_what_is_written_to_an_image_goes_with_the_container(sampan: Sampan, layered: str, users: str) -> None:
    mount = f"type=image,src={layered},dst=/i,rw=true,subpath=data"
    script = "ls /i; echo mine >/i/a; rm -r /i/sub; touch /i/new; stat -c %u /i/a /i/new; ls /i"
    flags = ("--name", "one", "--network", "none", "--userns", users, "--mount", mount)

    first = sampan("run", *flags, "busybox", "sh", "-c", script).out
    assert first == "a\nsub\n0\n0\na\nnew\n" == sampan("start", "-a", "one").out, "a start begins anew"
    assert [mount["RW"] for mount in sampan.inspect("one")["Mounts"]] == [True]
    assert run(sampan, layered, "cat", "/data/a", "/data/sub/c") == "three\nfour\n"
    assert sampan("diff", "one").out == "A /i\n"
    sampan("rm", "one")


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("src=busybox,rw,subpath=bin/busybox", "bin/busybox is no directory, and so is read-only"),
        ("src=nothing", "No such image: nothing:latest"),
        ("src=busybox,subpath=none", "can't mount image busybox at /i: none not found"),
        ("src=busybox,subpath=../x", "subpath must be a relative path within the image"),
        ("src=host", "can't mount image host: it is this machine's own root"),
        ("src=", 'invalid mount config for type "image": field Source must not be empty'),
    ],
)
def test_what_can_not_be_mounted_is_said_and_nothing_is_left(sampan: Sampan, mount: str, message: str) -> None:
    refused = sampan("create", "--mount", f"type=image,dst=/i,{mount}", "busybox", "true", check=False)

    assert refused.code == 1
    assert refused.err.startswith("Error response from daemon: ")
    assert message in refused.err.splitlines()[0]
    assert sampan("ps", "-aq").out == ""


def test_a_mounted_image_stays_while_a_container_needs_it(sampan: Sampan) -> None:
    sampan("tag", "busybox", "other")
    with_change = sampan("commit", sampan("create", "busybox", "true").line, "pinned").line
    sampan("run", "-d", "--name", "user", "--mount", "type=image,src=pinned,dst=/i", "busybox", "sleep", "99")

    refused = sampan("rmi", with_change, check=False)
    assert refused.code == 1
    assert "is being used by running container" in refused.err
    sampan("rmi", "-f", "pinned")
    sampan("image", "prune", "-f")
    assert sampan("exec", "user", "ls", "/i/bin/sh").out == "/i/bin/sh\n"
    sampan("restart", "-t", "0", "user")
    assert sampan("exec", "user", "ls", "/i/bin/sh").out == "/i/bin/sh\n"


def test_inspect_and_cp_show_what_is_mounted(sampan: Sampan, layered: str, tmp_path: Path) -> None:
    sampan("create", "--name", "one", "--mount", f"type=image,src={layered},dst=/i", "busybox", "true")

    image = sampan("image", "inspect", "-f", "{{.Id}}", layered).line
    (mount,) = sampan.inspect("one")["Mounts"]
    assert mount == {
        "Type": "image", "Name": layered, "Source": image, "Destination": "/i", "Mode": "",
        "RW": False, "Propagation": "",
    }  # fmt: skip
    sampan("cp", "one:/i/data/a", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "three\n"
    assert (
        "-t overlay overlay -o lowerdir="
        in sampan("run", "--explain=sh", "--mount", f"type=image,src={layered},dst=/i", "busybox", "true").out
    )
