"""`sampan login`: have a registry check a name and a password, and keep them."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.credential_store import store
from sampan.cli.credentials import find
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say, warn
from sampan.cli.prompt import ask
from sampan.cli.references import default_registry
from sampan.cli.session import ServerError
from sampan.spec.credentials import hostname_of, server_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Options
    from sampan.cli.session import Session

_AGAIN = """
 Info -> To login with a different account, run 'sampan logout' followed by 'sampan login'

"""


def login(call: Call) -> int:
    """Log in with what is given, else with what is kept, else with what is typed."""
    session, options = call.session, call.options
    user, password = _given(options)
    registry = hostname_of(call.arguments[0]) if call.arguments else default_registry(session)
    server = server_of(registry)
    kept = find(session, registry) or {}
    if not user and not password and (kept.get("identitytoken") or kept.get("password")):
        warn(f"Authenticating with existing credentials... [Username: {kept.get('username', '<token>')}]\n{_AGAIN}")
        try:
            say(_check(session, server, kept)[0])
        except ServerError as e:
            if e.http_status != 401:
                raise
            warn("Stored credentials invalid or expired")
        else:
            return 0
    given = _typed(user, password, kept.get("username", ""))
    status, token = _check(session, server, given)
    store(session, server, {**given, "identitytoken": token} if token else given)
    say(status)
    return 0


def _given(options: Options) -> tuple[str, str]:
    """Return the name and the password from the command line or standard input."""
    import os

    user, password = options["username"].strip(), options["password"]
    if "username" in options and not user:
        raise Failure("username is empty")
    if "password" in options:
        if options["password-stdin"]:
            raise Failure("conflicting options: cannot specify both --password and --password-stdin")
        if not password.strip():
            raise Failure("password is empty")
        warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if options["password-stdin"]:
        if not user:
            raise Failure("the --password-stdin option requires --username to be set")
        parts = []
        while part := os.read(0, 65536):
            parts.append(part)
        password = b"".join(parts).decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
    return user, password


def _typed(user: str, password: str, known: str) -> dict[str, str]:
    if not user:
        user = ask(f"Username ({known}): " if known else "Username: ") or known
        if not user:
            raise Failure("Error: Non-null Username Required")
    if not password.strip():
        password = ask("Password: ", secret=True)
        if not password:
            raise Failure("Error: Password Required")
    return {"username": user, "password": password}


def _check(session: Session, server: str, credentials: dict[str, str]) -> tuple[str, str]:
    """Have the engine ask the registry; return what it says, and the identity token that it grants, if any."""
    answer = session.ask("POST", "/auth", {**credentials, "serveraddress": server}).json()
    return str(answer.get("Status") or "Login Succeeded"), str(answer.get("IdentityToken") or "")


COMMAND = Command(
    "login [OPTIONS] [SERVER]",
    "Authenticate to a registry",
    login,
    flags=(
        Flag("password", "string", "Password or Personal Access Token (PAT)", short="p"),
        Flag("password-stdin", "bool", "Take the Password or Personal Access Token (PAT) from stdin"),
        Flag("username", "string", "Username", short="u"),
    ),
    arguments=(0, 1),
)
