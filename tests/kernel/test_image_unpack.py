"""Layers on a real filesystem: what is unpacked, and what is refused with nothing left behind."""

import gzip
import os
import stat
import struct
import subprocess
import tarfile
import time

import pytest

from sampan.errors import Failed, InvalidInput, SampanError
from sampan.image.unpack import read_record, unpack_layer
from sampan.kernel import mount
from sampan.kernel.trees import remove_tree
from support.child import in_child
from support.tars import archive, device, directory, hardlink, member, pax, symlink, written

ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, 7, id)
    for tag, id in ((1, 2**32 - 1), (2, 1000), (4, 2**32 - 1), (16, 2**32 - 1), (32, 2**32 - 1))
)
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep


def unpack(base, data, **options):
    path = base / "data"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return unpack_layer(fd, str(base / "layer"), **options)
    finally:
        os.close(fd)
        path.unlink()


@pytest.fixture
def layer(tmp_path):
    """Unpacks members and returns the directory they are in."""

    def make(*members):
        unpack(tmp_path, archive(*members))
        return tmp_path / "layer" / "diff"

    return make


def opaque(path):
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def is_whiteout(path):
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_files_get_mode_owner_time_and_attributes(layer):
    info, content = member("bin/ping", b"content", mode=0o4755, uid=100_000, gid=70_000, mtime=1.5)
    info.pax_headers = {"SCHILY.xattr.user.a": "b", "mtime": "1600000000.123456789"}

    top = layer((info, content))

    status = os.lstat(top / "bin/ping")
    assert stat.S_IMODE(status.st_mode) == 0o4755
    assert (status.st_uid, status.st_gid) == (100_000, 70_000)
    assert status.st_mtime_ns == 1_600_000_000_123_456_789
    assert (top / "bin/ping").read_bytes() == b"content"
    assert os.getxattr(top / "bin/ping", "user.a") == b"b"


def test_file_capabilities_survive(tmp_path):
    record = b"SCHILY.xattr.security.capability=" + CAPABILITY + b"\n"
    record = b"%d " % (len(record) + 3) + record
    info, content = member("a", b"x", uid=5)
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, len(record)
    data = pax.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + archive((info, content))

    unpack(tmp_path, data)

    assert os.getxattr(tmp_path / "layer/diff/a", "security.capability") == CAPABILITY


def test_every_kind_of_file_is_made(layer):
    top = layer(
        directory("d", mode=0o1777, mtime=1_500_000_000),
        member("d/a", b"1"),
        hardlink("d/b", "d/a"),
        hardlink("c", "/d/a"),
        symlink("link", "../../etc/passwd"),
        device("null", 1, 3),
        device("disk", 8, 1, tarfile.BLKTYPE),
        member("pipe", type=tarfile.FIFOTYPE),
    )

    assert stat.S_IMODE(os.lstat(top / "d").st_mode) == 0o1777
    assert os.lstat(top / "d").st_mtime == 1_500_000_000
    assert os.lstat(top / "d/a").st_ino == os.lstat(top / "d/b").st_ino == os.lstat(top / "c").st_ino
    assert os.readlink(top / "link") == "../../etc/passwd"
    assert os.lstat(top / "null").st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK(os.lstat(top / "disk").st_mode)
    assert stat.S_ISFIFO(os.lstat(top / "pipe").st_mode)
    assert os.lstat(top / "link").st_mtime == os.lstat(top / "null").st_mtime == 1_600_000_000


def test_nothing_gets_the_group_of_a_set_group_id_directory_that_it_is_in(layer):
    top = layer(
        directory("d", mode=0o2775, gid=50),
        member("d/file"), symlink("d/link", "file"), device("d/null", 1, 3), directory("d/below", mode=0o755),
    )  # fmt: skip

    assert {os.lstat(top / "d" / name).st_gid for name in os.listdir(top / "d")} == {0}
    assert stat.S_IMODE(os.lstat(top / "d/below").st_mode) == 0o755
    assert (os.lstat(top / "d").st_gid, stat.S_IMODE(os.lstat(top / "d").st_mode)) == (50, 0o2775)


