"""Secrets: kept, given to containers as files and variables, and found nowhere else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.sampan import Sampan

VALUE = "correct horse battery staple"


def create(sampan: Sampan, name: str, value: str | bytes = VALUE, *flags: str) -> str:
    return sampan("secret", "create", *flags, name, "-", input=value).line


def run(sampan: Sampan, *args: str) -> list[str]:
    return sampan("run", "--rm", "--network", "none", *args).lines


def holders(sampan: Sampan) -> list[str]:
    """Return which files of the instance the value is in, besides the secret itself."""
    paths = [path for path in sampan.root.rglob("*") if path.is_file() and not path.is_symlink()]
    return [
        str(path.relative_to(sampan.root))
        for path in paths
        if VALUE.encode() in path.read_bytes() and path.parent != sampan.root / "secrets"
    ]


def test_one_is_made_listed_inspected_replaced_and_removed(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(VALUE)
    first = sampan("secret", "create", "-l", "tier=db", "token", tmp_path / "file").line
    second = sampan("secret", "create", "--env", "other", "OTHER", env={"OTHER": "x"}).line

    table = sampan("secret", "ls").lines
    assert table[0].split() == ["ID", "NAME", "DRIVER", "CREATED", "UPDATED"]
    assert [line.split()[:3] for line in table[1:]] == [[second, "other", "file"], [first, "token", "file"]]
    assert sampan("secret", "ls", "-q", "--filter", "label=tier=db").lines == [first]
    assert sampan("secret", "ls", "--noheading", "--format", "table {{.Name}} {{.Labels}}").lines == [
        "other ", "token tier=db",
    ]  # fmt: skip
    (found,) = sampan.json("secret", "inspect", "token")
    assert (found["ID"], found["Spec"]["Labels"], found.get("SecretData")) == (first, {"tier": "db"}, None)
    assert sampan("secret", "inspect", "--showsecret", "-f", "{{.SecretData}}", first[:9]).line == VALUE
    assert "Name:              token\nLabels:\n - tier=db\n" in sampan("secret", "inspect", "--pretty", "token").out
    assert VALUE not in sampan("inspect", "token").out
    assert [sampan("secret", "exists", name, check=False).code for name in ("token", "none")] == [0, 1]

    assert "secret token already exists" in sampan.fails(1, "secret", "create", "token", tmp_path / "file").err
    replaced = create(sampan, "token", b"\xff\0", "--replace")
    assert sampan("secret", "ls", "-q", "--filter", "name=tok").lines == [replaced] != [first]
    assert sampan("secret", "rm", "token", replaced, "none", check=False).lines == ["token"]
    assert "secret none not found" in sampan.fails(1, "secret", "rm", "none").err
    assert sampan("secret", "rm", "-a").lines == [second]
    assert not list((sampan.root / "secrets").iterdir())


def test_a_container_has_it_as_a_file_and_as_a_variable_and_nothing_else_has_it(sampan: Sampan) -> None:
    create(sampan, "token")
    flags = ("--secret", "token", "--secret", "token,target=/etc/t,uid=5,gid=6,mode=0400", "--secret", "token,type=env")
    check = f"test ${{#token}} = {len(VALUE)} && cat /run/secrets/token > /dev/null"
    sampan("run", "-d", "--name", "web", *flags, "--health-cmd", check, "--health-start-interval", "100ms",
           "--health-start-period", "60s", "busybox", "sleep", "100")  # fmt: skip
    sampan("secret", "rm", "token")

    def seen() -> list[str]:
        each = "for one in /run/secrets/token /etc/t; do cat $one; echo; stat -c '%a %u:%g' $one; done; echo $token"
        return sampan("exec", "web", "sh", "-c", each).lines

    there = [VALUE, "444 0:0", VALUE, "400 5:6", VALUE]
    assert seen() == there
    assert sampan("exec", "-e", "token=mine", "web", "sh", "-c", "echo $token").line == "mine"
    assert "Read-only file system" in sampan("exec", "web", "sh", "-c", "echo > /etc/t", check=False).err
    sampan("wait", "--condition", "healthy", "web")

    own = f"containers/{sampan.inspect('web')['Id']}/secrets"
    assert sorted(holders(sampan)) == [f"{own}/{n}" for n in range(3)]
    assert (sampan.root / own).stat().st_mode & 0o777 == 0o700
    shown = [
        sampan(*words).out
        for words in (("inspect", "web"), ("logs", "web"), ("events", "--since", "1h", "--until", "0s"))
    ]
    assert not [text for text in shown if VALUE in text]
    assert {"A /run/secrets", "A /etc/t"} & set(sampan("diff", "web").lines) == {"A /run/secrets", "A /etc/t"}
    sampan("commit", "web", "made")
    assert run(sampan, "made", "sh", "-c", "ls /run/secrets; wc -c < /etc/t; echo ${token-none}") == [
        "0",
        "none",
    ]
    assert VALUE not in sampan("export", "web").out
    assert run(sampan, "--volumes-from", "web", "busybox", "sh", "-c", "ls /run 2> /dev/null || echo none") == ["none"]

    os.kill(sampan.info("ServerPid"), signal.SIGKILL)
    sampan("stop", "-t", "0", "web")
    assert "Could not find the file" in sampan.fails(1, "cp", "web:/run/secrets/token", "-").err
    assert "A /run/secrets/token" not in sampan("diff", "web").lines
    sampan("start", "web")
    assert seen() == there, "a container keeps what it was made with"
    sampan("rm", "-f", "web")
    assert sampan.leftovers() == []
    assert holders(sampan) == []


def test_it_is_there_in_every_kind_of_container(sampan: Sampan) -> None:
    create(sampan, "token", VALUE, "--replace")
    show = ("busybox", "sh", "-c", "cat /run/secrets/token; echo; stat -c '%u %a' /run/secrets/token")
    use = ("--secret", "token,uid=7,mode=0440")

    for flags in (("--userns", "remap"), ("--read-only", "--read-only-tmpfs"), ("--tmpfs", "/run")):
        assert run(sampan, *use, *flags, *show) == [VALUE, "7 440"], flags
    assert VALUE not in sampan("run", "--explain", "--secret", "token,type=env", "--rm", "busybox", "true").err
    explained = sampan("run", "--explain=json", *use, "--secret", "token,type=env", "busybox", "true").out
    assert VALUE not in explained
    assert "/run/secrets/token" in explained
    assert "it has secrets" in sampan("run", "--explain=sh", *use, "busybox", "true").out


def test_a_link_of_the_images_leads_it_nowhere_outside(sampan: Sampan, tmp_path: Path) -> None:
    create(sampan, "token", VALUE, "--replace")
    link = f"mkdir -p /run && ln -s ../../../../../../../..{tmp_path} /run/secrets"
    made = sampan("create", "--network", "none", "busybox", "sh", "-c", link).line
    sampan("start", "-a", made)
    sampan("commit", made, "linked")

    assert run(sampan, "--secret", "token", "linked", "cat", "/run/secrets/token") == [VALUE]
    assert not list(tmp_path.iterdir())


def test_what_can_not_be_given_is_refused_and_leaves_nothing(sampan: Sampan) -> None:
    create(sampan, "token", b"\0", "--replace")

    for use, message in (
        ("none", "secret none not found"),
        ("token,target=/proc/1/x", "it is inside /proc"),
        ("token,type=env", "its data is no text"),
        ("", "invalid argument '' for --secret"),
    ):
        refused = sampan.fails(125, "run", "--rm", "--network", "none", "--secret", use, "busybox", "true")
        assert message in refused.err, use
    assert sampan("ps", "-aq").out == ""


def test_too_little_or_too_much_data_and_a_file_that_is_not_there_are_refused(sampan: Sampan, tmp_path: Path) -> None:
    for data in (b"", b"x" * 512_000, b"x" * 600_000):
        refused = sampan.fails(1, "secret", "create", "big", "-", input=data)
        assert "secret data must be larger than 0 and less than 512000 bytes" in refused.err
    create(sampan, "big", b"x" * 511_999)

    assert run(sampan, "--secret", "big", "busybox", "wc", "-c", "/run/secrets/big") == ["511999 /run/secrets/big"]
    assert "no such file or directory" in sampan.fails(1, "secret", "create", "q", tmp_path / "none").err
    assert "variable NOWHERE is not set" in sampan.fails(1, "secret", "create", "--env", "q", "NOWHERE").err
    assert "invalid name, only 64" in sampan.fails(1, "secret", "create", "../q", "-", input="x").err
