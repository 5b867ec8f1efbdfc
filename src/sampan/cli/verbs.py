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
    "build": "build",
    "commit": "commit",
    "copy": "copy",
    "cp": "cp",
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
    "stats": "stats",
    "stop": "stop",
    "tag": "tag",
    "top": "top",
    "unpause": "unpause",
    "untag": "untag",
    "update": "update",
    "wait": "wait",
}
"""Verb to module."""

COMMON = ("run", "exec", "ps", "pull", "images", "version", "info")
"""Those that the help shows first."""

GROUPS = {
    "builder": {
        "build": "build",
        "du": "builder_du",
        "prune": "builder_prune",
    },
    "container": {
        "attach": "attach",
        "commit": "commit",
        "cp": "cp",
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
        "stats": "stats",
        "stop": "stop",
        "top": "top",
        "unpause": "unpause",
        "update": "update",
        "wait": "wait",
    },
    "image": {
        "build": "build",
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
    "network": {
        "audit": "network_audit",
        "connect": "network_connect",
        "create": "network_create",
        "disconnect": "network_disconnect",
        "exists": "network_exists",
        "inspect": "network_inspect",
        "ls": "network_ls",
        "list": "network_ls",
        "prune": "network_prune",
        "rm": "network_rm",
        "remove": "network_rm",
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
    "volume": {
        "create": "volume_create",
        "exists": "volume_exists",
        "inspect": "volume_inspect",
        "ls": "volume_ls",
        "list": "volume_ls",
        "prune": "volume_prune",
        "rm": "volume_rm",
        "remove": "volume_rm",
    },
}
"""Group and verb to module."""

OTHER_NAMES = {"buildx": "builder"}
"""Groups by the name of Docker's plugin."""

ALIASES = ("list", "ps", "remove")
"""Verbs of a group that the help leaves out, as there is another word for them."""

SUMMARIES = {
    "builder": "Manage builds",
    "container": "Manage containers",
    "image": "Manage images",
    "manifest": "Make indexes: several images under one name",
    "network": "Manage networks",
    "registry": "Serve images to others",
    "system": "Manage the engine",
    "volume": "Manage volumes",
}

_LATER = "it comes later"
_SWARM = "sampan is an engine for one machine"

LATER = {
    "checkpoint": _LATER,
    "compose": _LATER,
    "config": _SWARM,
    "context": "name the engine with --host or --root",
    "node": _SWARM,
    "plugin": _LATER,
    "search": "look at https://hub.docker.com",
    "secret": _SWARM,
    "service": _SWARM,
    "stack": _SWARM,
    "swarm": _SWARM,
    "trust": _LATER,
    "system dial-stdio": _LATER,
}
"""Docker's verbs that are not there, with what to do instead."""
