"""Directories of layers that are being unpacked: who holds them, and what is rubbish."""

import os
import threading

from sampan.image import unfinished
from sampan.spec.distribution import Descriptor

LAYER = Descriptor(media_type="application/vnd.oci.image.layer.v1.tar", digest="sha256:" + "a" * 64, size=10)
DIFF_ID = "sha256:" + "b" * 64


def test_a_key_tells_bytes_layer_and_size_apart():
    key = unfinished.key(LAYER, DIFF_ID)
    other_size = Descriptor(media_type=LAYER.media_type, digest=LAYER.digest, size=11)
    other_bytes = Descriptor(media_type=LAYER.media_type, digest="sha256:" + "c" * 64, size=10)

    keys = {key, unfinished.key(other_size, DIFF_ID), unfinished.key(other_bytes, DIFF_ID)}
    assert len(keys | {unfinished.key(LAYER, "sha256:" + "c" * 64)}) == 4


def test_what_nobody_holds_is_swept(tmp_path):
    tmp = str(tmp_path)
    key = unfinished.key(LAYER, DIFF_ID)
    held, left = unfinished.new_place(tmp, key), unfinished.new_place(tmp, key)
    (tmp_path / "other").mkdir()
    lock = unfinished.hold(held)
    open(f"{held}/{unfinished.SOCKET}", "w").close()

    unfinished.sweep(tmp)

    assert os.listdir(tmp) == [os.path.basename(held)]
    assert unfinished.held(tmp, key) == [held]
    assert unfinished.held(tmp, "another") == []
    assert not unfinished.is_held(left)
    os.close(lock)
    assert unfinished.held(tmp) == []
    unfinished.sweep(tmp)
    assert os.listdir(tmp) == []


def test_looking_never_keeps_a_worker_from_holding_its_directory(tmp_path):
    place = unfinished.new_place(str(tmp_path), "key")
    stop = threading.Event()

    def look():
        while not stop.is_set():
            unfinished.is_held(place)

    looking = [threading.Thread(target=look) for _ in range(3)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(300):
            os.close(unfinished.hold(place))
    finally:
        stop.set()
        for thread in looking:
            thread.join()


def test_two_who_look_at_once_do_not_take_each_other_for_a_worker(tmp_path):
    place = unfinished.new_place(str(tmp_path), "key")
    found = []

    def look():
        found.extend(unfinished.is_held(place) for _ in range(300))

    looking = [threading.Thread(target=look) for _ in range(3)]
    for thread in looking:
        thread.start()
    for thread in looking:
        thread.join()

    assert not any(found)
