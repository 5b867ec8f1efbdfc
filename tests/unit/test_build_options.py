"""What the flags of `build` mean, and how wrong ones are refused."""

from __future__ import annotations

import base64
import io
import os
import socket
import struct
import tarfile

import pytest

from sampan.cli.building import contexts, outputs, values
from sampan.cli.building.receiving import Answer
from sampan.cli.failure import Failure


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_secret_is_read_from_its_file(here):
    (here / "token").write_bytes(b"s3cret\n")

    found = values.secret("id=mine,src=token")

    assert found == {"id": "mine", "value": base64.b64encode(b"s3cret\n").decode()}


@pytest.mark.parametrize("text", ["id=TOKEN", "id=TOKEN,env=TOKEN", "type=env,id=TOKEN,src=TOKEN", "env=TOKEN"])
def test_a_secret_is_a_variable(text, monkeypatch):
    monkeypatch.setenv("TOKEN", "x")

    assert values.secret(text) == {"id": "TOKEN", "value": "eA=="}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id=a,src=/no/such", "no such file"),
        ("id=a,env=NO_SUCH_VARIABLE", "is not set"),
        ("a", "invalid field 'a' must be a key=value pair"),
        ("id=a,nope=1", "unexpected key 'nope' in 'nope=1'"),
        ("type=vault,id=a", 'unsupported secret type "vault"'),
        ("src=", "it has no id"),
    ],
)
def test_a_bad_secret_is_refused(text, message):
    with pytest.raises(Failure, match=message):
        values.secret(text)


def test_a_secret_of_more_than_500_kib_is_refused(here):
    (here / "big").write_bytes(b"x" * (500 * 1024 + 1))

    with pytest.raises(Failure, match="500 KiB"):
        values.secret("id=big,src=big")


def test_an_agent_is_the_one_of_the_session_or_a_socket(here, monkeypatch):
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind("agent.sock")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(here / "agent.sock"))

        assert values.ssh("default") == {"id": "default", "socket": f"{here}/agent.sock"}
        assert values.ssh("x=agent.sock") == {"id": "x", "socket": f"{here}/agent.sock"}


def test_a_key_is_no_agent(here, monkeypatch):
    (here / "id_ed25519").write_text("key")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    with pytest.raises(Failure, match="is no agent's socket"):
        values.ssh("default=id_ed25519")
    with pytest.raises(Failure, match="invalid empty ssh agent socket"):
        values.ssh("default")


@pytest.mark.parametrize(
    ("text", "kind", "attributes"),
    [
        ("out", "local", {"dest": "out"}),
        ("-", "tar", {"dest": "-"}),
        ("type=local,dest=out", "local", {"dest": "out"}),
        ("type=tar,dest=a.tar", "tar", {"dest": "a.tar"}),
        ("type=oci,dest=a.tar,compression=zstd", "oci", {"dest": "a.tar", "compression": "zstd"}),
        ("type=docker", "image", {}),
        ("type=image,name=x,push=true", "image", {"name": "x", "push": "true"}),
        ("type=registry,name=x", "image", {"name": "x", "push": "true"}),
        ('type=image,"name=a,b"', "image", {"name": "a,b"}),
        ("type=cacheonly", "cacheonly", {}),
    ],
)
def test_an_output_is_read(text, kind, attributes):
    assert values.output(text) == {"type": kind, "attributes": attributes}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dest=x,a=b", "type is required"),
        ("type=nope", 'exporter "nope"'),
        ("type=image,rewrite-timestamp=true", "unsupported: rewrite-timestamp of an output of type image"),
        ("type=local", "dest is required"),
        ("type=tar,x", "invalid value x"),
    ],
)
def test_a_bad_output_is_refused(text, message):
    with pytest.raises(Failure, match=message):
        values.output(text)


@pytest.mark.parametrize(
    ("text", "export", "found"),
    [
        ("a/b:c", False, [{"type": "registry", "attributes": {"ref": "a/b:c"}}]),
        (
            "a,b",
            False,
            [{"type": "registry", "attributes": {"ref": "a"}}, {"type": "registry", "attributes": {"ref": "b"}}],
        ),
        ("type=inline", True, [{"type": "inline", "attributes": {}}]),
        ("type=local,src=/c", False, [{"type": "local", "attributes": {"src": "/c"}}]),
        ("type=registry,ref=x,mode=max", True, [{"type": "registry", "attributes": {"ref": "x", "mode": "max"}}]),
    ],
)
def test_a_cache_is_read(text, export, found):
    assert values.cache(text, export=export) == found


