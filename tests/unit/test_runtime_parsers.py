"""What the container's own files say: passwd, group, the first bytes of a program."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given, strategies as st

from sampan.errors import CommandNotFound, InvalidInput, NotExecutable
from sampan.runtime import diagnose, reap
from sampan.runtime.diagnose import describe, parse_elf, parse_shebang
from sampan.runtime.passwd import Identity, look_up, of_number

PASSWD = b"""# a comment
root:x:0:0:root:/root:/bin/sh
web:x:33:33:www:/srv:/bin/false
short:x:5
odd:x:notanumber:1::/:
+nis
home:x:40:40:::
dup:x:33:99::/dup:
"""
GROUP = b"root:x:0:\nweb:x:33:\nextra:x:44:web,other\nempty:x:\nmore:x:55:web\n"


@pytest.mark.parametrize(
    ("user", "add", "who"),
    [
        ("", (), Identity(0, 0, (0,), "/root")),
        ("root", (), Identity(0, 0, (0,), "/root")),
        ("web", (), Identity(33, 33, (33, 44, 55), "/srv")),
        ("33", (), Identity(33, 33, (33, 44, 55), "/srv")),
        ("web:extra", (), Identity(33, 44, (44,), "/srv")),
        ("web:9", (), Identity(33, 9, (9,), "/srv")),
        ("1000", (), Identity(1000, 0, (0,), "/")),
        ("1000:1001", (), Identity(1000, 1001, (1001,), "/")),
        (":extra", (), Identity(0, 44, (44,), "/root")),
        ("home", (), Identity(40, 40, (40,), "/")),
        ("web", ("more", "7"), Identity(33, 33, (33, 44, 55, 7), "/srv")),
        ("web:web", ("44",), Identity(33, 33, (33, 44), "/srv")),
    ],
)
def test_users_are_found_as_docker_finds_them(user: str, add: tuple[str, ...], who: Identity) -> None:
    assert look_up(user, PASSWD, GROUP, add=add) == who


@pytest.mark.parametrize(
    ("user", "add", "says"),
    [
        ("nobody", (), "unable to find user nobody: no matching entries in passwd file"),
        ("web:none", (), "unable to find group none: no matching entries in group file"),
        ("web", ("none",), "unable to find group none"),
        ("-1", (), "unable to find user -1"),
        ("99999999999", (), "uids and gids must be in range"),
        ("odd", (), "unable to find user odd"),
    ],
)
def test_names_that_are_not_there_are_refused(user: str, add: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        look_up(user, PASSWD, GROUP, add=add)


def test_numbers_are_taken_as_they_are() -> None:
    assert of_number(33, 5, (1, 2), PASSWD, GROUP, ("extra",)) == Identity(33, 5, (1, 2, 44), "/srv")
    assert of_number(7, 8, (), b"", b"", ()) == Identity(7, 8, (), "/")


@given(st.text(max_size=20), st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_a_passwd_file(user: str, passwd: bytes, group: bytes) -> None:
    try:
        found = look_up(user, passwd, group)
    except InvalidInput:
        return
    assert 0 <= found.uid < 2**32
    assert 0 <= found.gid < 2**32
    assert found.home


@given(st.sampled_from(["a", "b_c", "x-y"]), st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2))
def test_a_line_that_is_there_is_found(name: str, uid: int, gid: int) -> None:
    line = f"{name}:x:{uid}:{gid}::/h:\n".encode()

    assert look_up(name, b"zz:x:1:1::/:\n" + line, b"").uid == uid
    assert look_up(f"{name}:{gid}", line, b"") == Identity(uid, gid, (gid,), "/h")


# -------------------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize(
    ("head", "path", "carriage_return"),
    [
        (b"#!/bin/sh\n", "/bin/sh", False),
        (b"#!  /bin/sh -e\n", "/bin/sh", False),
        (b"#!/usr/bin/env python3\n", "/usr/bin/env", False),
        (b"#!/bin/sh\r\n", "/bin/sh", True),
        (b"#!/bin/sh -e\r\n", "/bin/sh", True),
        (b"#!\n", "", False),
        (b"#!\t/bin/sh\t-x\n", "/bin/sh", False),
        (b"#!/bin/sh", "/bin/sh", False),
    ],
)
def test_shebangs(head: bytes, path: str, carriage_return: bool) -> None:
    assert parse_shebang(head) == (path, carriage_return)


@given(st.binary(max_size=300))
def test_any_bytes_have_a_shebang_or_none(tail: bytes) -> None:
    found = parse_shebang(b"#!" + tail)

    assert found is not None
    assert "\n" not in found.path
    assert parse_shebang(b"x" + tail) is None


def elf(machine: int = 62, loader: bytes = b"/lib64/ld.so\0", wide: bool = True, order: str = "<") -> bytes:
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    if wide:
        head = struct.pack(f"{order}HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        table = struct.pack(f"{order}IIQQQQQQ", 3, 4, 120, 0, 0, len(loader), len(loader), 1)
    else:
        head = struct.pack(f"{order}HHIIIIIHHHHHH", 2, machine, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        table = struct.pack(f"{order}IIIIIIII", 3, 84, 0, 0, len(loader), len(loader), 4, 1)
    return ident + head + table + loader


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_elf_files_of_both_widths_and_orders(wide: bool, order: str) -> None:
    assert parse_elf(elf(183, wide=wide, order=order)) == ("aarch64", "/lib64/ld.so")


def test_a_real_program_is_read() -> None:
    with open("/bin/sh", "rb") as file:
        found = parse_elf(file.read(4096))

    assert found is not None
    assert found.machine == os.uname().machine
    assert os.path.exists(found.loader)


@given(st.binary(max_size=400))
def test_any_bytes_are_an_elf_file_or_none(tail: bytes) -> None:
    parse_elf(b"\x7fELF" + tail)
    describe(b"\x7fELF" + tail, "x86_64", lambda _: False)


@given(st.data())
def test_a_damaged_elf_file_never_breaks_the_reader(data: st.DataObject) -> None:
    whole = bytearray(elf())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))

    describe(bytes(whole[: data.draw(st.integers(0, len(whole)))]), "x86_64", lambda _: True)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"", "the file is empty"),
        (b"hello", "neither a program nor a script"),
        (b"\x7fELF", "cut short"),
        (elf(183), "it is a program for aarch64, and this machine is x86_64"),
        (elf(9999), "it is a program for machine 9999"),
        (elf(3, wide=False), "its loader /lib64/ld.so is missing"),  # 32-bit programs run here, with a loader
        (elf(), "its loader /lib64/ld.so is missing"),
        (b"#!/bin/bash\n", "its interpreter /bin/bash is missing"),
        (b"#!/bin/sh\r\n", "ends in a carriage return"),
        (b"#!\n", "names no interpreter"),
    ],
)
def test_why_a_program_is_not_executed(head: bytes, why: str) -> None:
    assert why in describe(head, "x86_64", lambda _: False)[0]


def test_nothing_is_said_of_a_program_that_looks_right() -> None:
    assert describe(elf(), "x86_64", lambda _: True) == ("", "")
    assert describe(b"#!/bin/sh\n", "x86_64", lambda _: True) == ("", "")


def test_a_program_is_looked_for_in_path(tmp_path) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "program").write_text("")
    (tmp_path / "program").chmod(0o755)

    assert diagnose.find("program", f"/none:{tmp_path}") == f"{tmp_path}/program"
    assert diagnose.find("./plain", "") == "./plain"
    for name in ("plain", "absent"):
        with pytest.raises(CommandNotFound, match=rf'exec: "{name}": executable file not found in \$PATH'):
            diagnose.find(name, str(tmp_path))


def test_a_directory_in_the_way_is_not_found_and_not_executable(tmp_path) -> None:
    (tmp_path / "file").write_text("")

    assert isinstance(diagnose.why(f"{tmp_path}/file/x", NotADirectoryError(20, "x"), "x86_64"), CommandNotFound)
    assert isinstance(diagnose.why(str(tmp_path), PermissionError(13, "x"), "x86_64"), NotExecutable)


def test_the_reaper_finds_its_arguments() -> None:
    with open("/proc/self/stat", "rb") as file:
        start, end = reap.arguments_of(file.read())

    assert 0 < start < end
