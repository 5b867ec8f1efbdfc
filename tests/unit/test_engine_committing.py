"""The configuration of a committed image. The forms of the changes are in test_build_changes."""

import pytest

from sampan.build import changes
from sampan.engine.committing import configuration
from sampan.engine.systemd import STOP_SIGNAL
from sampan.spec.annotations import SYSTEMD
from sampan.spec.docker import ContainerConfig
from sampan.spec.image import ExecutionConfig, HealthCheck
from support.engine import completed

IMAGE = ExecutionConfig(
    env=("PATH=/bin", "A=image"),
    cmd=("sh",),
    labels={"from": "image"},
    exposed_ports={"80/tcp": {}},
    volumes={"/data": {}},
    healthcheck=HealthCheck(test=("CMD", "true"), interval=5),
    on_build=("RUN x",),
    stop_signal="INT",
)


def committed(*given, config=None, image=IMAGE, **fields):
    fields = {"Cmd": None, **fields}
    return configuration(completed(image=image, **fields), image, config, given)


def test_it_is_the_containers_which_has_the_images():
    found = committed(Env=["A=own", "B=b"], User="me", WorkingDir="/w", Labels={"x": "y"})

    assert found == ExecutionConfig(
        env=("A=own", "B=b", "PATH=/bin"),
        cmd=("sh",),
        user="me",
        working_dir="/w",
        labels={"from": "image", "x": "y"},
        exposed_ports={"80/tcp": {}},
        volumes={"/data": {}},
        healthcheck=HealthCheck(test=("CMD", "true"), interval=5),
        stop_signal="INT",
    )


def test_the_signal_that_stops_systemd_is_not_for_what_else_an_image_may_run():
    body = completed({"Annotations": {SYSTEMD: "auto"}}, Cmd=["/sbin/init"], StopSignal=STOP_SIGNAL)

    assert configuration(body, ExecutionConfig(), None, ()).stop_signal is None
    assert configuration(body, ExecutionConfig(stop_signal=STOP_SIGNAL), None, ()).stop_signal == STOP_SIGNAL
    assert committed(StopSignal="USR1").stop_signal == "USR1"


def test_what_names_this_container_only_is_no_part_of_it():
    one = committed(Hostname="one", Domainname="a", Tty=True, OpenStdin=True, AttachStdout=True)

    assert one == committed(Hostname="other")
    assert one.hostname == ""


def test_changes_come_last():
    found = committed("CMD echo $A", "ENV A=changed", "LABEL from=change", "EXPOSE 53/udp")

    assert found.cmd == ("/bin/sh", "-c", "echo $A")
    assert found.env == ("PATH=/bin", "A=changed")
    assert found.labels == {"from": "change"}
    assert found.exposed_ports == {"80/tcp": {}, "53/udp": {}}


@pytest.mark.parametrize(
    ("given", "entrypoint", "cmd"),
    [
        (["ENTRYPOINT x y"], ("/bin/sh", "-c", "x y"), None),
        (['ENTRYPOINT ["x"]', 'CMD ["y"]'], ("x",), ("y",)),
        (['CMD ["y"]', 'ENTRYPOINT ["x"]'], ("x",), ("y",)),
        (['CMD ["y"]'], None, ("y",)),
        ([], None, ("sh",)),
    ],
)
def test_an_entrypoint_does_away_with_the_command_unless_one_is_given_too(given, entrypoint, cmd):
    found = committed(*given)

    assert (found.entrypoint, found.cmd) == (entrypoint, cmd)


def test_a_configuration_in_the_request_is_completed_by_the_containers():
    given = ContainerConfig(env=("A=request",), cmd=("top",), labels={"l": "1"})

    found = committed(config=given)

    assert found.env == ("A=request", "PATH=/bin")
    assert found.cmd == ("top",)
    assert found.labels == {"from": "image", "l": "1"}
    assert found.stop_signal == "INT"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("LABEL a=$A b='$A' c=\"$A\" d=\\$A", {"a": "1", "b": "$A", "c": "1", "d": "$A"}),
        ("LABEL a=${A} b=${B:-none} c=${A:+some} d=${B:+some}", {"a": "1", "b": "none", "c": "some", "d": ""}),
        ("LABEL a=1 \\\n  b=2", {"a": "1", "b": "2"}),
        ("LABEL a b c", {"a": "b c"}),
    ],
)
def test_variables_are_replaced_as_in_a_dockerfile(change, expected):
    assert changes.apply(ExecutionConfig(env=("A=1",)), [change]).labels == expected


def test_variables_are_replaced_wherever_a_dockerfile_has_them_replaced():
    given = ["USER $A", "WORKDIR /$A", "VOLUME /v/$A", "EXPOSE $P", "STOPSIGNAL $S", "ENV N=x$A"]

    found = changes.apply(ExecutionConfig(env=("A=me", "P=80", "S=INT")), given)

    assert (found.user, found.working_dir, found.volumes) == ("me", "/me", {"/v/me": {}})
    assert (found.exposed_ports, found.stop_signal) == ({"80/tcp": {}}, "INT")
    assert found.env[-1] == "N=xme"
