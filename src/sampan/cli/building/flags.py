"""The flags of `build`: Docker's and buildx's, and ours. One that can't be done is refused, never ignored."""

from __future__ import annotations

from sampan.cli.flags import Flag

_ATTESTATIONS = "no attestations are made"
_ONE = "there is one builder, the engine itself"

INPUT, RESULT, CACHE, RUN, SHOWN = (
    "What is built",
    "What becomes of it",
    "Cache",
    "Environment of RUN",
    "What is shown",
)

FLAGS = (
    Flag("file", "string", "Dockerfile (default: PATH/Dockerfile); - is standard input", short="f", group=INPUT),
    Flag("build-arg", "list", "Set an ARG: NAME=VALUE; a name alone takes its value from here", group=INPUT),
    Flag("build-context", "list", "One more context: NAME=PATH, URL, docker-image://…, oci-layout://…", group=INPUT),
    Flag("target", "string", "Build this stage", group=INPUT),
    Flag("platform", "csv", "Build for OS/ARCH[/VARIANT]; several make an index",
         environment="DOCKER_DEFAULT_PLATFORM", group=INPUT),
    Flag("pull", "bool", "Fetch the images anew even if they are here", group=INPUT),
    Flag("secret", "list", "A secret for RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]", group=INPUT),
    Flag("ssh", "list", "An SSH agent for RUN --mount=type=ssh: default or NAME[=SOCKET]", group=INPUT),
    Flag("compress", "bool", "Compress the context with gzip where it has to be sent", group=INPUT),
    Flag("tag", "list", "Name the image: NAME[:TAG]", short="t", group=RESULT),
    Flag("label", "list", "Set a label: NAME=VALUE", group=RESULT),
    Flag("annotation", "list", "Set an annotation of the manifest: NAME=VALUE", group=RESULT),
    Flag("output", "list", "type=image|local|tar|oci|docker|cacheonly[,dest=PATH]…; DIRECTORY, or - for a tar",
         short="o", group=RESULT),
    Flag("push", "bool", "Push the image to the registry of its name", group=RESULT),
    Flag("load", "bool", "Put the image into the store, as is done without it", group=RESULT),
    Flag("squash", "bool", "Make one layer of all that was built", group=RESULT),
    Flag("iidfile", "string", "Write the image's id to this file", group=RESULT),
    Flag("metadata-file", "string", "Write what was built to this file, as JSON", group=RESULT),
    Flag("twice", "bool", "Build it twice, and show the first difference", group=RESULT),
    Flag("no-cache", "bool", "Make every step anew", group=CACHE),
    Flag("no-cache-filter", "csv", "Make the steps of these stages anew", group=CACHE),
    Flag("cache-from", "list", "Use the cache of an image, or type=registry|local,…", group=CACHE),
    Flag("cache-to", "list", "Write the cache to type=registry|inline|local,…", group=CACHE),
    Flag("why", "bool", "Say of each step why it was made anew", group=CACHE),
    Flag("network", "string", "Network of RUN: default, none, host, or a network's name", default="default", group=RUN),
    Flag("add-host", "host", "Add a line to /etc/hosts: NAME:ADDRESS", group=RUN),
    Flag("allow", "csv", "Allow what a RUN may ask for: security.insecure, network.host", group=RUN),
    Flag("shm-size", "bytes", "Size of /dev/shm", group=RUN),
    Flag("ulimit", "ulimit", "Set a resource limit: NAME=SOFT[:HARD]", group=RUN),
    Flag("memory", "bytes", "Memory limit: 512m, 2g", short="m", group=RUN),
    Flag("memory-swap", "swap", "Limit of memory and swap together; -1: unlimited", group=RUN),
    Flag("cpu-shares", "int", "Relative weight of CPU time", short="c", default=0, group=RUN),
    Flag("cpu-period", "int", "Microseconds of a period", default=0, group=RUN),
    Flag("cpu-quota", "int", "Microseconds of CPU time in each period", default=0, group=RUN),
    Flag("cpuset-cpus", "string", "CPUs that it may use: 0-3, 0,1", group=RUN),
    Flag("cpuset-mems", "string", "Memory nodes that it may use", group=RUN),
    Flag("cgroup-parent", "string", "Control group to make those of RUN below", group=RUN),
    Flag("check", "bool", "Look the Dockerfile over, and build nothing", group=SHOWN),
    Flag("call", "string", "build, or check: the same as --check", default="build", group=SHOWN),
    Flag("on-failure", "string", "shell: open a shell in the files of the step that failed", group=SHOWN),
    Flag("progress", "string", "auto, plain, tty, quiet, or rawjson: BuildKit's lines for programs",
         default="auto", environment="BUILDKIT_PROGRESS", group=SHOWN),
    Flag("quiet", "bool", "Print the image's id only", short="q", group=SHOWN),
    Flag("rm", "bool", "Remove a step's container: always", default=True, group=RUN,
         unsupported="nothing of a step is left; --on-failure=shell shows the one that failed"),
    Flag("force-rm", "bool", "Remove a step's container after a failure, too: always", group=RUN),
    Flag("attest", "list", "Attestation", group=RESULT, unsupported=_ATTESTATIONS),
    Flag("provenance", "string", "Attestation; false is none", group=RESULT, default="false",
         unsupported=_ATTESTATIONS),
    Flag("sbom", "string", "Attestation; false is none", group=RESULT, default="false", unsupported=_ATTESTATIONS),
    Flag("builder", "string", "Builder", default="default", environment="BUILDX_BUILDER", unsupported=_ONE),
    Flag("isolation", "string", "Isolation technology", default="default",
         unsupported="Docker has it for Windows only"),
    Flag("security-opt", "list", "Security options", unsupported="--allow=security.insecure and RUN --security"),
    Flag("disable-content-trust", "bool", "Skip verification", default=True, unsupported="there is no content trust"),
)  # fmt: skip
"""In the order of the help's groups."""
