"""What `sampan-runtime` writes is valid by the specification's JSON schemas (opencontainers/runtime-spec, schema/)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastjsonschema
import msgspec
import pytest

from sampan.oci import report
from sampan.oci.commands.features import features
from sampan.oci.commands.spec import configuration
from sampan.oci.store import Record, Store
from sampan.spec.runtime import read

SCHEMAS = Path(__file__).parents[1] / "schemas/oci-runtime"


def _load(uri: str) -> dict[str, Any]:
    """Return a schema; of other systems than Linux nothing is asked."""
    path = SCHEMAS / uri.rpartition("/")[2]
    name = path.stem.removeprefix("config-")
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {name: {}}
    return found


def check(document: Any, schema: str) -> None:
    """Raise JsonSchemaException where the document is not valid."""
    whole = _load(schema) | {"id": f"file:///{schema}"}
    fastjsonschema.compile(whole, handlers={"file": _load})(json.loads(json.dumps(document)))


def test_the_schemas_refuse_what_is_wrong():
    with pytest.raises(fastjsonschema.JsonSchemaException):
        check(configuration(rootless=False) | {"hostname": 7}, "config-schema.json")


@pytest.mark.parametrize("rootless", [False, True])
def test_spec(rootless):
    document = configuration(rootless=rootless)

    check(document, "config-schema.json")
    assert read(json.dumps(document).encode()).process


def test_a_configuration_that_was_read_and_written_again():
    document = json.loads(msgspec.json.encode(read(json.dumps(configuration(rootless=False)).encode())))

    document["process"].setdefault("cwd", "/")
    check(document, "config-schema.json")


def test_features():
    check(features(), "features-schema.json")


def test_state(tmp_path):
    facts = {
        "id": "c1", "pid": 0, "startTime": 0, "maker": 0, "makerStartTime": 1, "bundle": "/b", "rootfs": "/r",
        "created": "2024-01-02T03:04:05Z", "owner": 0, "annotations": {"a": "b"}, "cgroups": [], "hooks": [],
    }  # fmt: skip
    state = report.state_of(Record(Store(str(tmp_path)), facts))

    check(state, "state-schema.json")
    assert json.loads("\n".join(report.lines(state))) == state


@pytest.mark.parametrize(
    "value", [{}, [], {"a": []}, {"a": {}, "b": [1, "x", None, True, {"c": [[]]}]}, {'q"uo\\te': "ü\n"}, [1, [2, [3]]]]
)
def test_json_over_several_lines_is_the_same_json(value):
    assert json.loads("\n".join(report.lines(value))) == value
