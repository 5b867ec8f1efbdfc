"""Command lines that Docker's client and ours must treat alike, and what of the outcome is compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

GOLDENS = Path(__file__).parent.parent / "goldens"
CASES = [
    line for line in (GOLDENS / "cli-cases.txt").read_text().splitlines() if line.strip() and not line.startswith("#")
]

_KEPT = ("EnableIPv4", "EnableIPv6", "StopTimeout", "Init", "MaskedPaths", "ReadonlyPaths", "Entrypoint")
_MAPS = ("Options", "Labels", "Volumes", "Tmpfs", "Sysctls")
_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC")
_DEPRECATED = re.compile(r"\ADEPRECATED: .*?\n\n", re.DOTALL)  # the docker client without its plugin says so
_NOTHING = (None, "", 0, False, [], {}, [0, 0])


def environment(directory: Path) -> dict[str, str]:
    """What the variables of the cases need."""
    return {"FOO": "foo", "HOME": str(directory), "DOCKER_CONFIG": str(directory), "TZ": "UTC", "PWD": str(directory)}


def prepare(directory: Path) -> None:
    """Make the files that the cases name."""
    (directory / "good.env").write_text("# c\n\nA=1\nFOO\nNOPE\n  B=x y\n")
    (directory / "space.env").write_text("A B=x\n")
    (directory / "empty.env").write_text("=x\n")
    (directory / "binary.env").write_bytes(b"\xff=x\n")
    (directory / "good.labels").write_text("# c\na=1\nb\nc = d\n".replace("c = d\n", "c=d e\n"))
    (directory / "seccomp.json").write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }\n')


def normalized(status: int, out: str, err: str, requests: list, directory: Path) -> dict[str, object]:
    """Return what is compared: the status, what was printed, the first line of what went wrong, the requests."""
    if any(method == "DELETE" and path.startswith("/networks/") for method, path, _ in requests):
        requests = [request for request in requests if request[0] != "GET"]  # Docker looks whether it is swarm's
    asked = [
        [method, _sorted(path), _meaning(body)] for method, path, body in requests if _counts(status, method, path)
    ]
    err = _DEPRECATED.sub("", err)
    first = err.partition("\n")[0].replace("sampan", "docker")
    first = "" if first.startswith("time=") else first  # the client's log, not its message
    out = _DATE.sub("DATE", out)
    text = json.dumps({"status": status, "out": out, "error": first, "requests": asked})
    return json.loads(text.replace(str(directory), "/P/D").replace(str(directory.parent), "/P"))


def _counts(status: int, method: str, path: str) -> bool:
    """What is asked only to be sure (Docker looks for the container before an exec, and waits also with -d) is not."""
    if status and method == "GET":  # Docker tries a template before it asks
        return False
    looks = method == "GET" and path.startswith("/containers/") and path != "/containers/json" and "/json" in path
    return not looks and "/wait?" not in path


def _sorted(path: str) -> str:
    path, mark, query = path.replace("%20", "+").partition("?")
    return path + mark + "&".join(sorted(query.split("&")))


def _meaning(value):
    """A body without what is at its default: Docker's client spells all of it out."""
    if isinstance(value, dict):
        host = value.get("HostConfig")
        if isinstance(host, dict) and host.get("MemorySwappiness") == -1:
            host.pop("MemorySwappiness")
        if isinstance(host, dict):
            _drop_default_endpoint(value, host.get("NetworkMode"))
        inner = {key: item if key in _MAPS and item else _meaning(item) for key, item in value.items()}
        return {k: v for k, v in inner.items() if v not in _NOTHING or (k in _KEPT and v is not None)}
    if not isinstance(value, list):
        return value
    items = [_meaning(item) for item in value]
    subnets = items and all(isinstance(item, dict) and "Subnet" in item for item in items)
    return sorted(items, key=lambda item: item["Subnet"]) if subnets else items  # Docker's client has them in no order


def _drop_default_endpoint(body, mode) -> None:
    """Leave out that the container is on the network of its mode if nothing else is said of that; keep all others."""
    endpoints = (body.pop("NetworkingConfig", None) or {}).get("EndpointsConfig") or {}
    told = {name: _meaning(endpoint) for name, endpoint in endpoints.items()}
    if kept := {name: endpoint or "joined" for name, endpoint in told.items() if endpoint or name != mode}:
        body["NetworkingConfig"] = kept
