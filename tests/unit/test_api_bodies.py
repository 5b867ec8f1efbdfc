"""Docker's bodies: names and fields as the reference has them, read as Go reads them."""

from pathlib import Path

import msgspec
import pytest

from sampan.errors import InvalidInput, Unsupported
from sampan.spec import docker

REFERENCE = {
    name: set(fields.split())
    for name, fields in (
        line.split(":") for line in (Path(__file__).parent / "docker-api-1.50-fields.txt").read_text().splitlines()
    )
}
RENAMED = {"EndpointIPAMConfig": "EndpointIpamConfig", "IPAM": "Ipam"}
NOT_OURS = {  # of a feature that no answer of this engine can be about
    "ContainerInspectResponse": {"ImageManifestDescriptor"},
    "ContainerSummary": {"ImageManifestDescriptor"},
    "Network": {"Peers"},
    "Resources": {"Init"},  # it is in HostConfig alone, in Docker's code
    "SystemInfo": {"FirewallBackend", "Containerd"},
    "Volume": {"ClusterVolume"},
}


@pytest.mark.parametrize("name", REFERENCE)
def test_a_body_has_the_fields_of_the_reference(name: str) -> None:
    struct = getattr(docker, RENAMED.get(name, name))
    fields = {field.encode_name for field in msgspec.structs.fields(struct)}

    assert REFERENCE[name] - fields == NOT_OURS.get(name, set())


@pytest.mark.parametrize("name", docker.__all__)
def test_an_empty_body_survives_its_own_json(name: str) -> None:
    struct = getattr(docker, name)
    if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
        assert msgspec.json.decode(msgspec.json.encode(struct()), type=struct) == struct()


def test_empty_fields_are_left_out_only_where_docker_leaves_them_out() -> None:
    encoded = msgspec.json.decode(msgspec.json.encode(docker.ContainerConfig()))

    assert encoded["Hostname"] == ""
    assert encoded["Env"] is None
    assert encoded.keys().isdisjoint({"StopSignal", "StopTimeout", "Shell", "ExposedPorts", "MacAddress"})


def test_null_is_not_given_and_names_match_in_any_case() -> None:
    body = docker.decode(
        docker.ContainerCreate,
        b'{"image":"x","Env":null,"Tty":null,"HostConfig":{"MEMORY":5,"Binds":null,"Privileged":null}}',
    )

    assert (body.image, body.env, body.tty) == ("x", None, False)
    assert (body.host_config.memory, body.host_config.binds) == (5, None)


def test_one_string_is_taken_for_a_list_of_words() -> None:
    assert docker.decode(docker.ContainerCreate, b'{"Cmd":"ls"}').cmd == ("ls",)


def test_a_port_without_a_binding_stays() -> None:
    body = docker.decode(docker.ContainerCreate, b'{"x":null,"HostConfig":{"PortBindings":{"80/tcp":null}}}')

    assert body.host_config.port_bindings == {"80/tcp": None}


@pytest.mark.parametrize("value", ["null", '""', "0", "false", "[]", "{}"])
def test_an_unknown_field_that_is_empty_does_no_harm(value: str) -> None:
    assert docker.decode(docker.ContainerCreate, f'{{"New":{value}}}'.encode()) == docker.ContainerCreate()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"Memroy":1}', "$.Memroy"),
        (b'{"HostConfig":{"Memroy":1}}', "$.HostConfig.Memroy"),
        (b'{"HostConfig":{"Mounts":[{"Target":"/a"},{"Foo":"x"}]}}', "$.HostConfig.Mounts[1].Foo"),
        (b'{"NetworkingConfig":{"EndpointsConfig":{"n":{"Foo":1}}}}', "$.NetworkingConfig.EndpointsConfig.n.Foo"),
    ],
)
def test_an_unknown_field_is_refused_with_its_place(body: bytes, place: str) -> None:
    with pytest.raises(Unsupported) as e:
        docker.decode(docker.ContainerCreate, body)

    assert place in e.value.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "EOF"),
        (b"[]", "must be an object"),
        (b"{", "truncated"),
        (b'{"Image":5}', "$.Image"),
        (b'{"HostConfig":{"Memory":"1"}}', "$.HostConfig.Memory"),
        (b'{"Image":"\xff"}', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"HostConfig":{"Memory":99999999999999999999}}', "$.HostConfig.Memory"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(body: bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as e:
        docker.decode(docker.ContainerCreate, body)

    assert said in e.value.message


def test_a_newer_servers_fields_are_left_out() -> None:
    answer = docker.decode_answer(docker.ContainerInspectResponse, b'{"Id":"a","HostConfig":{"New":{"x":1}}}')

    assert answer == docker.ContainerInspectResponse(id="a")


def test_an_exec_as_docker_py_asks_for_it_is_understood() -> None:
    body = docker.decode(docker.ExecConfig, b'{"Container":"67ce2cb6d7e4","Cmd":["true"],"AttachStdout":true}')

    assert body.cmd == ("true",)


def test_null_in_a_map_of_objects_is_an_empty_one() -> None:
    body = docker.decode(
        docker.ContainerCreate,
        b'{"ExposedPorts":{"80/tcp":null},"NetworkingConfig":{"EndpointsConfig":{"net":null}},'
        b'"HostConfig":{"PortBindings":{"80/tcp":null}}}',
    )

    assert body.exposed_ports == {"80/tcp": {}}
    assert body.networking_config.endpoints_config == {"net": docker.EndpointSettings()}
    assert body.host_config.port_bindings == {"80/tcp": None}