@pytest.mark.parametrize("text", ["type=gha", "type=s3,bucket=x", "ref=x", "type=local", "type=inline"])
def test_a_cache_that_there_is_not_is_refused(text):
    with pytest.raises(Failure):
        values.cache(text, export=False)


def test_a_build_argument_without_a_value_is_this_environments(monkeypatch):
    monkeypatch.setenv("HERE", "1")

    assert values.pairs(["A=1=2", "HERE", "NOT_HERE", "B="], "x", own_values=True) == {"A": "1=2", "HERE": "1", "B": ""}


# ------------------------------------------------------------------------------------------------ contexts


def test_a_directory_is_named_with_what_is_seen_there(here):
    (here / "Dockerfile").write_text("FROM x")

    found = contexts.find(".", "")

    seen = here.stat()
    assert found.context == {"kind": "directory", "value": str(here), "device": seen.st_dev, "inode": seen.st_ino}
    assert (found.name, found.dockerfile) == ("Dockerfile", None)


@pytest.mark.parametrize("name", ["dockerfile", "Containerfile"])
def test_the_dockerfile_may_have_another_name(here, name):
    (here / name).write_text("FROM x")

    assert contexts.find(".", "").name == name


def test_a_dockerfile_in_the_context_is_named_and_one_outside_is_sent(here):
    (here / "context/sub").mkdir(parents=True)
    (here / "context/sub/D").write_text("FROM inside")
    (here / "Outside").write_text("FROM outside")
    (here / "Outside.dockerignore").write_text("*.o")

    inside = contexts.find("context", "context/sub/D")
    outside = contexts.find("context", "Outside")

    assert (inside.name, inside.dockerfile) == ("sub/D", None)
    assert (outside.name, outside.dockerfile, outside.ignore) == ("Outside", "FROM outside", "*.o")


def test_what_is_missing_is_said_in_dockers_words(here):
    with pytest.raises(Failure, match="failed to read dockerfile: open Dockerfile: no such file or directory"):
        contexts.find(".", "")
    with pytest.raises(Failure, match='unable to prepare context: path "nope" not found'):
        contexts.find("nope", "")


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("https://github.com/a/b.git#main:sub", "git"),
        ("git@github.com:a/b.git", "git"),
        ("github.com/a/b", "git"),
        ("git://x/y", "git"),
        ("https://x/y.tar.gz", "url"),
    ],
)
def test_a_url_is_a_repository_or_an_archive(where, kind):
    assert contexts.find(where, "").context == {"kind": kind, "value": where}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("base=docker-image://alpine:3", {"kind": "image", "value": "alpine:3"}),
        ("base=oci-layout:///l:tag", {"kind": "oci-layout", "value": "/l:tag"}),
        ("base=oci-layout:///l@sha256:ab", {"kind": "oci-layout", "value": "/l@sha256:ab"}),
        ("base=https://x/y.git", {"kind": "git", "value": "https://x/y.git"}),
    ],
)
def test_a_named_context_is_an_image_a_layout_or_a_place(text, source):
    assert contexts.named(text) == ("base", source)


@pytest.mark.parametrize("text", ["base", "=x", "base="])
def test_a_named_context_needs_a_name_and_a_value(text):
    with pytest.raises(Failure, match="expected key=value"):
        contexts.named(text)


def from_input(data, monkeypatch):
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    kept = os.dup(0)
    os.dup2(reading, 0)
    try:
        return contexts.find("-", "")
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reading)


def test_standard_input_is_a_dockerfile_or_an_archive(monkeypatch):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("Dockerfile"))

    text = from_input(b"FROM x\n", monkeypatch)
    tar = from_input(archive.getvalue(), monkeypatch)

    assert (text.dockerfile, text.context) == ("FROM x\n", None)
    assert (tar.archive, tar.context) == (archive.getvalue()[:512], {"kind": "tar"})


# ------------------------------------------------------------------------------------------------ what comes back