def test_a_store_in_a_set_group_id_directory_with_an_access_list_passes_nothing_on(tmp_path):
    os.chown(tmp_path, 0, 50)
    os.chmod(tmp_path, 0o2755)
    os.setxattr(tmp_path, "system.posix_acl_default", ACL)

    unpack(tmp_path, archive(member("d/file")))

    for path in ("diff", "diff/d", "diff/d/file"):
        status = os.lstat(tmp_path / "layer" / path)
        assert (status.st_gid, status.st_mode & 0o7777) == (0, 0o755)
        assert os.listxattr(tmp_path / "layer" / path) == []


def test_nothing_gets_the_default_access_list_of_the_directory_that_it_is_in(tmp_path):
    record = pax([(b"SCHILY.xattr.system.posix_acl_default", ACL)])
    data = record + written(*directory("d")) + archive(member("d/a", mode=0o644), directory("d/b", mode=0o700))

    unpack(tmp_path, data)

    top = tmp_path / "layer/diff/d"
    assert os.listxattr(top) == ["system.posix_acl_default"]
    assert [os.listxattr(top / name) for name in "ab"] == [[], []]
    assert [stat.S_IMODE(os.lstat(top / name).st_mode) for name in "ab"] == [0o644, 0o700]


@pytest.mark.parametrize("mask", [0, 0o22, 0o77, 0o777])
def test_modes_are_the_layers_whatever_the_umask(tmp_path, mask):
    modes = {f"f{mode:o}": mode for mode in (0, 0o400, 0o644, 0o666, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o6711)}
    data = archive(*(member(name, mode=mode) for name, mode in modes.items()), member("implied/x"), directory("d"))

    def run():
        os.umask(mask)
        unpack(tmp_path, data)

    in_child(run)

    top = tmp_path / "layer/diff"
    assert {name: stat.S_IMODE(os.lstat(top / name).st_mode) for name in modes} == modes
    assert [stat.S_IMODE(os.lstat(top / name).st_mode) for name in (".", "implied", "d")] == [0o755] * 3


def test_a_directory_described_twice_keeps_the_attributes_of_both(tmp_path):
    first, second = (pax([(b"SCHILY.xattr.user." + name, b"1")]) for name in (b"a", b"b"))
    data = first + written(*directory("d", mode=0o700)) + second + written(*directory("d", mode=0o711)) + bytes(1024)

    unpack(tmp_path, data)

    assert sorted(os.listxattr(tmp_path / "layer/diff/d")) == ["user.a", "user.b"]
    assert stat.S_IMODE(os.lstat(tmp_path / "layer/diff/d").st_mode) == 0o711


def test_whiteouts_and_opaque_directories_take_overlayfs_form(layer, tmp_path):
    top = layer(
        directory("a"),
        member("a/.wh..wh..opq"),
        member("b/.wh.gone"),
        member(".wh.new"),
        directory("new"),
        member("kept"),
        member(".wh.kept"),
        member(".wh..wh.plnk"),
    )

    assert is_whiteout(top / "b/gone")
    assert opaque(top / "a")
    assert opaque(top / "new")
    assert (top / "new").is_dir()
    assert not is_whiteout(top / "kept")
    assert sorted(os.listdir(top)) == ["a", "b", "kept", "new"]
    assert read_record(str(tmp_path / "layer")).whiteouts == (b"b",)


@pytest.mark.parametrize("order", [1, -1])
def test_an_opaque_directory_needs_no_whiteouts(layer, tmp_path, order):
    top = layer(*[member("a/.wh.gone"), member("a/.wh..wh..opq")][::order])

    assert opaque(top / "a")
    assert os.listdir(top / "a") == []
    assert read_record(str(tmp_path / "layer")).whiteouts == ()


def test_an_opaque_root_is_put_down(layer, tmp_path):
    layer(member(".wh..wh..opq"))

    assert read_record(str(tmp_path / "layer")).opaque_root


def test_implied_directories_are_put_down(layer, tmp_path):
    layer(
        member("tmp/a/b"), directory("usr"), member("usr/c"), directory("tmp/a"), symlink("l", "usr"), member("l/x/y")
    )

    assert read_record(str(tmp_path / "layer")).implied == (b"", b"tmp", b"usr/x")
    assert (tmp_path / "layer/diff/usr/x/y").exists()
    assert stat.S_IMODE(os.lstat(tmp_path / "layer/diff/tmp").st_mode) == 0o755


