"""Which versions are spoken, and what differs between them."""

import msgspec
import pytest

from sampan.api import versions
from sampan.errors import InvalidInput
from sampan.spec import docker


@pytest.mark.parametrize(("text", "version"), [("", (1, 50)), ("1.24", (1, 24)), ("1.50", (1, 50)), ("1.9", None)])
def test_a_client_speaks_its_version(text: str, version: tuple[int, int] | None) -> None:
    if version is not None:
        assert versions.negotiate(text) == version
    else:
        with pytest.raises(InvalidInput, match="too old"):
            versions.negotiate(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "1.20",
            (
                "client version 1.20 is too old. Minimum supported API version is 1.24, "
                "please upgrade your client to a newer version"
            ),
        ),
        ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.50"),
        ("2.0", "client version 2.0 is too new. Maximum supported API version is 1.50"),
    ],
)
def test_other_versions_are_refused_in_dockers_words(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as e:
        versions.negotiate(text)

    assert e.value.message == said


@pytest.mark.parametrize("text", ["1", "1.", ".5", "1.2.3", "1.99999999999999999"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        versions.negotiate(text)


def fields(value: object, version: tuple[int, int]) -> dict[str, object]:
    return msgspec.json.decode(msgspec.json.encode(versions.present(value, version)))


def test_the_greatest_version_changes_nothing_but_what_it_dropped() -> None:
    image = docker.ImageSummary(id="a", size=5)

    assert versions.present(image, versions.GREATEST) is image
    assert "BridgeNfIptables" not in fields(docker.SystemInfo(), (1, 50))
    assert fields(docker.SystemInfo(), (1, 49))["BridgeNfIptables"] is False


def test_a_field_that_went_away_is_there_for_older_clients() -> None:
    image = docker.ImageSummary(id="a", size=5)

    assert fields(image, (1, 43))["VirtualSize"] == 5
    assert "VirtualSize" not in fields(image, (1, 44))


def test_an_images_configuration_is_whole_for_older_clients() -> None:
    image = docker.ImageInspect(config=docker.ImageConfig(cmd=("sh",)))

    assert fields(image, (1, 50))["Config"] == {"Cmd": ["sh"]}
    assert fields(image, (1, 49))["Config"].keys() >= {"Cmd", "Env", "Hostname", "Tty", "OnBuild"}
    assert fields(image, (1, 49))["Config"]["Cmd"] == fields(image, (1, 24))["Config"]["Cmd"] == ["sh"]
    assert "ContainerConfig" not in fields(image, (1, 45))
    assert fields(image, (1, 44))["ContainerConfig"]["Cmd"] is None


def test_a_field_that_came_is_not_there_for_older_clients() -> None:
    endpoint = docker.EndpointSettings(dns_names=("a",))
    networks = docker.NetworkSettings(networks={"bridge": endpoint})
    container = docker.ContainerInspectResponse(network_settings=networks)

    newer = fields(container, (1, 48))["NetworkSettings"]["Networks"]["bridge"]
    older = fields(container, (1, 43))["NetworkSettings"]["Networks"]["bridge"]

    assert set(newer) - set(older) == {"DNSNames", "GwPriority"}


def test_lists_are_presented_item_by_item() -> None:
    presented = versions.present([docker.ImageSummary(size=1), docker.ImageSummary(size=2)], (1, 30))

    assert [image["VirtualSize"] for image in msgspec.json.decode(msgspec.json.encode(presented))] == [1, 2]


@pytest.mark.parametrize("field", versions.FIELDS, ids=lambda f: f"{f.type.__name__}.{f.name}")
def test_the_table_names_fields_that_exist(field: versions.Field) -> None:
    assert field.name in {f.name for f in msgspec.structs.fields(field.type)}
    assert versions.LEAST <= field.since <= versions.GREATEST


@pytest.mark.parametrize(("version", "told"), [((1, 44), ["www", "4f66ad9a0b2e", "here"]), ((1, 45), ("www",))])
def test_the_id_is_among_the_aliases_for_older_clients(version, told) -> None:
    endpoint = docker.EndpointSettings(aliases=("www",), dns_names=("web", "www", "4f66ad9a0b2e", "here"))

    assert versions.present(endpoint, version).aliases == told


def test_who_has_no_names_has_no_aliases_for_older_clients_either() -> None:
    assert versions.present(docker.EndpointSettings(), (1, 30)).aliases is None
