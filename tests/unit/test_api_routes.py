"""The table of paths against the reference, and what a path may hold."""

from pathlib import Path

import pytest

from sampan.api import routes, system
from sampan.errors import InvalidInput, NotFound

REFERENCE = set((Path(__file__).parent / "docker-api-1.50-paths.txt").read_text().splitlines())
OLDER = {"POST /grpc", "POST /build/cancel"}  # of the builder's, in no version of the reference
OLDER |= {"DELETE /containers/{id}/{id}"}  # a link's name has a slash, which Docker's client sends as it is
NO_PART = ("/swarm", "/nodes", "/services", "/tasks", "/configs", "/plugins")

BUILT = {f"{route.method} {route.path}" for route in routes.ROUTES}
UNSUPPORTED = {f"{route.method} {route.path}" for route in routes.UNSUPPORTED}


def same(paths: set[str]) -> set[str]:
    """Volumes are called by name, images too: the variable's name is of no matter."""
    return {path.replace("{name}", "{id}") for path in paths}


def test_every_path_that_is_claimed_is_dockers_or_ours() -> None:
    claimed = {path for path in BUILT | UNSUPPORTED if " /sampan/" not in path}

    assert same(claimed) - same(REFERENCE) == OLDER


def test_every_path_of_docker_is_built_or_refused_by_name() -> None:
    missing = same(REFERENCE) - same(BUILT | UNSUPPORTED)

    assert {path for path in missing if not path.split()[1].startswith(NO_PART)} == set()


def test_no_path_is_both() -> None:
    assert BUILT.isdisjoint(UNSUPPORTED)


@pytest.mark.parametrize(
    ("method", "path", "handler", "variables"),
    [
        ("GET", "/images/json", "list_images", {}),
        ("GET", "/images/json/json", "inspect", {"name": "json"}),
        ("GET", "/images/a/b/c:v1/json", "inspect", {"name": "a/b/c:v1"}),
        ("GET", "/images/h:5000/a@sha256:ab/history", "history", {"name": "h:5000/a@sha256:ab"}),
        ("DELETE", "/images/a/b", "remove", {"name": "a/b"}),
        ("GET", "/containers/json", "list_containers", {}),
        ("GET", "/containers/json/json", "inspect", {"id": "json"}),
        ("GET", "/containers/a%20b/json", "inspect", {"id": "a b"}),
        ("POST", "/exec/e1/start", "exec_start", {"id": "e1"}),
        ("DELETE", "/containers/web/alias", "remove", {"id": "web", "name": "alias"}),
    ],
)
def test_a_path_finds_its_handler(method: str, path: str, handler: str, variables: dict[str, str]) -> None:
    found, given = routes.find(method, path)

    assert (found.__name__, given) == (handler, variables)


@pytest.mark.parametrize(
    "path",
    ["/", "", "/nope", "//containers/json", "/containers", "/containers//json", "/containers/web/nope", "/swarm"],
)
def test_an_unknown_path_is_dockers_404(path: str) -> None:
    with pytest.raises(NotFound, match="page not found"):
        routes.find("GET", path)


def test_a_path_with_another_method_is_not_found_either() -> None:
    with pytest.raises(NotFound, match="page not found"):
        routes.find("PUT", "/containers/json")


@pytest.mark.parametrize("name", ["..", "a%2F..%2Fb", "%00", "a%0Ab", "x" * 600, "%7F"])
def test_a_name_that_no_object_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="invalid name"):
        routes.find("GET", f"/images/{name}/json")


def test_what_is_not_built_has_one_handler() -> None:
    assert routes.find("GET", "/images/search")[0] is system.unsupported


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/v1.41/info", ("1.41", "/info")),
        ("/info", ("", "/info")),
        ("/v1.41", ("", "/v1.41")),
        ("/version", ("", "/version")),
        ("/vx/info", ("", "/vx/info")),
    ],
)
def test_a_version_is_split_from_the_path(path: str, parts: tuple[str, str]) -> None:
    assert routes.split_version(path) == parts