def test_the_later_of_two_members_wins(layer):
    top = layer(
        directory("a"), member("a/x"), member("a", b"file"), member("b"), directory("b"), member("b/y"),
        symlink("c", "b"), directory("c"), member("d", b"1"), member("d", b"2"),
        directory("e", mtime=5), symlink("e", "/"),
    )  # fmt: skip

    assert (top / "a").read_bytes() == b"file"
    assert (top / "b/y").exists()
    assert not (top / "c").is_symlink()
    assert (top / "d").read_bytes() == b"2"
    assert os.readlink(top / "e") == "/"


def test_a_link_replaced_by_a_directory_and_back_leads_where_it_does_at_the_time(layer):
    top = layer(
        directory("d"), directory("e"), symlink("l", "d"), member("l/1"), symlink("l", "e"), member("l/2"),
        directory("l"), member("l/3"), symlink("l", "d"), member("l/4"), member("l", b"file"),
    )  # fmt: skip

    assert {name: sorted(os.listdir(top / name)) for name in "de"} == {"d": ["1", "4"], "e": ["2"]}
    assert (top / "l").read_bytes() == b"file"


def test_a_link_that_leads_nowhere_yet_is_followed_inside(layer):
    top = layer(symlink("var/run", "/run"), member("var/run/x/y"), symlink("up", "../../../z"), member("up/a"))

    assert (top / "run/x/y").exists()
    assert (top / "z/a").exists()


def test_sparse_files_keep_their_holes(tmp_path):
    source = tmp_path / "sparse"
    with open(source, "wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
        file.truncate(20 << 20)
    data = subprocess.run(
        ["tar", "-C", tmp_path, "-S", "--format=pax", "-cf", "-", "sparse"], capture_output=True, check=True
    )

    result = unpack(tmp_path, data.stdout)

    made = tmp_path / "layer/diff/sparse"
    assert made.read_bytes() == source.read_bytes()
    assert os.lstat(made).st_blocks * 512 < 1 << 20
    assert result.content_bytes < 1 << 20


def test_names_of_any_bytes_and_length(tmp_path):
    names = ["é" * 100, "a" * 255, "/".join(["d" * 200] * 15), "new\nline"]
    data = archive(
        *(member(name, name.encode()) for name in names),
        member("\udcff\udcfe".encode("utf-8", "surrogateescape").decode("latin-1")),
    )

    unpack(tmp_path, data)

    for name in names:
        assert (tmp_path / "layer/diff" / name).read_bytes() == name.encode()


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:])]
)
def test_digests_are_verified_on_the_way(tmp_path, compress):
    import hashlib

    data = archive(member("a", b"content"))
    blob = compress(data)
    digest, diff_id = (f"sha256:{hashlib.sha256(d).hexdigest()}" for d in (blob, data))

    result = unpack(tmp_path, blob, digest=digest, diff_id=diff_id)

    assert (result.digest, result.diff_id) == (digest, diff_id)
    remove_tree(str(tmp_path / "layer"))
    for wrong in ({"digest": f"sha256:{'0' * 64}"}, {"diff_id": f"sha256:{'0' * 64}"}):
        with pytest.raises(InvalidInput, match="does not match"):
            unpack(tmp_path, blob, **wrong)
        assert not (tmp_path / "layer").exists()


