"""login and logout, at Debian's docker-registry with passwords and at one that grants tokens."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import Authority
from support.fake_registry import FakeRegistry
from support.registry import Registry
from support.sampan import Sampan, wait_until
from support.terminal import Terminal

INSECURE = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"
UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/

"""
ENTRY = {"auth": "bWU6c2VjcmV0"}

HELPER = """#!/bin/sh
read -r line
case $1 in
store) echo "$line" >"$KEPT" ;;
get) [ -s "$KEPT" ] && cat "$KEPT" || { echo credentials not found in native keychain; exit 1; } ;;
erase) : >"$KEPT"; echo "$line" >"$KEPT.erased" ;;
esac
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    found = Registry(tmp_path_factory.mktemp("login"), users={"me": "secret"})
    yield found
    found.end()


@pytest.fixture
def config(sampan: Sampan) -> Iterator[Path]:
    """Yield the path of config.json, which is not there."""
    directory = Path(sampan.env["HOME"]) / ".docker"
    subprocess.run(["rm", "-rf", directory], check=True)
    yield directory / "config.json"
    subprocess.run(["rm", "-rf", directory], check=True)


def test_what_the_registry_takes_is_kept_and_used(sampan: Sampan, server: Registry, config: Path) -> None:
    said = sampan("login", "-u", "me", "-p", "secret", server.address)

    assert said.out == "Login Succeeded\n"
    assert said.err == INSECURE + UNENCRYPTED.format(config)
    assert (
        config.read_text()
        == f'{{\n\t"auths": {{\n\t\t"{server.address}": {{\n\t\t\t"auth": "bWU6c2VjcmV0"\n\t\t}}\n\t}}\n}}\n'
    )
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    sampan("tag", "busybox", f"{server.address}/app")
    sampan("push", "-q", f"{server.address}/app")
    sampan("rmi", f"{server.address}/app")
    assert sampan("pull", "-q", f"{server.address}/app").line == f"{server.address}/app:latest"
    sampan("rmi", f"{server.address}/app")

    assert sampan("logout", server.address).out == f"Removing login credentials for {server.address}\n"
    assert json.loads(config.read_text()) == {"auths": {}}
    refused = sampan.fails(1, "pull", f"{server.address}/app")
    assert (
        "repository does not exist or may require 'docker login': unauthorized: no basic auth credentials"
        in refused.err
    )

    given = ("-q", "--creds", "me:secret")
    for command in (
        ("pull", *given, f"{server.address}/app"),
        ("run", "--rm", *given, f"{server.address}/app", "true"),
    ):
        sampan(*command)
        sampan("push", *given, f"{server.address}/app")
        sampan("rmi", f"{server.address}/app")
    assert "unauthorized" in sampan.fails(1, "pull", "--creds", "me:wrong", f"{server.address}/app").err
    app = f"{server.address}/app"
    for verb, *words in (("pull", app), ("push", app), ("copy", "store:busybox", f"docker://{app}")):
        assert "invalid number of retries: 100" in sampan.fails(1, verb, "--retry", "100", *words).err
    untyped = sampan.fails(125, "pull", "--plan", "--creds", "me", f"{server.address}/app").err
    assert untyped.startswith("sampan: can't ask for the password of me: standard input is no terminal\n")
    assert json.loads(config.read_text()) == {"auths": {}}


def test_a_password_from_standard_input_is_not_warned_of(sampan: Sampan, server: Registry, config: Path) -> None:
    words = ("login", "-u", "me", "--password-stdin", f"http://{server.address}/v2/")

    assert sampan(*words, input="secret\n").err == UNENCRYPTED.format(config)
    assert sampan(*words, input="secret").err == ""  # it is there already
    assert json.loads(config.read_text()) == {"auths": {server.address: ENTRY}}


@pytest.mark.parametrize(
    ("words", "input", "message"),
    [
        (["-u", "me", "--password-stdin"], "wrong\n",
         "Error response from daemon: login attempt to http://{0}/v2/ failed with status: 401 Unauthorized"),
        (["--password-stdin"], "secret\n", "the --password-stdin option requires --username to be set"),
        (["-u", "me", "-p", "x", "--password-stdin"], "secret\n",
         "conflicting options: cannot specify both --password and --password-stdin"),
        (["-u", "me"], "secret\n", "Error: Cannot perform an interactive login from a non TTY device"),
        (["-u", "me", "--password-stdin"], "", "Error: Cannot perform an interactive login from a non TTY device"),
        (["-u", ""], None, "username is empty"),
        (["-u", "me", "-p", ""], None, "password is empty"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_as_docker_says_it(
    sampan: Sampan, server: Registry, config: Path, words: list[str], input: str | None, message: str
) -> None:
    refused = sampan.fails(1, "login", *words, server.address, input=input)

    assert message.format(server.address) in refused.err
    assert not config.exists()


def test_the_rest_of_the_file_stays_as_it_is(sampan: Sampan, server: Registry, config: Path, tmp_path: Path) -> None:
    config.parent.mkdir(parents=True)
    real = tmp_path / "real.json"
    before = '{"zeta":1,"auths":{"x.example":{"auth":"bWU6eA=="}},"psFormat":"ä","alpha":{"b":1.50,"a":[null,true]}}'
    real.write_text(before)
    config.symlink_to(real)

    sampan("login", "-u", "me", "--password-stdin", server.address, input="secret")

    assert config.is_symlink()
    document = json.loads(real.read_text())
    assert list(document) == ["zeta", "auths", "psFormat", "alpha"]
    assert document["auths"] == {"x.example": {"auth": "bWU6eA=="}, server.address: ENTRY}
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["real.json"]
    sampan("logout", server.address)
    assert json.loads(real.read_text()) == json.loads(before)


def test_a_file_that_is_no_json_is_left_alone(sampan: Sampan, server: Registry, config: Path) -> None:
    config.parent.mkdir(parents=True)
    config.write_text('{"auths":')

    refused = sampan.fails(1, "login", "-u", "me", "--password-stdin", server.address, input="secret")

    assert f"Error saving credentials: can't read {config}" in refused.err
    assert config.read_text() == '{"auths":'


def test_a_file_stays_its_owners(sampan: Sampan, server: Registry, config: Path) -> None:
    config.parent.mkdir(parents=True)
    config.write_text("{}")
    os.chown(config, 1234, 4321)

    sampan("login", "-u", "me", "--password-stdin", server.address, input="secret")

    assert (config.stat().st_uid, config.stat().st_gid) == (1234, 4321)


@pytest.fixture
def helper(tmp_path: Path) -> dict[str, str]:
    """Make a credential helper; return the environment that it needs."""
    program = tmp_path / "docker-credential-fake"
    program.write_text(HELPER)
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KEPT": str(tmp_path / "kept")}


@pytest.mark.parametrize("how", ["credsStore", "credHelpers"])
def test_a_helper_keeps_them_instead(
    sampan: Sampan, server: Registry, config: Path, helper: dict[str, str], how: str
) -> None:
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({how: "fake" if how == "credsStore" else {server.address: "fake"}}))

    said = sampan("login", "-u", "me", "--password-stdin", server.address, input="secret", env=helper)

    assert said.err == ""
    kept = json.loads(Path(helper["KEPT"]).read_text())
    assert kept == {"ServerURL": server.address, "Username": "me", "Secret": "secret"}
    assert json.loads(config.read_text())["auths"] == {server.address: {}}
    again = sampan("login", server.address, env=helper)
    assert again.out == "Login Succeeded\n"
    assert again.err.startswith("Authenticating with existing credentials... [Username: me]\n")
    sampan("logout", server.address, env=helper)
    assert Path(helper["KEPT"]).read_text() == ""
    assert Path(f"{helper['KEPT']}.erased").read_text() == f"{server.address}\n"
    assert json.loads(config.read_text())["auths"] == {}


def test_a_helper_that_is_not_there_is_named(sampan: Sampan, server: Registry, config: Path) -> None:
    config.parent.mkdir(parents=True)
    config.write_text('{"credsStore":"none"}')
    cause = 'err: exec: "docker-credential-none": executable file not found in $PATH, out: ``'

    refused = sampan.fails(1, "login", "-u", "me", "--password-stdin", server.address, input="secret")

    assert f"Error saving credentials: error storing credentials - {cause}" in refused.err
    assert f"{server.address}: error erasing credentials - {cause}" in sampan.fails(1, "logout", server.address).err


def test_stored_credentials_that_are_not_taken_any_more_are_said_to_be(
    sampan: Sampan, server: Registry, config: Path
) -> None:
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"auths": {server.address: {"auth": "bWU6b2xk"}}}))

    refused = sampan.fails(1, "login", server.address)

    assert "Stored credentials invalid or expired\n" in refused.err
    assert "Cannot perform an interactive login" in refused.err


def test_an_identity_token_is_kept_in_place_of_the_password(sampan: Sampan, config: Path) -> None:
    fake = FakeRegistry()
    try:
        fake.asks, fake.refresh_token = "token", "identity"
        fake.put_image("app", "1", b"")

        said = sampan("login", "-u", "me", "--password-stdin", fake.address, input="secret")

        assert said.err == ""
        kept = json.loads(config.read_text())["auths"][fake.address]
        assert kept == {"auth": "bWU6", "identitytoken": "identity"}
        assert "offline_token=true" in fake.asked("GET")[1]
        sampan("pull", f"{fake.address}/app:1", check=False)
        assert fake.asked("POST") == ["/token"]
    finally:
        fake.end()


def test_a_token_servers_refusal_is_passed_on(sampan: Sampan, config: Path) -> None:
    fake = FakeRegistry()
    try:
        fake.asks = "token"

        refused = sampan.fails(1, "login", "-u", "me", "--password-stdin", fake.address, input="wrong")

        assert f'Get "http://{fake.address}/v2/": unauthorized: incorrect username or password' in refused.err
    finally:
        fake.end()


def test_a_server_that_is_none_is_refused(sampan: Sampan, config: Path) -> None:
    refused = sampan.fails(1, "login", "-u", "me", "--password-stdin", "not a server", input="x")

    assert "can't log in at 'not a server': it is no registry" in refused.err


def test_credentials_of_skopeo_and_podman_are_found(
    sampan: Sampan, server: Registry, config: Path, tmp_path: Path
) -> None:
    file = tmp_path / "auth.json"
    words = [
        "skopeo",
        "login",
        "--tls-verify=false",
        "--authfile",
        str(file),
        "-u",
        "me",
        "-p",
        "secret",
        server.address,
    ]
    subprocess.run(words, check=True, capture_output=True)
    sampan("tag", "busybox", f"{server.address}/theirs")

    sampan("push", "-q", f"{server.address}/theirs", env={"REGISTRY_AUTH_FILE": str(file)})

    (tmp_path / "containers").mkdir()
    file.rename(tmp_path / "containers/auth.json")
    sampan("pull", "-q", f"{server.address}/theirs", env={"XDG_RUNTIME_DIR": str(tmp_path)})
    sampan("rmi", f"{server.address}/theirs")


def test_skopeo_and_podman_find_ours(sampan: Sampan, server: Registry, config: Path) -> None:
    sampan("login", "-u", "me", "--password-stdin", server.address, input="secret")

    for program in ("skopeo", "podman"):
        words = [program, "login", "--authfile", str(config), "--get-login", server.address]
        assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == "me\n"


def test_a_key_may_be_for_a_part_of_a_registry(sampan: Sampan, server: Registry, config: Path) -> None:
    config.parent.mkdir(parents=True)
    config.write_text(
        json.dumps({"auths": {server.address: {"auth": "bWU6d3Jvbmc="}, f"{server.address}/team": ENTRY}})
    )
    sampan("tag", "busybox", f"{server.address}/team/app")
    sampan("tag", "busybox", f"{server.address}/teams/app")

    sampan("push", "-q", f"{server.address}/team/app")
    sampan.fails(1, "push", "-q", f"{server.address}/teams/app")
    sampan("rmi", f"{server.address}/team/app", f"{server.address}/teams/app")


def test_tls_passwords_and_client_certificates_together(sampan: Sampan, config: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    tls = {"certificate": str(certificate), "key": str(key), "clientcas": [str(authority.certificate)]}
    registry = Registry(tmp_path / "registry", users={"me": "secret"}, tls=tls)
    trusted = sampan.root / "certs.d" / registry.address
    try:
        refused = sampan.fails(1, "login", "-u", "me", "--password-stdin", registry.address, input="secret")
        assert "tls" in refused.err

        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(authority.certificate.read_bytes())
        for source, name in zip(authority.issue("client"), ("me.cert", "me.key"), strict=True):
            (trusted / name).write_bytes(source.read_bytes())
        sampan("login", "-u", "me", "--password-stdin", registry.address, input="secret")
        sampan("tag", "busybox", f"{registry.address}/app")
        sampan("push", "-q", f"{registry.address}/app")
        sampan("rmi", f"{registry.address}/app")
        sampan("pull", "-q", f"{registry.address}/app")
        sampan("rmi", f"{registry.address}/app")
    finally:
        registry.end()
        subprocess.run(["rm", "-rf", sampan.root / "certs.d"], check=True)


@pytest.fixture
def terminal(sampan: Sampan, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(sampan, tmp_path)
    terminal.enter(f"export DOCKER_CONFIG={sampan.env['HOME']}/.docker; clear")
    yield terminal
    terminal.end()


def test_who_sits_at_a_terminal_is_asked(server: Registry, config: Path, terminal: Terminal) -> None:
    terminal.enter(f"sampan login {server.address}")
    terminal.shows("Username:")
    terminal.enter("me")
    terminal.shows("Password:")
    terminal.enter("secret")

    screen = terminal.shows("Login Succeeded")
    assert "secret" not in screen
    assert json.loads(config.read_text()) == {"auths": {server.address: ENTRY}}
    terminal.enter("stty -a | grep -ow echo && echo shown")
    terminal.shows("\nshown")


def test_a_password_that_is_not_among_the_credentials_is_asked_for(
    server: Registry, config: Path, terminal: Terminal
) -> None:
    terminal.enter(f"name=$(sampan pull -q --creds me {server.address}/app); echo got $name")
    terminal.shows(f"Password of me at {server.address}:")
    terminal.enter("secret")

    screen = terminal.shows(f"got {server.address}/app:latest")
    assert "secret" not in screen
    assert not config.exists()


def test_control_c_at_the_password_leaves_the_terminal_as_it_was(
    server: Registry, config: Path, terminal: Terminal
) -> None:
    terminal.enter(f"sampan login -u me {server.address}; echo code $?")
    terminal.shows("Password:")
    terminal.type("half", "C-c")

    terminal.shows("code 130")
    terminal.enter("stty -a | grep -ow echo && echo shown")
    assert "half" not in terminal.shows("\nshown")
    assert not config.exists()


def test_a_name_is_offered_again(server: Registry, config: Path, terminal: Terminal) -> None:
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"auths": {server.address: {"auth": "bWU6b2xk"}}}))
    terminal.enter(f"sampan login {server.address}")
    terminal.shows("Stored credentials invalid or expired")
    terminal.shows("Username (me):")
    terminal.enter("")
    terminal.shows("Password:")
    terminal.enter("secret")

    terminal.shows("Login Succeeded")
    wait_until(lambda: json.loads(config.read_text()) == {"auths": {server.address: ENTRY}}, what="it is kept")
