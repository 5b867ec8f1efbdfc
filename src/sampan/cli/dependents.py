"""Which containers can't be without another one: those in its namespaces, with its volumes, or that require it."""

from __future__ import annotations

from sampan.cli.each import container
from sampan.spec.annotations import REQUIRES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.session import Session

_MODES = ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "CgroupnsMode")


def with_dependents(session: Session, names: list[str]) -> list[str]:
    """Return the names, each behind all that depend on it, in the order in which they can be removed."""
    listed = session.ask("GET", "/containers/json?all=1").json()
    known = [session.ask("GET", container(one["Id"], "/json")).json() for one in listed]
    ordered: list[str] = []

    def add(name: str) -> None:
        found = next((c for c in known if name in (c["Name"].lstrip("/"), c["Id"])), None)
        found = found or next((c for c in known if c["Id"].startswith(name)), None)
        shown = name if found is None else found["Name"].lstrip("/")
        if shown in seen:
            return
        seen.add(shown)
        for other in known:
            if found is not None and _leans_on(other["HostConfig"], found):
                add(other["Name"].lstrip("/"))
        ordered.append(shown)

    seen: set[str] = set()
    for name in names:
        add(name)
    return ordered


def _leans_on(host: dict[str, Any], other: dict[str, Any]) -> bool:
    named = [str(host.get(mode) or "").partition("container:")[2] for mode in _MODES]
    named += (host.get("Annotations") or {}).get(REQUIRES, "").split(",")
    named += [text.partition(":")[0] for text in host.get("VolumesFrom") or ()]
    name, id = other["Name"].lstrip("/"), other["Id"]
    return any(text and (text in (name, f"/{name}") or id.startswith(text)) for text in named)
