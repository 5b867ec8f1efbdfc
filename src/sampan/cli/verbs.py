"""Which module of cli/commands does which verb. The order is that of the help."""

from __future__ import annotations

VERBS = {
    "run": "run",
    "exec": "exec",
    "ps": "ps",
    "pull": "pull",
    "images": "images",
    "version": "version",
    "info": "info",
    "attach": "attach",
    "commit": "commit",
    "copy": "copy",
    "create": "create",
    "delete": "delete",
    "diff": "diff",
    "events": "events",
    "export": "export",
    "history": "history",
    "import": "import_",
    "inspect": "inspect",
    "kill": "kill",
    "list-tags": "list_tags",
    "load": "load",
    "login": "login",
    "logout": "logout",
    "logs": "logs",
    "pause": "pause",
    "port": "port",
    "push": "push",
    "rename": "rename",
    "restart": "restart",
    "rm": "rm",
    "rmi": "rmi",
    "save": "save",
    "start": "start",
    "stop": "stop",
    "tag": "tag",
    "top": "top",
    "unpause": "unpause",
    "untag": "untag",
    "wait": "wait",
}
"""Verb to module."""

COMMON = ("run", "exec", "ps", "pull", "images", "version", "info")
"""Those that the help shows first."""

GROUPS = {
    "container": {
        "attach": "attach",
        "commit": "commit",
        "create": "create",
        "diff": "diff",
        "exec": "exec",
        "export": "export",
        "inspect": "container_inspect",
        "kill": "kill",
        "logs": "logs",
        "ls": "ps",
        "list": "ps",
        "ps": "ps",
        "pause": "pause",
        "port": "port",
        "prune": "container_prune",
        "rename": "rename",
        "restart": "restart",
        "rm": "rm",
        "remove": "rm",
        "run": "run",
        "start": "start",
        "stop": "stop",
        "top": "top",
        "unpause": "unpause",
        "wait": "wait",
    },
    "image": {
        "exists": "image_exists",
        "history": "history",
        "import": "import_",
        "inspect": "image_inspect",
        "load": "load",
        "ls": "images",
        "list": "images",
        "map": "image_map",
        "prune": "image_prune",
        "pull": "pull",
        "push": "push",
        "rm": "rmi",
        "remove": "rmi",
        "save": "save",
        "tag": "tag",
        "tree": "image_tree",
        "untag": "untag",
    },
    "manifest": {
        "add": "manifest_add",
        "annotate": "manifest_annotate",
        "create": "manifest_create",
        "exists": "manifest_exists",
        "inspect": "manifest_inspect",
        "push": "manifest_push",
        "remove": "manifest_remove",
        "rm": "manifest_rm",
    },
    "registry": {
        "gc": "registry_gc",
        "serve": "registry_serve",
    },
    "system": {
        "df": "system_df",
        "events": "events",
        "info": "info",
        "prune": "system_prune",
        "socket": "system_socket",
        "stop": "system_stop",
    },
}
"""Group and verb to module."""

ALIASES = ("list", "ps", "remove")
"""Verbs of a group that the help leaves out, as there is another word for them."""

SUMMARIES = {
    "container": "Manage containers",
    "image": "Manage images",
    "manifest": "Make indexes: several images under one name",
    "registry": "Serve images to others",
    "system": "Manage the engine",
}

_BUILD = "building comes later: `sampan import` and `sampan load` make images"
_NETWORK = "there are no networks yet: --network none, host and container:NAME work"
_LATER = "it comes later"
_SWARM = "sampan is an engine for one machine"

LATER = {
    "build": _BUILD,
    "builder": _BUILD,
    "buildx": _BUILD,
    "checkpoint": _LATER,
    "compose": _LATER,
    "config": _SWARM,
    "context": "name the engine with --host or --root",
    "cp": _LATER,
    "network": _NETWORK,
    "node": _SWARM,
    "plugin": _LATER,
    "search": "look at https://hub.docker.com",
    "secret": _SWARM,
    "service": _SWARM,
    "stack": _SWARM,
    "stats": _LATER,
    "swarm": _SWARM,
    "trust": _LATER,
    "update": _LATER,
    "volume": _LATER,
    "container cp": _LATER,
    "container stats": _LATER,
    "container update": _LATER,
    "image build": _BUILD,
    "system dial-stdio": _LATER,
}
"""Docker's verbs that are not there, with what to do instead."""
