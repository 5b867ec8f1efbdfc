"""What images carry of caches, and which programs of other machines run here."""

import json
from pathlib import Path

import pytest

from sampan.build.carried import CarriedStep, carried, carrier, carry
from sampan.engine.building import emulation
from sampan.errors import Unsupported
from sampan.spec.distribution import Platform
from sampan.spec.image import decode_config

LAYER, KEY, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64, "sha256:" + "c" * 64
STEPS = (CarriedStep(key=KEY, diff_id=LAYER, created_ns=1), CarriedStep(key=OTHER, created_ns=2))


def test_a_cache_of_its_own_is_an_image_of_its_layers() -> None:
    config = carrier((*STEPS, *STEPS), Platform(architecture="amd64"))

    assert decode_config(config).diff_ids == (LAYER,)
    assert carried(config) == {step.key: step for step in STEPS}


def test_an_image_that_carries_a_cache_is_the_same_otherwise() -> None:
    config = b'{"architecture":"amd64","os":"linux","x":{"y":1.50},"rootfs":{"type":"layers","diff_ids":["%b"]}}'
    config = config.replace(b"%b", LAYER.encode())

    with_cache = carry(config, STEPS)

    assert carried(with_cache) == {step.key: step for step in STEPS}
    assert {**json.loads(with_cache), "org.sampan.buildcache.v1": 0} == {
        **json.loads(config),
        "org.sampan.buildcache.v1": 0,
    }


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"[]",
        b'{"org.sampan.buildcache.v1":7}',
        b'{"org.sampan.buildcache.v1":[{"key":"../x","created_ns":1}]}',
        b'{"org.sampan.buildcache.v1":[{"key":"%b","diff_id":"%b","created_ns":1}]}'.replace(b"%b", KEY.encode()),
        b"[" * 100_000,
        b'{"architecture":"amd64"}',
    ],
)
def test_nonsense_carries_nothing(config: bytes) -> None:
    assert carried(config) == {}


ENTRY = """enabled
interpreter /usr/bin/qemu-s390x-static
flags: {}
offset 0
magic 7f454c4602020100000000000000000000020016
mask ffffffffffffff00fffffffffffffffffffeffff
"""
S390X = Platform(architecture="s390x")


def test_programs_of_another_machine_run_by_an_emulator_that_the_kernel_holds_open(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "qemu-s390x").write_text(ENTRY.format("OCF"))

    emulation.check(S390X, str(tmp_path))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (ENTRY.format("OC"), "without the flag F"),
        (ENTRY.format("OCF").replace("enabled", "disabled"), "no emulator is registered"),
        (ENTRY.format("OCF").replace("0016", "00b7"), "no emulator is registered"),
        ("enabled\ninterpreter /usr/bin/python\nflags: F\nextension .py\n", "no emulator is registered"),
    ],
)
def test_others_are_refused_with_the_cause(tmp_path: Path, entry: str, said: str) -> None:
    (tmp_path / "some").write_text(entry)

    with pytest.raises(Unsupported, match=said):
        emulation.check(S390X, str(tmp_path))


def test_this_machines_own_programs_need_nothing(tmp_path: Path) -> None:
    emulation.check(emulation.platforms.own(), str(tmp_path / "not there"))
