"""Builds performed by a real engine: what steps see, what becomes of them, and what is left when they are cut off."""

import os
import signal
import time
import zlib
from pathlib import Path

import pytest

from support.builds import Asked, build, directory, refused, secret
from support.sampan import Sampan, groups_named


def secrets_in_memory(sampan: Sampan) -> list[Path]:
    name = f"sampan-{zlib.crc32(os.fsencode(sampan.root)):08x}-secrets"
    return [*Path("/dev/shm").glob(f"{name}/*"), *sampan.run_directory.glob("secrets/*")]


# ------------------------------------------------------------------------------------------------ what steps see


def test_a_step_runs_as_the_dockerfile_says(shared: Sampan) -> None:
    outcome = build(
        shared,
        """FROM busybox
ARG COLOUR=red
ENV A=b
USER user
WORKDIR /work
RUN echo $A $COLOUR $HOME; id -un; pwd; hostname; env | grep -c HOSTNAME; cat /etc/hosts; ip -o a
""",
        args={"COLOUR": "blue"},
        add_hosts=["db:10.1.2.3"],
    )

    lines = outcome.output.splitlines()
    assert lines[:5] == ["b blue /home/user", "user", "/work", "buildkitsandbox", "0"]
    assert "10.1.2.3\tdb" in lines
    assert any("eth0" in line for line in lines)


def test_a_step_may_be_on_no_network_or_the_hosts(shared: Sampan) -> None:
    names = "ls /sys/class/net"
    outcome = build(shared, f"FROM busybox\nRUN --network=none {names}\nRUN --network=host cat /etc/hostname; {names}",
                    allow=["network.host"])  # fmt: skip

    first, *rest = outcome.output.split()
    assert first == "lo"
    assert len(rest) > 1


def test_what_is_not_allowed_is_refused(shared: Sampan) -> None:
    assert "network.host is not allowed" in refused(shared, "FROM busybox\nRUN --network=host true")
    assert "security.insecure is not allowed" in refused(shared, "FROM busybox\nRUN --security=insecure true")


def test_a_steps_control_group_is_below_the_one_that_was_named(shared: Sampan) -> None:
    parent = f"sampan-{shared.instance}/team"
    build(shared, "FROM busybox\nRUN --network=none true", no_cache=True, limits={"cgroup_parent": parent})

    assert groups_named(parent)


