"""Names on networks, as containers ask for them: through the installed program, by 127.0.0.11, port 53."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.network import dns
from support.resolving import Answer, ask, ask_tcp, inside, says, serving
from support.sampan import PROGRAM, Sampan, new_root, wait_until

SLEEP = ("busybox", "sleep", "1000")
LOCAL = "nameserver 127.0.0.1\nsearch a.example\noptions edns0\n"


@pytest.fixture(scope="module")
def named(busybox_tar: Path) -> Iterator[Sampan]:
    """Yield an instance whose host has a name server on its own loopback, and a resolv.conf for tests to change."""
    sampan = Sampan(new_root())
    (sampan.root / "resolv.conf").write_text(LOCAL)
    try:
        begin(sampan, "import", busybox_tar, "busybox")
        yield sampan
        left = [*sampan.leftovers(), *map(str, (sampan.run_directory / "networks").iterdir())]
        assert "Traceback" not in sampan.log()
    finally:
        sampan.end()
    assert not left


def begin(sampan: Sampan, *args: str | Path) -> None:
    """Run the command that starts the keeper: it and all that it starts see the tests' resolv.conf."""
    mount = 'mount --bind "$SAMPAN_ROOT/resolv.conf" /etc/resolv.conf && exec "$0" "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, PROGRAM, *map(str, args)]
    subprocess.run(command, env=sampan.env, check=True, capture_output=True, timeout=60)


@pytest.fixture
def sampan(named: Sampan) -> Iterator[Sampan]:
    yield named
    named.remove_everything()
    named("network", "prune", "-f")
    (named.root / "resolv.conf").write_text(LOCAL)


def run(sampan: Sampan, name: str, network: str, *flags: str) -> None:
    sampan("run", "-d", "--name", name, "--hostname", f"{name}-host", "--network", network, *flags, *SLEEP)


def address(sampan: Sampan, name: str, network: str) -> str:
    found: str = sampan.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"]
    return found


def within(sampan: Sampan, name: str, function: Callable[[], Any]) -> Any:
    """Call it in a container's network namespace."""
    fd = os.open(f"/proc/{sampan.inspect(name)['State']['Pid']}/ns/net", os.O_RDONLY)
    try:
        return inside(fd, function)
    finally:
        os.close(fd)


def asks(sampan: Sampan, name: str, wanted: str, type: int = dns.A) -> Answer:
    answer: Answer = within(sampan, name, lambda: ask(wanted, type))
    return answer


def cat(sampan: Sampan, name: str, file: str) -> str:
    return sampan("exec", name, "cat", file).out


