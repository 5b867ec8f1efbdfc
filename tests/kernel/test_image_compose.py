"""A layer made of a container's changes: what it holds, what its tar is, and what nobody can make of it."""

import errno
import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings

from sampan.errors import Failed, InvalidInput, SampanError, Unsupported
from sampan.image import tar
from sampan.image.recipe import tar_of
from sampan.image.small_files import LARGEST, SmallFiles
from sampan.image.unpack import read_record, unpack_layer
from sampan.kernel import mount
from sampan.rootfs.diff import changes
from sampan.rootfs.overlay import Metadata
from sampan.rootfs.union import Stack
from sampan.supervise import composing, messages
from support.child import in_child
from support.overlays import Overlay, actions, perform, populate, tree

ROOT = (0o755, 0, 0, ())


@pytest.fixture
def overlay(tmp_path):
    return Overlay(tmp_path)


def compose(overlay, name="layer", **how):
    target = overlay.directory / name
    result = composing.compose(messages.Compose(target=str(target), layers=tuple(overlay.layers), root=ROOT, **how))
    assert read_record(str(target)).diff_id == result.diff_id
    return target, result


def the_tar(target):
    return b"".join(tar_of(str(target)))


def members(target):
    with tarfile.open(fileobj=io.BytesIO(the_tar(target))) as opened:
        return {member.name: member for member in opened}


def unpacked(data, target):
    (target.parent / "tar").write_bytes(data)
    with open(target.parent / "tar", "rb") as file:
        return unpack_layer(file.fileno(), str(target))