def test_mounts_are_there_for_the_step_and_leave_nothing(shared: Sampan, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("of the context")
    (tmp_path / "left out").write_text("x")
    (tmp_path / ".dockerignore").write_text("left*\n")

    outcome = build(
        shared,
        """FROM busybox AS other
RUN mkdir /o && echo of a stage > /o/f
FROM busybox
RUN --mount=target=/context --mount=from=other,source=/o,target=/other,rw \\
    --mount=type=tmpfs,target=/memory --mount=type=secret,id=s,mode=0440,uid=1000 \\
    --mount=type=secret,id=s,env=SECRET <<EOF
ls /context; cat /context/f /other/f
echo x > /other/f && cat /other/f && echo x > /memory/f
stat -c '%a %u' /run/secrets/s; cat /run/secrets/s; echo $SECRET
touch /context/f || echo read-only
echo done > /result
EOF
""",
        context=directory(tmp_path),
        secrets=[secret("s", "sesame\n")],
        tags=["mounted"],
    )

    lines = [line for line in outcome.output.splitlines() if not line.startswith("touch: ")]
    assert lines == ["f", "of the contextof a stage", "x", "440 1000", "sesame", "sesame", "read-only"]
    top = shared.json("image", "inspect", "mounted")[0]["GraphDriver"]["Data"]["UpperDir"]
    assert os.listdir(top) == ["result"]
    assert not secrets_in_memory(shared)


def test_a_cache_mount_stays_from_build_to_build(shared: Sampan) -> None:
    step = "RUN --mount=type=cache,id=stays,target=/c echo {} >> /c/log; cat /c/log"

    build(shared, f"FROM busybox\n{step.format(1)}")

    assert build(shared, f"FROM busybox\n{step.format(2)}").output == "1\n2\n"


def test_a_locked_cache_is_used_by_one_step_at_a_time(shared: Sampan) -> None:
    alone = "test ! -e /c/x && touch /c/x && sleep 0.2 && rm /c/x && echo {}"
    step = f"RUN --mount=type=cache,id=l,target=/c,sharing=locked {alone}"
    stages = "".join(f"FROM busybox AS s{i}\n{step.format(i)}\n" for i in range(3))

    copies = "".join(f"COPY --from=s{i} /etc/group /{i}\n" for i in range(3))
    assert build(shared, f"{stages}FROM busybox\n{copies}").built


def test_the_layer_is_what_the_step_wrote(shared: Sampan) -> None:
    build(
        shared,
        "FROM busybox\nRUN echo x > /etc/new; rm /etc/group; rm -r /home; mkdir /home; ln /etc/new /etc/linked\n",
        tags=["written"],
    )

    top = shared.json("image", "inspect", "written")[0]["GraphDriver"]["Data"]["UpperDir"]
    assert sorted(os.listdir(top)) == ["etc", "home"]
    assert sorted(os.listdir(f"{top}/etc")) == ["group", "linked", "new"]
    assert shared("run", "--rm", "written", "sh", "-c", "ls /home; ls /etc; cat /etc/linked").lines == [
        "hostname", "hosts", "linked", "new", "passwd", "resolv.conf", "x",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ the cache


def test_what_was_built_is_not_built_again_and_gives_the_same_image(shared: Sampan, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")
    text = 'FROM busybox\nRUN echo again > /a\nWORKDIR /w\nCOPY f .\nRUN cat f > g\nCMD ["sh"]'
    first = build(shared, text, context=directory(tmp_path))
    os.utime(tmp_path / "f", (1, 1))

    second = build(shared, text, context=directory(tmp_path))

    assert len(first.performed) == 4
    assert (second.performed, second.id) == ([], first.id)
    (tmp_path / "f").write_text("2")
    third = build(shared, text, context=directory(tmp_path), why=True)
    assert third.performed == ["COPY f .", "RUN cat f > g"]


def test_without_cache_all_is_built_again(shared: Sampan) -> None:
    text = "FROM busybox AS one\nRUN echo anew > /a; touch -d @1 /a\nFROM one\nRUN echo more > /b"
    build(shared, text)

    assert len(build(shared, text, no_cache=True).performed) == 2
    assert build(shared, text, no_cache_filter=["one"]).performed == ["RUN echo anew > /a; touch -d @1 /a"]


def test_steps_that_are_the_same_are_done_once(shared: Sampan) -> None:
    stages = "".join(f"FROM busybox AS s{i}\nRUN sleep 0.2; echo once > /x\n" for i in range(3))

    outcome = build(shared, f"{stages}FROM busybox\nCOPY --from=s0 /x /0\nCOPY --from=s1 /x /1\nCOPY --from=s2 /x /2")

    assert outcome.performed.count("RUN sleep 0.2; echo once > /x") == 1


def test_stages_run_side_by_side_and_unneeded_ones_not_at_all(shared: Sampan) -> None:
    stages = "".join(
        f"FROM busybox AS s{i}\nRUN --mount=type=cache,id=meet,target=/m "
        f"touch /m/{i}; for n in $(seq 50); do [ -e /m/{1 - i} ] && exit 0; sleep 0.1; done; exit 1\n"
        for i in range(2)
    )

    outcome = build(shared, f"{stages}FROM busybox AS no\nRUN false\nFROM busybox\nCOPY --from=s0 /etc/group /0\n"
                            "COPY --from=s1 /etc/group /1")  # fmt: skip

    assert outcome.built


# ------------------------------------------------------------------------------------------------ failures


def test_a_failing_step_is_told_with_its_lines_and_output_and_those_before_it_stay_cached(shared: Sampan) -> None:
    text = "FROM busybox\nRUN echo before > /b\nRUN echo oh no; exit 7\nRUN true"

    outcome = build(shared, text)

    failed = outcome.failed
    assert failed["message"] == 'process "/bin/sh -c echo oh no; exit 7" did not complete successfully: exit code: 7'
    assert (failed["exit_code"], failed["location"]["line"]) == (7, 3)
    assert "RUN echo oh no; exit 7" in failed["excerpt"]
    assert build(shared, text.replace("exit 7", "exit 0")).performed == ["RUN echo oh no; exit 0", "RUN true"]
    assert not shared.leftovers()


def test_the_container_of_a_failed_step_can_be_kept(shared: Sampan) -> None:
    outcome = build(shared, "FROM busybox\nENV A=b\nWORKDIR /w\nRUN echo half > done; false", on_failure="keep")

    id = outcome.failed["container"]
    try:
        shared("start", id)
        assert shared("exec", id, "sh", "-c", "pwd; cat done; echo $A").out == "/w\nhalf\nb\n"
    finally:
        shared("rm", "-f", id)


def test_what_onbuild_runs_is_told_as_a_step_of_the_base(shared: Sampan) -> None:
    build(shared, "FROM busybox\nONBUILD RUN echo asked", tags=["asking"])

    told = build(shared, "FROM asking").of("StepBegan")

    assert [(event["text"], event.get("onbuild", False)) for event in told][:2] == [
        ("FROM asking", False),
        ("ONBUILD RUN echo asked", True),
    ]


def test_a_program_that_is_not_there_is_a_failed_step(shared: Sampan) -> None:
    assert "no such file" in refused(shared, 'FROM busybox\nRUN ["/no/such"]')


@pytest.mark.parametrize(
    ("step", "where"),
    [
        ("RUN --mount=type=secret,id=s cat /run/secrets/s > /root/x", "/root/x of this step's layer"),
        ("RUN --mount=type=secret,id=s base64 /run/secrets/s > /x || busybox base64 /run/secrets/s > /x", "base64"),
    ],
)
def test_a_secret_in_a_layer_fails_the_build(shared: Sampan, step: str, where: str) -> None:
    said = refused(shared, f"FROM busybox\n{step}", secrets=[secret("s", "very secret")])

    assert "secret s is" in said
    assert where in said
    assert not shared.leftovers()


@pytest.mark.parametrize(
    ("instruction", "options", "where"),
    [
        ("ENV TOKEN=x-very-secret", {}, "the image's history"),
        ("ONBUILD RUN login very-secret", {}, "ONBUILD"),
        ("ENV A=b", {"labels": {"token": "very-secret"}}, "the label token"),
        ("ENV A=b", {"annotations": {"token": "very-secret"}}, "the annotation token"),
    ],
)
def test_a_secret_in_the_configuration_fails_the_build(
    shared: Sampan, instruction: str, options: dict[str, dict[str, str]], where: str
) -> None:
    said = refused(shared, f"FROM busybox\n{instruction}", secrets=[secret("s", "very-secret")], **options)

    assert f"secret s is in {where}" in said


def test_a_required_secret_that_is_not_given_fails_the_step(shared: Sampan) -> None:
    said = refused(shared, "FROM busybox\nRUN --mount=type=secret,id=s,required true")

    assert "secret s: not found" in said


def test_a_client_that_leaves_ends_its_step_and_what_was_done_stays_cached(shared: Sampan) -> None:
    text = "FROM busybox\nRUN echo kept > /k\nRUN echo begun; sleep 1000"
    asked = Asked(shared, text)
    asked.until("begun\n")

    asked.hang_up()

    assert not shared.leftovers()
    assert build(shared, text.replace("sleep 1000", "true")).performed == ["RUN echo begun; true"]


def test_a_killed_server_leaves_nothing_of_a_build_and_what_was_done_stays_cached(sampan: Sampan) -> None:
    text = (
        "FROM busybox\nRUN echo kept > /k\n"
        "RUN --mount=type=secret,id=s --mount=type=cache,target=/c echo begun; sleep 1000"
    )
    asked = Asked(sampan, text, secrets=[secret("s", "sesame")])
    asked.until("begun\n")

    os.kill(sampan.info("ServerPid"), signal.SIGKILL)

    asked.hang_up()
    sampan("ps")
    assert not sampan.leftovers()
    assert not secrets_in_memory(sampan)
    (step,) = build(sampan, text.replace("sleep 1000", "true")).performed
    assert step.startswith("RUN --mount")


def test_source_date_epoch_gives_the_same_image_on_another_day(shared: Sampan, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    ids = []
    for name in ("one", "two"):
        (tmp_path / name / "f").write_text("x")
        os.utime(tmp_path / name / "f", (time.time() - (100 if name == "one" else 5), time.time()))
        outcome = build(
            shared,
            "FROM busybox\nRUN mkdir /d && echo x > /d/f\nWORKDIR /w\nCOPY f .\n",
            context=directory(tmp_path / name),
            epoch_s=1_700_000_000,
            no_cache=True,
        )
        ids.append(outcome.id)

    assert ids[0] == ids[1]


# ------------------------------------------------------------------------------------------------ host, squash


def test_a_stage_may_stand_on_this_machines_own_root(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("of the context\n")
    stage = "FROM host AS tools\nWORKDIR /app\nRUN echo of a step > /app/x; rm -f /etc/passwd-\nCOPY f /app/\n"

    outcome = build(
        sampan, f"{stage}RUN cat /app/*; ls /etc/passwd- || echo gone\n", context=directory(tmp_path), tags=["on-host"]
    )

    assert outcome.output.replace("ls: cannot access '/etc/passwd-': No such file or directory\n", "") == (
        "of the context\nof a step\ngone\n"
    )
    assert sampan("run", "--rm", "on-host", "sh", "-c", "cat /app/x; ls /etc/passwd- || true").out == "of a step\n"
    assert "built FROM host" in sampan.fails(1, "save", "-o", tmp_path / "o", "on-host").err
    copied = build(sampan, f"{stage}FROM busybox\nCOPY --from=tools /app /a\nRUN cat /a/x", context=directory(tmp_path))
    assert copied.output == "of a step\n"


def test_squashed_an_image_has_one_layer_over_its_base(shared: Sampan) -> None:
    text = (
        "FROM busybox\nRUN echo 1 > /one; rm -r /home\nRUN echo 2 > /two; rm /one; mkdir /home; chmod 700 /\nENV A=b\n"
    )

    build(shared, text, squash=True, tags=["squashed"])

    assert len(shared.json("image", "inspect", "squashed")[0]["RootFS"]["Layers"]) == 2
    shown = shared("run", "--rm", "squashed", "sh", "-c", "stat -c %a /; ls /home; ls /").lines
    assert shown[0] == "700"
    assert "two" in shown
    assert "one" not in shown


def test_twice_tells_the_first_difference(shared: Sampan) -> None:
    same = build(shared, "FROM busybox\nRUN echo x > /f", twice=True, epoch_s=1_700_000_000)
    other = build(
        shared,
        "FROM busybox\nRUN echo x > /f\nRUN cat /proc/sys/kernel/random/uuid > /g",
        twice=True,
        epoch_s=1_700_000_000,
    )

    assert same.built.get("difference", "") == ""
    assert other.built["difference"].startswith(
        "RUN /bin/sh -c cat /proc/sys/kernel/random/uuid > /g # buildkit: /g: its content differs"
    )
