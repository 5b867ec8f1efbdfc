"""`sampan pull`: get images from registries."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.credentials import headers_for
from sampan.cli.failure import Failure, UsageError
from sampan.cli.flags import Flag
from sampan.cli.moving import retries_of
from sampan.cli.options import retries
from sampan.cli.output import say, warn
from sampan.cli.progress import check_mode, has_total, show
from sampan.cli.references import named
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Options
    from sampan.cli.session import Session
    from sampan.client.wire import Response
    from sampan.spec.reference import Reference

POLICIES = ("always", "missing", "newer", "never")


def pull(call: Call) -> int:
    """Pull each image and print its whole name; what fails is said, and the others are pulled."""
    options = call.options
    check_policy(options["policy"])
    if options["format"] and not options["plan"]:
        raise UsageError("--format is for --plan")
    if options["plan"]:
        from sampan.cli.planning import print_plans

        return print_plans(call)
    mode = check_mode("quiet" if options["quiet"] else options["progress"])
    if len(call.arguments) == 1:
        _pull(call, call.arguments[0], mode)
        return 0
    status = 0
    for name in call.arguments:
        try:
            _pull(call, name, mode)
        except Failure as e:
            warn(e.message + (f"\n  hint: {e.hint}" if e.hint else ""))
            status = 1
    return status


def _pull(call: Call, name: str, mode: str) -> None:
    from sampan.spec.reference import is_whole

    options = call.options
    reference, whole = wanted(call.session, name, all_tags=options["all-tags"])
    tell = mode not in ("quiet", "rawjson")
    if tell and whole and not is_whole(name):
        say(f"Using default tag: {reference.tag}")
    policy, sizes = options["policy"], has_total(1, mode)
    _show(_request(call.session, reference, options, policy=policy, whole=whole, sizes=sizes), 1, mode)
    if mode != "rawjson":
        say(str(reference) if whole else reference.name)


def wanted(session: Session, name: str, *, all_tags: bool) -> tuple[Reference, bool]:
    """Read a name; return with it whether it is one image, and not all of a repository's tags."""
    from sampan.spec.reference import is_whole

    reference = named(session, name)
    if all_tags and is_whole(name):
        raise Failure("tag can't be used with --all-tags/-a")
    return reference, not all_tags


def check_policy(policy: str) -> None:
    """Raise Failure for a policy that there isn't."""
    if policy not in POLICIES:
        raise Failure(f"sampan: invalid value for --policy: {policy}", f"it is one of {', '.join(POLICIES)}", 125)


def pull_image(session: Session, name: str, options: Options, policy: str) -> None:
    """Pull an image for a container, by the options of its verb, and show progress on standard error."""
    reference = named(session, name)
    mode = "quiet" if options["quiet"] else "auto"
    answer = _request(session, reference, options, policy=policy, whole=True, sizes=has_total(2, mode))
    _show(answer, 2, mode)


def _request(
    session: Session, reference: Reference, options: Options, *, policy: str, whole: bool, sizes: bool
) -> Response:
    """Have the server pull an image, or all of a repository's where it is not a `whole` name."""
    parameters = query(
        fromImage=reference.name,
        tag=(reference.digest or reference.tag) if whole else None,
        platform=options["platform"],
        policy=policy if policy != "always" else None,
        sizes=sizes,
        **retries_of(options),
    )
    headers = headers_for(session, reference.registry, reference.repository, options["creds"])
    return session.ask("POST", f"/images/create{parameters}", None, headers)


def _show(answer: Response, stream: int, mode: str) -> None:
    try:
        show(answer.lines(), stream=stream, mode=mode)
    except Failure as e:
        raise Failure(f"Error response from daemon: {e.message}", e.hint) from None


COMMAND = Command(
    "pull [OPTIONS] NAME[:TAG|@DIGEST] [NAME...]",
    "Download images from registries",
    pull,
    flags=(
        Flag("all-tags", "bool", "Every tag of the repository", short="a"),
        Flag("creds", "string", "Credentials for the registry: USER[:PASSWORD]"),
        Flag(
            "disable-content-trust", "bool", "Skip verification", default=True, unsupported="there is no content trust"
        ),
        Flag("format", "string", "With --plan: json, or a template"),
        Flag("plan", "bool", "Say what would be fetched, and what is here, instead"),
        Flag("platform", "string", "Choose an image by OS[/ARCH[/VARIANT]]", environment="DOCKER_DEFAULT_PLATFORM"),
        Flag(
            "policy",
            "string",
            "always, missing (unless it is here), newer (if there is another) or never",
            default="always",
        ),
        Flag("progress", "string", "auto, plain, tty, quiet, or rawjson: the lines of the API", default="auto"),
        *retries(),
        Flag("quiet", "bool", "Print the name only", short="q"),
    ),
    arguments=(1, None),
)