def test_containers_find_each_other_by_name_alias_short_id_host_name_and_address(sampan: Sampan) -> None:
    sampan("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "net")
    run(sampan, "web", "net", "--network-alias", "www")
    run(sampan, "client", "net")
    web = sampan.inspect("web")
    own = web["NetworkSettings"]["Networks"]["net"]

    for name in ("web", "WWW", web["Id"][:12], "web-host", "web.net"):
        assert asks(sampan, "client", name).values == [own["IPAddress"]]
        assert asks(sampan, "client", name, dns.AAAA).values == [own["GlobalIPv6Address"]]
    assert within(sampan, "client", lambda: ask_tcp("web")).values == [own["IPAddress"]]
    reverse = ".".join(reversed(own["IPAddress"].split("."))) + ".in-addr.arpa"
    assert asks(sampan, "client", reverse, dns.PTR).values == ["web.net"]
    assert sampan("exec", "client", "busybox", "ping", "-c1", "web").code == 0


def test_the_c_librarys_resolver_and_dig_get_what_they_ask_for(sampan: Sampan) -> None:
    sampan("network", "create", "net")
    run(sampan, "web", "net")
    expected = address(sampan, "web", "net")
    script = (
        f"getent ahostsv4 web; getent hosts {expected}; dig +short web; dig +short +tcp web; dig +short -x {expected}"
    )

    words = sampan("run", "--rm", "--network", "net", "host", "sh", "-c", script).out.split()

    assert words[:3] == [expected, "STREAM", "web"]
    assert words[-5:] == [expected, "web.net", expected, expected, "web.net."]


def test_an_alias_of_several_containers_leads_to_all_of_them(sampan: Sampan) -> None:
    sampan("network", "create", "net")
    for name in ("one", "two"):
        run(sampan, name, "net", "--network-alias", "service")
    both = sorted(address(sampan, name, "net") for name in ("one", "two"))

    assert asks(sampan, "one", "service").values == both
    assert len(within(sampan, "one", lambda: {ask("service").raw[-4:] for _ in range(40)})) == 2
    sampan("rm", "-f", "two")
    assert asks(sampan, "one", "service").values == [address(sampan, "one", "net")]


def test_connected_disconnected_renamed_and_restarted_containers_are_found_where_they_are(sampan: Sampan) -> None:
    sampan("network", "create", "net")
    sampan("network", "create", "other")
    run(sampan, "client", "net")
    run(sampan, "web", "other")

    with serving(says(code=dns.NAME_ERROR)):
        assert asks(sampan, "client", "web").code == dns.NAME_ERROR
        sampan("network", "connect", "--alias", "www", "net", "web")
        assert asks(sampan, "client", "www").values == [address(sampan, "web", "net")]
        assert asks(sampan, "web", "client").values == [address(sampan, "client", "net")]
        assert f"{address(sampan, 'web', 'net')}\tweb-host\n" in cat(sampan, "web", "/etc/hosts")
        sampan("rename", "web", "site")
        assert asks(sampan, "client", "site").values == [address(sampan, "site", "net")]
        assert asks(sampan, "client", "web").code == dns.NAME_ERROR
        before = address(sampan, "site", "net")
        sampan("stop", "-t0", "site")
        assert asks(sampan, "client", "site").code == dns.NAME_ERROR
        run(sampan, "squatter", "net")
        sampan("start", "site")
        assert asks(sampan, "client", "site").values == [address(sampan, "site", "net")] != [before]
        gone = address(sampan, "site", "net")
        sampan("network", "disconnect", "net", "site")
        assert asks(sampan, "client", "site").code == dns.NAME_ERROR
        assert asks(sampan, "site", "client").code == dns.NAME_ERROR
        assert gone not in cat(sampan, "site", "/etc/hosts")
        sampan("network", "disconnect", "other", "site")
        assert asks(sampan, "site", "site").code == dns.SERVER_FAILURE


def test_a_container_of_the_default_bridge_has_no_names_until_it_comes_to_a_network(sampan: Sampan) -> None:
    (sampan.root / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch b.example\n")
    sampan("network", "create", "net")
    run(sampan, "web", "net")
    run(sampan, "plain", "bridge")
    assert cat(sampan, "plain", "/etc/resolv.conf") == "nameserver 192.0.2.53\nsearch b.example\n"
    sampan("exec", "plain", "sh", "-c", "echo 10.1.2.3 mine >>/etc/hosts")

    sampan("network", "connect", "net", "plain")

    assert cat(sampan, "plain", "/etc/resolv.conf") == "nameserver 127.0.0.11\nsearch b.example\noptions ndots:0\n"
    assert asks(sampan, "plain", "web").values == [address(sampan, "web", "net")]
    hosts = cat(sampan, "plain", "/etc/hosts")
    assert hosts.endswith(f"10.1.2.3 mine\n{address(sampan, 'plain', 'net')}\tplain-host\n")
    assert f"{address(sampan, 'plain', 'bridge')}\tplain-host\n" in hosts


@pytest.mark.parametrize("who", ["server", "shim", "everybody"])
def test_names_are_answered_on_when_somebody_is_killed(sampan: Sampan, who: str) -> None:
    sampan("network", "create", "net")
    run(sampan, "web", "net")
    run(sampan, "client", "net")
    expected = [address(sampan, "web", "net")]
    namespace = os.open(f"/proc/{sampan.inspect('client')['State']['Pid']}/ns/net", os.O_RDONLY)
    shim, server, keeper = sampan.shim_pid("client"), sampan.info("ServerPid"), sampan.info("KeeperPid")

    for pid in {"server": [server], "shim": [shim], "everybody": [keeper, server, shim]}[who]:
        os.kill(pid, signal.SIGKILL)

    if who == "everybody":
        begin(sampan, "ps")
    wait_until(lambda: inside(namespace, lambda: _answered("web")) == expected, what="the answer")
    os.close(namespace)
    sampan("rename", "web", "site")
    assert asks(sampan, "client", "site").values == expected


def _answered(name: str) -> list[str]:
    try:
        return ask(name, timeout_s=0.3).values
    except OSError:
        return []


def test_the_hosts_name_server_on_its_loopback_is_asked_and_its_resolv_conf_followed(sampan: Sampan) -> None:
    sampan("network", "create", "net")
    run(sampan, "client", "net")
    run(sampan, "plain", "bridge")
    assert cat(sampan, "plain", "/etc/resolv.conf").startswith("nameserver 127.0.0.11\n")

    with serving(says("192.0.2.1")), serving(says("192.0.2.2"), "127.0.0.2"):
        for name in ("client", "plain"):
            assert asks(sampan, name, "example.org").values == ["192.0.2.1"]
        (sampan.root / "resolv.conf").write_text("nameserver 127.0.0.2\n")
        for name in ("client", "plain"):
            assert asks(sampan, name, "example.org").values == ["192.0.2.2"]


def test_only_from_an_internal_network_nobody_else_is_asked(sampan: Sampan) -> None:
    sampan("network", "create", "--internal", "inner")
    sampan("network", "create", "net")
    run(sampan, "client", "inner")

    with serving(says("192.0.2.1")) as server:
        assert asks(sampan, "client", "example.org").code == dns.SERVER_FAILURE
        assert not server.asked
        assert asks(sampan, "client", "client").values == [address(sampan, "client", "inner")]
        sampan("network", "connect", "net", "client")
        assert asks(sampan, "client", "example.org").values == ["192.0.2.1"]


def test_a_container_may_have_a_name_server_of_its_own_on_port_53(sampan: Sampan) -> None:
    sampan("network", "create", "net")
    run(sampan, "client", "net")

    def bind_and_ask() -> list[str]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("0.0.0.0", 53))
            tcp.bind(("0.0.0.0", 53))
            tcp.listen()
            return [*ask("client").values, *ask_tcp("client").values]

    assert within(sampan, "client", bind_and_ask) == [address(sampan, "client", "net")] * 2


def test_a_link_is_a_name_for_one_container_alone(sampan: Sampan) -> None:
    sampan("network", "create", "net")
    run(sampan, "db", "net")
    run(sampan, "linked", "net", "--link", "db:database")

    assert asks(sampan, "linked", "database").values == [address(sampan, "db", "net")]
    with serving(says(code=dns.NAME_ERROR)):
        assert asks(sampan, "db", "database").code == dns.NAME_ERROR


def test_on_the_default_bridge_a_link_follows_its_container(sampan: Sampan) -> None:
    run(sampan, "db", "bridge")
    run(sampan, "linked", "bridge", "--link", "db:database")
    first = address(sampan, "db", "bridge")
    before = f"{first}\tdatabase db-host db\n"
    assert before in cat(sampan, "linked", "/etc/hosts")

    sampan("stop", "-t0", "db")
    run(sampan, "squatter", "bridge")
    sampan("start", "db")

    after = f"{address(sampan, 'db', 'bridge')}\tdatabase db-host db\n"
    hosts = cat(sampan, "linked", "/etc/hosts")
    assert after != before
    assert (after in hosts, before in hosts) == (True, False)

    assert sampan("rm", "--link", "linked/database").line == "linked/database"
    assert after not in cat(sampan, "linked", "/etc/hosts")
    assert sampan.inspect("linked")["HostConfig"]["Links"] is None
    for name, words in {
        "linked": "Conflict, cannot remove the default link name of the container",
        "linked/database": "No such container: linked/database",
        "nosuch/x": "No such container: nosuch/x",
    }.items():
        assert words in sampan.fails(1, "rm", "--link", name).err


def test_dns_flags_and_added_hosts_are_in_the_containers_files(sampan: Sampan) -> None:
    sampan("network", "create", "--subnet", "10.88.0.0/24", "net")
    flags = ("--dns", "192.0.2.9", "--dns-search", "x.example", "--dns-option", "ndots:2", "--dns-option", "timeout:1")
    hosts = ("--add-host", "a:1.2.3.4", "--add-host", "host.docker.internal:host-gateway", "--domainname", "d.example")

    run(sampan, "custom", "net", *flags, *hosts)
    run(sampan, "plain", "bridge", *flags)

    text = cat(sampan, "custom", "/etc/resolv.conf")
    assert text == "nameserver 127.0.0.11\nsearch x.example\noptions ndots:2 timeout:1\n"
    assert cat(sampan, "plain", "/etc/resolv.conf") == text.replace("127.0.0.11", "192.0.2.9")
    assert cat(sampan, "custom", "/etc/hosts").splitlines()[-3:] == [
        "1.2.3.4\ta",
        "10.88.0.1\thost.docker.internal",
        "10.88.0.2\tcustom-host.d.example custom-host",
    ]
    assert asks(sampan, "custom", "short").code == dns.NAME_ERROR


def test_a_name_server_that_the_user_gave_may_be_another_container(sampan: Sampan) -> None:
    sampan("network", "create", "--internal", "--subnet", "10.88.0.0/24", "net")
    run(sampan, "resolver", "net", "--ip", "10.88.0.53")
    run(sampan, "client", "net", "--dns", "10.88.0.53")
    namespace = os.open(f"/proc/{sampan.inspect('resolver')['State']['Pid']}/ns/net", os.O_RDONLY)

    with serving(says("192.0.2.1")) as of_the_host:
        context = serving(says("192.0.2.53"), "10.88.0.53")
        inside(namespace, context.__enter__)
        try:
            assert asks(sampan, "client", "example.org").values == ["192.0.2.53"]
        finally:
            inside(namespace, lambda: context.__exit__(None, None, None))

    os.close(namespace)
    assert not of_the_host.asked


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--dns", "example.org"), "example.org"),
        (("--dns-search", "a b"), "a b"),
        (("--dns-option", "x\nnameserver 6.6.6.6"), "x"),
        (("--add-host", "a"), "add-host"),
        (("--add-host", "a:b"), "add-host"),
    ],
)
def test_what_is_no_address_or_more_than_one_word_is_refused(
    sampan: Sampan, flags: tuple[str, ...], words: str
) -> None:
    assert words in sampan.fails(125, "run", "--rm", *flags, "busybox", "true").err