ATTACKS = {
    "climbs out": [member("../evil")],
    "climbs out in the middle": [directory("a"), member("a/../../evil")],
    "hard link out": [hardlink("a", "../../../../../../etc/passwd")],
    "hard link to what only the host has": [hardlink("a", "/etc/passwd")],
    "hard link through a link": [symlink("l", "/"), hardlink("a", "l/etc/passwd")],
    "hard link to the root": [hardlink("a", "/")],
    "hard link in the place of its target's directory": [member("a/b", b"x"), hardlink("a", "a/b")],
    "hard link to a directory": [directory("d"), hardlink("a", "d")],
    "hard link to a whiteout": [member(".wh.a"), hardlink("b", "a")],
    "a whiteout device": [device("a", 0, 0)],
    "a whiteout block device": [device("a", 0, 0, tarfile.BLKTYPE)],
    "whiteout of nothing": [member(".wh.")],
    "whiteout of the parent": [member("a/.wh...")],
    "whiteout of itself": [member("a/.wh..")],
    "a root that is no directory": [member("./", b"x", type=tarfile.REGTYPE)],
    "a root that is a link": [symlink(".", "/etc")],
    "a file as a directory": [member("a"), member("a/b")],
    "a link to itself as a directory": [symlink("a", "a"), member("a/b")],
    "links in a circle": [symlink("a", "b/x"), symlink("b", "a/x"), member("a/c")],
    "a name that is too long": [member("n" * 256)],
    "a path that is too long": [member("/".join(["d" * 250] * 20))],
    "directories without end": [member("d/" * 1500 + "x")],
    "a device that is out of range": [device("a", 4096, 1)],
}


def trap(name, attribute):
    info, content = member(name, b"x")
    info.pax_headers = {f"SCHILY.xattr.{attribute}": "y"}
    return info, content


ATTACKS |= {
    "overlayfs's attribute": [trap("a", "trusted.overlay.redirect")],
    "overlayfs's attribute of users": [trap("a", "user.overlay.opaque")],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_layers_are_refused_and_leave_nothing(tmp_path, attack):
    (tmp_path / "in").mkdir()
    before = os.stat("/etc/passwd").st_nlink

    with pytest.raises(InvalidInput, match="can't unpack layer"):
        unpack(tmp_path / "in", archive(directory("first"), *ATTACKS[attack]))

    assert os.listdir(tmp_path) == ["in"]
    assert os.listdir(tmp_path / "in") == []
    assert os.stat("/etc/passwd").st_nlink == before


def test_links_out_are_never_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("mine")
    inside = tmp_path / "in"
    inside.mkdir()
    there = str(outside)

    unpack(
        inside,
        archive(
            symlink("a", there), member("a/evil", b"x"), symlink("b", "../../outside"), member("b/evil", b"x"),
            symlink("v", f"{there}/victim"), member("v", b"overwritten"), directory("t"), symlink("t/x", there),
            directory("t/x/made", mtime=1), symlink("c", there), directory("c", mode=0o777), member("a/.wh.victim"),
        ),
    )  # fmt: skip

    assert os.listdir(outside) == ["victim"]
    assert (outside / "victim").read_text() == "mine"
    assert stat.S_IMODE(os.stat(outside).st_mode) == 0o755
    assert (inside / "layer/diff" / there.lstrip("/") / "evil").exists()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_truncated_layer_is_refused_wherever_it_ends(tmp_path, compress):
    data = compress(archive(member("a", b"x" * 1000), member("b", b"y" * 1000), directory("c")))
    end = len(data.rstrip(b"\0")) if compress is bytes else len(data)

    for cut in range(0, end - 8, max(1, end // 40)):
        with pytest.raises(SampanError, match=r"cut short|decompress"):
            unpack(tmp_path, data[:cut])
        assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_clear_error_with_nothing_left(tmp_path):
    data = archive(*(member(f"f{number}", b"x" * 100_000) for number in range(40)))

    def unpack_on_a_small_disk():
        mount.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=5m")
        try:
            unpack(tmp_path, data)
        except Failed as e:
            return e.message, e.hint, os.listdir(tmp_path)

    message, hint, left = in_child(unpack_on_a_small_disk)

    assert message.startswith("can't unpack layer: f")
    assert message.endswith("no space left on device")
    assert "free some space" in hint
    assert left == []


def test_a_tree_of_any_depth_is_removed(tmp_path):
    os.makedirs(tmp_path / "tree")
    fd = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
        fd = below
    os.close(fd)

    remove_tree(str(tmp_path / "tree"))

    assert os.listdir(tmp_path) == []


def test_a_member_that_grows_many_times_stays_cheap(tmp_path):
    members = [m for number in range(300) for m in (directory("a"), member(f"a/{number}"), member("a"))]
    begun = time.monotonic()

    unpack(tmp_path, archive(*members))

    assert (tmp_path / "layer/diff/a").is_file()
    assert time.monotonic() - begun < 10