def put(path, content="x"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


def without_sockets(shown):
    return {path: told for path, told in shown.items() if told[0] != stat.S_IFSOCK}


def whole_seconds(shown):
    return {path: (*told[:6], told[6] // 10**9, *told[7:]) for path, told in shown.items()}


@settings(max_examples=25, deadline=None)
@given(actions, actions)
def test_the_layer_over_the_image_is_what_the_container_shows(tmp_path_factory, first, second):
    overlay = Overlay(tmp_path_factory.mktemp("o"))
    overlay.add(populate)
    overlay.add(lambda: perform(first))
    overlay.add(lambda: perform(second))
    wanted = whole_seconds(without_sockets(overlay.again(tree)))
    target, result = compose(overlay)
    told = _members_told(overlay)

    data = the_tar(target)
    assert result.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert result.tar_bytes == len(data)
    again = unpacked(data, overlay.directory / "unpacked")
    assert (again.diff_id, again.content_bytes) == (result.diff_id, result.content_bytes)
    assert set(members(target)) == told
    for layer in (target, overlay.directory / "unpacked"):
        fresh = Overlay(tmp_path_factory.mktemp("p"))
        fresh.layers = [str(layer / "diff"), *overlay.layers[1:]]
        fresh.add()
        assert whole_seconds(without_sockets(fresh.again(tree))) == wanted


def _members_told(overlay):
    """The names of the members that `diff` tells of: sockets are none, unless one is in the place of something."""
    found = set()
    with Stack(overlay.layers) as stack:
        for change in changes(stack, Metadata()):
            if not change.member:
                continue
            parent, slash, name = change.path.rpartition("/")
            if change.status is None or (stat.S_ISSOCK(change.status.st_mode) and change.kind == "C"):
                found.add(f"{parent}{slash}.wh.{name}")
            elif not stat.S_ISSOCK(change.status.st_mode):
                found.add(change.path)
            if change.anew:
                found.add(f"{change.path}/.wh..wh..opq")
    return found


@settings(max_examples=15, deadline=None)
@given(actions, actions)
def test_all_files_as_one_layer_are_what_the_container_shows(tmp_path_factory, first, second):
    overlay = Overlay(tmp_path_factory.mktemp("o"))
    overlay.add(populate)
    overlay.add(lambda: perform(first))
    overlay.add(lambda: perform(second))
    target, _ = compose(overlay, whole=True)

    fresh = Overlay(tmp_path_factory.mktemp("p"))
    fresh.layers = [str(target / "diff")]
    fresh.add()
    assert whole_seconds(fresh.again(tree)) == whole_seconds(without_sockets(overlay.again(tree)))


def test_a_directory_made_anew_hides_what_was_in_it_and_keeps_what_is_as_before(overlay):
    overlay.add(lambda: (put("d/gone"), put("d/same"), os.utime("d/same", (5, 5))))
    overlay.add(lambda: (shutil.rmtree("d"), put("d/same"), os.utime("d/same", (5, 5))))

    assert set(members(compose(overlay)[0])) == {"d", "d/.wh..wh..opq", "d/same"}


def test_a_file_that_got_another_name_is_in_the_layer_with_both(overlay):
    overlay.add(lambda: put("f"))
    overlay.add(lambda: os.link("f", "g"))

    found = members(compose(overlay)[0])

    assert {name: member.linkname for name, member in found.items()} == {"f": "", "g": "f"}


def test_the_same_changes_are_the_same_layer_whatever_way_they_came_about(overlay, tmp_path):
    def one():
        put("d/a", "1")
        put("d/b", "2")
        os.unlink("gone")
        shutil.rmtree("e")
        put("e/new")

    def other():
        shutil.rmtree("e")
        put("e/new", "y")
        put("e/new")
        os.unlink("gone")
        put("d/b", "2")
        put("d/c", "2")
        os.unlink("d/c")
        put("d/a", "1")

    found = []
    for number, do in enumerate((one, other)):
        fresh = Overlay(tmp_path / str(number)) if (tmp_path / str(number)).mkdir() is None else None
        fresh.add(lambda: (put("gone"), put("e/old")))
        fresh.add(do)
        found.append(compose(fresh, newest_ns=10**18)[1].diff_id)

    assert found[0] == found[1]


def test_later_times_become_the_newest_one_and_earlier_ones_stay(overlay):
    overlay.add()
    overlay.add(lambda: (put("old"), os.utime("old", (5, 5)), put("new")))

    found = members(compose(overlay, newest_ns=1_000_000_000_999_999_999)[0])

    assert {name: member.mtime for name, member in found.items()} == {"old": 5, "new": 1_000_000_000}


def test_nothing_of_overlayfs_or_of_this_host_is_in_the_layer(overlay):
    overlay.add(lambda: (put("d/f"), put("g")))
    overlay.add(lambda: (shutil.rmtree("d"), put("d/new"), put("g", "y")))
    upper = overlay.layers[0]
    for name in ("origin", "impure", "nlink", "uuid", "protattr"):
        os.setxattr(f"{upper}/g", f"trusted.overlay.{name}", b"y")
    os.setxattr(f"{upper}/g", "user.overlay.opaque", b"y")
    os.setxattr(f"{upper}/g", "user.mine", b"kept")

    data = the_tar(compose(overlay)[0])

    assert b"overlay" not in data
    assert b"user.mine=kept" in data


@pytest.mark.parametrize("option", ["metacopy=on", "redirect_dir=on"])
def test_what_only_a_mount_could_read_is_refused(overlay, option):
    overlay.add(lambda: (put("d/f", "content"), put("e/f")))
    overlay.add(lambda: (os.chmod("d/f", 0o600), os.rename("e", "moved")), option)

    with pytest.raises(Unsupported, match="metacopy or redirect_dir"):
        compose(overlay)


def test_capabilities_are_kept(overlay):
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    overlay.add()
    overlay.add(lambda: (put("ping"), os.chown("ping", 7, 7), os.setxattr("ping", "security.capability", capability)))

    target, _ = compose(overlay)

    assert os.getxattr(target / "diff/ping", "security.capability") == capability
    again = overlay.directory / "again"
    unpacked(the_tar(target), again)
    assert os.getxattr(again / "diff/ping", "security.capability") == capability


def test_set_user_id_owner_and_mode_are_kept(overlay):
    overlay.add()
    overlay.add(lambda: (put("su"), os.chown("su", 4000000000, 5), os.chmod("su", 0o4751)))

    status = os.lstat(compose(overlay)[0] / "diff/su")

    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (4000000000, 5, 0o4751)


def test_holes_stay_holes_and_are_zeros_in_the_tar(overlay):
    def sparse():
        with open("sparse", "wb") as file:
            file.seek(5 << 20)
            file.write(b"data")
            file.truncate(20 << 20)

    overlay.add()
    overlay.add(sparse)

    target, result = compose(overlay)

    assert os.stat(target / "diff/sparse").st_blocks * 512 < 1 << 20
    assert (target / "diff/sparse").read_bytes() == bytes(5 << 20) + b"data" + bytes((15 << 20) - 4)
    assert members(target)["sparse"].size == 20 << 20
    assert result.tar_bytes > 20 << 20


def test_a_filesystem_that_can_shares_the_blocks(tmp_path):
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True)
    (tmp_path / "mounted").mkdir()

    def on_btrfs():
        subprocess.run(["mount", "-o", "loop", disk, tmp_path / "mounted"], check=True)
        overlay = Overlay(tmp_path / "mounted")
        for layer in range(2):
            (tmp_path / f"mounted/upper{layer}").mkdir()
            overlay.layers.insert(0, str(tmp_path / f"mounted/upper{layer}"))
        (tmp_path / "mounted/upper1/big").write_bytes(os.urandom(64 << 20))
        (tmp_path / "mounted/upper1/small").write_text("x")
        os.sync()
        before = os.statvfs(tmp_path / "mounted").f_bavail
        target, result = compose(overlay)
        os.sync()
        used = (before - os.statvfs(tmp_path / "mounted").f_bavail) * os.statvfs(tmp_path / "mounted").f_frsize
        data = the_tar(target)
        return used, result.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)

    used, right, size = in_child(on_btrfs)

    assert right
    assert size > 64 << 20
    assert used < 16 << 20


def test_an_empty_layer_is_the_tar_of_nothing(overlay):
    overlay.add(lambda: put("f"))
    overlay.add(lambda: os.close(os.open("f", os.O_RDWR)))

    assert compose(overlay)[1].diff_id == "sha256:" + hashlib.sha256(bytes(1024)).hexdigest()


def test_a_socket_is_left_out_but_deletes_what_it_replaced(overlay):
    overlay.add(lambda: put("log"))
    overlay.add(lambda: perform([("remove", "log", ""), ("socket", "log", ""), ("socket", "new", "")]))

    assert set(members(compose(overlay)[0])) == {".wh.log"}


def test_the_engines_own_mount_points_are_left_out(overlay):
    overlay.add()
    overlay.add(lambda: (put("etc/hosts", ""), put("etc/mine"), Path("proc").mkdir()))

    assert set(members(compose(overlay, own=("/etc/hosts", "/proc"))[0])) == {"etc", "etc/mine"}


# -------------------------------------------------------------------------------------------------------------- hostile


def test_a_name_that_would_be_a_mark_is_refused_and_nothing_is_left(overlay):
    overlay.add()
    overlay.add(lambda: put("d/.wh.passwd"))

    with pytest.raises(InvalidInput, match=r"/d/\.wh\.passwd can't be in a layer"):
        compose(overlay)
    with pytest.raises(InvalidInput, match=r"d/\.wh\.passwd: names that begin with \.wh\."):
        compose(overlay, whole=True)
    assert not (overlay.directory / "layer").exists()


def test_devices_and_fifos_are_never_opened(overlay, monkeypatch):
    overlay.add()
    overlay.add(lambda: (put("d/f"), put("d/g")))
    upper = overlay.layers[0]
    with Stack(overlay.layers) as stack:
        assert stack.status(0, "d/f") is not None
        os.unlink(f"{upper}/d/f")
        os.mkfifo(f"{upper}/d/f")
        os.unlink(f"{upper}/d/g")
        os.mknod(f"{upper}/d/g", stat.S_IFCHR | 0o666, os.makedev(1, 3))

        assert stack.open(0, "d/f") is None
        assert stack.open(0, "d/g") is None

    def refused(*_args, **_kwargs):
        raise OSError(errno.ENOSYS, "no mount_setattr")

    monkeypatch.setattr("sampan.rootfs.union.mount_setattr", refused)
    with Stack(overlay.layers) as stack:
        assert stack.open(0, "d/f") is None
        assert stack.open(0, "d/g") is None


def test_nothing_is_written_through_what_is_read(overlay):
    overlay.add()
    overlay.add(lambda: put("d/f"))

    with Stack(overlay.layers) as stack, pytest.raises(OSError, match="Read-only") as caught:
        os.open("f", os.O_WRONLY, dir_fd=stack.directory(0, "d"))
    assert caught.value.errno == errno.EROFS


def test_a_tree_that_changes_meanwhile_makes_a_whole_layer_or_a_clear_error(overlay):
    overlay.add()
    overlay.add(lambda: [put(f"d{n}/{m}", "y" * 5000) for n in range(10) for m in range(20)])
    upper = overlay.layers[0]
    stop = threading.Event()

    def mischief():
        while not stop.is_set():
            for n in range(10):
                for m in range(20):
                    path = f"{upper}/d{n}/{m}"
                    os.truncate(path, 3)
                    os.unlink(path)
                    os.symlink("/etc/shadow", path)
                    os.unlink(path)
                    put(path, "z" * 90_000)

    thread = threading.Thread(target=mischief)
    thread.start()
    try:
        for number in range(15):
            target, result = compose(overlay, f"layer{number}")
            data = the_tar(target)
            assert result.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
            assert b"root:" not in data
            shutil.rmtree(target)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(("files", "size"), [(1, 4 << 20), (1000, 4 << 10)])
def test_a_full_disk_leaves_nothing(overlay, files, size):
    overlay.add()
    overlay.add(lambda: [put(str(number), "x" * size) for number in range(files)])
    small = overlay.directory / "small"
    small.mkdir()

    def on_a_small_disk():
        mount.mount("tmpfs", str(small), "tmpfs", 0, "size=1m")
        try:
            compose(overlay, "small/layer")
        except OSError as e:
            return str(e), os.listdir(small)
        except Exception as e:
            return str(e), os.listdir(small)
        return None

    said, left = in_child(on_a_small_disk)
    assert "no space left on device" in said
    assert left == []


def test_thousands_of_small_files_and_larger_ones_come_in_whatever_directory_they_are(overlay):
    def change():
        for number in range(3000):
            put(f"{number % 7}/{number % 50}/{number}", f"{number}" * (number % 200))
        put("0/large", "x" * (LARGEST + 1))
        os.link("3/49/2999", "again")

    overlay.add(lambda: put("was", "here"))
    overlay.add(change)

    target, result = compose(overlay)

    assert result.diff_id == f"sha256:{hashlib.sha256(the_tar(target)).hexdigest()}"
    found = {path.relative_to(target / "diff"): path for path in (target / "diff").rglob("*") if path.is_file()}
    assert len(found) == 3002
    assert all(
        path.read_text() == str(path.name) * (int(path.name) % 200) for path in found.values() if path.name.isdigit()
    )


@pytest.fixture
def small_files(tmp_path):
    (tmp_path / "made").mkdir()
    root = os.open(tmp_path / "made", os.O_RDONLY)
    files = SmallFiles(root)
    yield files
    files.stop()
    os.close(root)


def test_a_small_file_that_cant_be_made_is_an_error_that_names_it(small_files):
    entry = tar.Entry(b"first", tar.REGULAR, 0o644, 0, 0, 1, 0)
    small_files.add(b"", b"first", entry, b"1")
    small_files.add(b"", b"first", entry, b"2")
    small_files.add(b"", b"second", entry, b"3")

    with pytest.raises(SampanError, match=r"^first: file exists"):
        small_files.wait()


def test_a_directory_that_is_none_is_an_error_that_names_it(small_files):
    small_files.add(b"nowhere", b"a", tar.Entry(b"a", tar.REGULAR, 0o644, 0, 0, 1, 0), b"1")

    with pytest.raises(SampanError, match=r"^nowhere: no such file or directory"):
        small_files.wait()


def test_who_makes_the_small_files_may_be_killed(small_files):
    small_files.add(b"", b"a", tar.Entry(b"a", tar.REGULAR, 0o644, 0, 0, 1, 0), b"1")
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)

    with pytest.raises(Failed, match="was killed"):
        small_files.wait()