def test_the_containers_files_are_in_no_diff_commit_or_export(sampan: Sampan) -> None:
    sampan("network", "create", "net")
    run(sampan, "web", "net")
    sampan("exec", "web", "sh", "-c", "echo 1.2.3.4 mine >>/etc/hosts; echo x >/etc/resolv.conf; echo y >/etc/other")

    assert sampan("diff", "web").lines == ["C /etc", "A /etc/other"]
    sampan("commit", "web", "copied")
    text = sampan("run", "--rm", "--network", "none", "copied", "cat", "/etc/hosts", "/etc/resolv.conf").out
    assert "mine" not in text
    sampan("export", "-o", str(sampan.root / "web.tar"), "web")
    with tarfile.open(fileobj=io.BytesIO((sampan.root / "web.tar").read_bytes())) as tar:
        assert all(tar.getmember(name).size == 0 for name in ("etc/hosts", "etc/resolv.conf"))
    sampan("rmi", "copied")


def test_a_name_goes_with_its_container_and_the_file_with_its_network(sampan: Sampan) -> None:
    id = sampan("network", "create", "net").line
    run(sampan, "web", "net")
    path = sampan.run_directory / "networks" / f"{id}.names"
    assert path.read_text().startswith("sampan names 1 net ")
    assert "\nweb 172" in path.read_text()

    sampan("rm", "-f", "web")
    wait_until(lambda: "\nweb" not in path.read_text(), what="the name is gone")
    sampan("network", "rm", "net")

    assert not path.exists()
