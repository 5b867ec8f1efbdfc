"""Some of what `make fuzz` does, the same each time, and what it has found."""

import random

import pytest

from fuzz.run import changed, check
from fuzz.targets import TARGETS
from sampan.errors import InvalidInput
from sampan.image import tar
from sampan.spec.distribution import decode_manifest
from sampan.spec.image import decode_config


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if not target.root])
def test_changed_input_is_read_or_refused_with_a_word(name):
    for seed in range(400):
        data = changed(TARGETS[name], random.Random(f"{name} {seed}"))

        assert check(TARGETS[name], data) is None, f"seed {seed}: {data!r}"


DEEP = [b"[" * 100_000, b'{"a":' * 100_000, b'{"schemaVersion":2,"config":' + b"[" * 100_000]


@pytest.mark.parametrize("document", DEEP)
@pytest.mark.parametrize("decode", [decode_manifest, decode_config])
def test_documents_nested_too_deeply_are_refused(document, decode):
    with pytest.raises(InvalidInput, match="can't read"):
        decode(document)


def test_ten_megabytes_of_json_are_read_or_refused():
    with pytest.raises(InvalidInput, match="can't read manifest"):
        decode_manifest(b'{"schemaVersion":2,"manifests":[' + b"0," * 5_000_000 + b"0]}")
    many = b'{"mediaType":"m","digest":"d","size":1},' * 250_000
    assert len(decode_manifest(b'{"schemaVersion":2,"manifests":[' + many[:-1] + b"]}").manifests) == 250_000


def test_a_name_with_a_nul_is_refused_wherever_it_comes_from():
    from support.tars import header, pax

    for records in ([(b"GNU.sparse.name", b"a\0"), (b"GNU.sparse.size", b"0")], [(b"SCHILY.xattr.user.a\0", b"")]):
        with pytest.raises(InvalidInput, match="a NUL"):
            tar.Reader(iter([pax(records) + header()])).next_entry()