def frames(*pieces):
    return b"".join(struct.pack(">Q", len(piece)) + piece for piece in (*pieces, b""))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_events_and_files_come_in_any_pieces(size):
    data = b'{"event":"A"}\n{"event":"OutputBegan","number":0}\n' + frames(b"one\n", b"two") + b'{"event":"B"}\n'

    answer, got = Answer(data[i : i + size] for i in range(0, len(data), size)), []
    for event in answer.events():
        got.append(event["event"])
        if event["event"] == "OutputBegan":
            got.append(b"".join(answer.frames()))

    assert got == ["A", "OutputBegan", b"one\ntwo", "B"]


def test_an_answer_that_is_cut_off_is_an_error():
    answer = Answer([b'{"event":"OutputBegan"}\n\0\0\0\0\0\0\0\5ab'])
    next(answer.events())

    with pytest.raises(Failure, match="ends in the middle"):
        list(answer.frames())


def tar_of(*members):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, fields, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(content))
    return [data.getvalue()]


def local(where):
    return {"type": "local", "attributes": {"dest": str(where)}}


def test_a_local_output_is_unpacked_with_modes_and_links(tmp_path):
    outputs.write(
        local(tmp_path / "out"),
        tar_of(
            ("d", {"type": tarfile.DIRTYPE, "mode": 0o555}, b""),
            ("d/file", {"mode": 0o754, "mtime": 99, "uid": 77}, b"hi"),
            ("d/hard", {"type": tarfile.LNKTYPE, "linkname": "d/file"}, b""),
            ("soft", {"type": tarfile.SYMTYPE, "linkname": "d/file"}, b""),
            ("null", {"type": tarfile.CHRTYPE}, b""),
        ),
    )

    out = tmp_path / "out"
    assert (out / "soft").read_text() == "hi"
    assert os.readlink(out / "soft") == "d/file"
    seen = (out / "d/file").stat()
    assert (seen.st_mode & 0o7777, int(seen.st_mtime), seen.st_uid, seen.st_nlink) == (0o754, 99, os.getuid(), 2)
    assert (out / "d").stat().st_mode & 0o7777 == 0o555
    assert not (out / "null").exists()


def test_a_file_takes_the_place_of_what_is_there(tmp_path):
    (tmp_path / "a").symlink_to("elsewhere")

    outputs.write(local(tmp_path), tar_of(("a", {"mode": 0o644}, b"new")))

    assert (tmp_path / "a").read_text() == "new"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "members",
    [
        [("../x", {}, b"")],
        [("a", {"type": tarfile.SYMTYPE, "linkname": ".."}, b""), ("a/x", {}, b"")],
        [("a", {"type": tarfile.SYMTYPE, "linkname": "/tmp"}, b""), ("a/x/y", {}, b"")],
        [("h", {"type": tarfile.LNKTYPE, "linkname": "../outside"}, b"")],
    ],
)
def test_nothing_of_an_output_leads_out_of_its_directory(tmp_path, members):
    (tmp_path / "outside").write_text("old")

    with pytest.raises(Failure):
        outputs.write(local(tmp_path / "out"), tar_of(*members))

    assert {path.name for path in tmp_path.iterdir()} == {"outside", "out"}


def test_an_archive_gets_its_name_when_it_is_whole(tmp_path):
    target = tmp_path / "image.tar"
    target.write_text("old")

    def broken():
        yield b"new"
        raise Failure("cut")

    with pytest.raises(Failure):
        outputs.write({"type": "oci", "attributes": {"dest": str(target)}}, broken())
    kept = target.read_text()
    outputs.write({"type": "oci", "attributes": {"dest": str(target)}}, [b"new"])

    assert (kept, target.read_text()) == ("old", "new")


def test_places_that_can_not_be_written_are_refused_before_the_build(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(Failure, match="is a directory"):
        outputs.check({"type": "oci", "attributes": {"dest": str(tmp_path)}})
    with pytest.raises(Failure, match="not a directory"):
        outputs.check(local(tmp_path / "file"))
    with pytest.raises(Failure, match="no such directory"):
        outputs.check({"type": "tar", "attributes": {"dest": str(tmp_path / "no/x.tar")}})


def test_an_output_that_breaks_off_says_why():
    answer = Answer(
        [b'{"event":"OutputBegan"}\n' + struct.pack(">Q", 2) + b"ab" + b"\xff" * 8 + b'{"message":"disk full"}\n']
    )
    next(answer.events())

    with pytest.raises(Failure, match="disk full"):
        list(answer.frames())
