"""From the flags of `build` to the request: the JSON of spec/build.BuildRequest."""

from __future__ import annotations

import os

from sampan.cli.building import contexts, values
from sampan.cli.credentials import every
from sampan.cli.failure import Failure, UsageError
from sampan.cli.proxies import configured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.building.contexts import Input
    from sampan.cli.command import Call
    from sampan.cli.flags import Options

    Json = dict[str, Any]

_LIMITS = {
    "memory": "memory",
    "memory-swap": "memory_swap",
    "cpu-shares": "cpu_shares",
    "cpu-period": "cpu_period",
    "cpu-quota": "cpu_quota",
    "cpuset-cpus": "cpuset_cpus",
    "cpuset-mems": "cpuset_mems",
    "shm-size": "shm_size",
    "cgroup-parent": "cgroup_parent",
}
_MANIFESTS = "they are in a manifest, which --push of one platform and -o type=oci make"
_FAILURES = ("", "shell")


def request_of(call: Call, found: Input) -> Json:
    """Return the request. Raises Failure where values don't go together."""
    options = call.options
    outputs = _outputs(options)
    annotations = values.manifest_annotations(options["annotation"])
    if annotations and not _has_manifest(options, outputs):
        raise Failure("unsupported: annotations of an image that is only stored", _MANIFESTS, 125)
    request: Json = {
        "context": found.context,
        "contexts": dict(map(contexts.named, options["build-context"])),
        "dockerfile": found.dockerfile,
        "dockerfile_name": found.name,
        "ignore": found.ignore,
        "target": options["target"],
        "platforms": _platforms(options["platform"]),
        "args": {
            **configured(call.session.config(), call.session.socket),
            **values.pairs(options["build-arg"], "key-value pair", own_values=True),
        },
        "labels": values.pairs(options["label"], "label"),
        "annotations": annotations,
        "tags": [*options["tag"], *_names(outputs)],
        "outputs": outputs,
        "squash": options["squash"],
        "epoch_s": _epoch(options),
        "pull": options["pull"],
        "auths": every(call.session),
        "no_cache": options["no-cache"],
        "no_cache_filter": options["no-cache-filter"],
        "cache_from": [entry for text in options["cache-from"] for entry in values.cache(text, export=False)],
        "cache_to": [entry for text in options["cache-to"] for entry in values.cache(text, export=True)],
        "network": options["network"],
        "add_hosts": options["add-host"],
        "limits": _limits(options),
        "secrets": [values.secret(text) for text in options["secret"]],
        "ssh": [values.ssh(text) for text in options["ssh"]],
        "allow": options["allow"],
        "on_failure": "keep" if options["on-failure"] else "",
        "check": checks_only(options),
        "why": options["why"],
        "twice": options["twice"],
    }
    said = {name: value for name, value in request.items() if value not in (None, False, "", [], {})}
    if found.dockerfile == "":  # an empty one is no reason to look for another
        said["dockerfile"] = ""
    return said


def _has_manifest(options: Options, outputs: list[Json]) -> bool:
    """Tell whether something is made that has a manifest. A list of several platforms is pushed with those it has."""
    pushes = [output["attributes"].get("push") == "true" for output in outputs]
    kinds = [output["type"] == "oci" for output in outputs]
    return any(kinds) or (any(pushes) and len(_platforms(options["platform"])) < 2)


def checks_only(options: Options) -> bool:
    """Tell whether nothing is to be built. Raises for words that there are not."""
    if options["on-failure"] not in _FAILURES:
        raise UsageError(f"invalid value for --on-failure: {options['on-failure']}", "it is shell")
    if options["on-failure"] and not os.isatty(0):
        raise Failure("the input device is not a TTY", "leave --on-failure out where the input is a pipe or a file")
    word = options["call"]
    if word not in ("build", "check", "lint"):
        raise Failure(f"sampan: --call={word} is unsupported", "there are build and check", 125)
    return bool(options["check"]) or word != "build"


def _outputs(options: Options) -> list[Json]:
    outputs = [values.output(text) for text in options["output"] if text]
    if sum(output["attributes"].get("dest") == "-" for output in outputs) > 1:
        raise Failure("only one output can go to standard output")
    if options["load"] and not any(output["type"] == "image" for output in outputs):
        outputs.append({"type": "image", "attributes": {}})
    if options["push"]:
        images = [output for output in outputs if output["type"] == "image"]
        if outputs and not images:
            raise Failure(f'push and "{outputs[0]["type"]}" output can\'t be used together')
        for output in images or outputs:
            output["attributes"]["push"] = "true"
        if not outputs:
            outputs.append({"type": "image", "attributes": {"push": "true"}})
    if any(output["attributes"].get("push") == "true" for output in outputs) and not _has_name(options, outputs):
        raise Failure("tag is needed when pushing to registry", "-t REGISTRY/NAME:TAG")
    for output in outputs:
        where = output["attributes"].get("dest", "-")
        if where != "-":
            output["attributes"]["dest"] = os.path.abspath(where)
    return outputs


def _has_name(options: Options, outputs: list[Json]) -> bool:
    return bool(options["tag"] or _names(outputs))


def _names(outputs: list[Json]) -> list[str]:
    """Return the names that image outputs give: `type=image,name=a,b` in quotes."""
    given = (output["attributes"].get("name", "") for output in outputs if output["type"] == "image")
    return [name for names in given for name in names.split(",") if name]


def _platforms(given: list[str]) -> list[Json]:
    from sampan.cli.platforms import as_json
    from sampan.client.jsontext import loads

    names = given if isinstance(given, list) else given.split(",") if given else []
    return [loads(as_json(name)) for name in names if name and name != "local"]


def _limits(options: Options) -> Json:
    limits: Json = {field: options[name] for name, field in _LIMITS.items() if options[name]}
    by_name = {limit["Name"]: limit for limit in options["ulimit"]}
    if by_name:
        limits["ulimits"] = [by_name[name] for name in sorted(by_name)]
    return limits


def _epoch(options: Options) -> int | None:
    """Return SOURCE_DATE_EPOCH, of the build argument or of the environment: reproducible-builds.org/specs."""
    given = values.pairs(options["build-arg"], "key-value pair", own_values=True).get("SOURCE_DATE_EPOCH")
    text = given or os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise Failure(f"invalid SOURCE_DATE_EPOCH {text!r}", "it is seconds since 1970: date +%s prints them")
    return int(text)
