"""An image store of a test, and what to put into it."""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import tarfile
import time

from sampan.image import archive
from sampan.image.store import Images
from sampan.image.unpack import unpack_layer
from sampan.kernel import mount
from sampan.kernel.trees import remove_tree
from sampan.rootfs import host
from sampan.spec.reference import Reference


def nobody(_):
    return ()


def silent(_):
    return None


def tarball(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def opened(where):
    os.makedirs(where.root, exist_ok=True)
    return Images(where, (host.image("x86_64"),))


def wait_until_synced(where):
    for _ in range(6000):  # what others write to the same disk is synced as well
        with sqlite3.connect(f"{where.images}/images.db") as database:
            unsynced = database.execute("SELECT count(*) FROM image WHERE unsynced IS NOT NULL").fetchone()[0]
        database.close()
        if not unsynced:
            return
        time.sleep(0.01)
    raise AssertionError("the layers were never put down as synced")


def add(images, name, **files):
    ref = Reference.parse(name) if name else None
    return archive.import_tarball(images, io.BytesIO(tarball(**files)), ref=ref, unpack=unpack_layer)


def load(images, data):
    return archive.load(images, io.BytesIO(data), unpack=unpack_layer, progress=silent)


def layer_of(where, data):
    """Put a layer into the store without an image; return its diff id."""
    target = f"{where.tmp}/new"
    with open(f"{where.tmp}/data", "w+b") as file:
        file.write(data)
        file.seek(0)
        diff_id = unpack_layer(file.fileno(), target).diff_id
    os.unlink(file.name)
    if os.path.exists(where.layer(diff_id)):
        remove_tree(target)
    else:
        os.rename(target, where.layer(diff_id))
    return diff_id


def mount_overlay(rootfs):
    """Mount what a container's root is made of, at its place."""
    context = mount.fsopen("overlay")
    try:
        for option in rootfs.mount_options():
            key, _, value = option.partition("=")
            mount.fsconfig_string(context, key, value)
        mount.fsconfig_create(context)
        made = mount.fsmount(context)
    finally:
        os.close(context)
    mount.move_mount(made, "", -100, rootfs.path, 0x4)  # MOVE_MOUNT_F_EMPTY_PATH
    os.close(made)


def layers_of(where):
    return {f"sha256:{name}" for name in os.listdir(f"{where.layers}/sha256")}
