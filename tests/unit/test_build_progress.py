"""What is shown of a build: lines, a terminal's screen, BuildKit's JSON, the classic builder's stream."""

from __future__ import annotations

import base64
import json
import os

import pytest

from sampan.api.build_classic import Classic
from sampan.cli.building.failed import excerpt
from sampan.cli.building.lint import one
from sampan.cli.building.plain import Plain
from sampan.cli.building.rawjson import RawJson
from sampan.cli.building.terminal import screen
from sampan.cli.building.trace import Trace, human, last_of
from sampan.spec import build


class Clock:
    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


def began(step, text, number=0, total=0, **more):
    return {"event": "StepBegan", "step": step, "text": text, "number": number, "total": total, **more}


def wrote(step, text, stream="stdout"):
    data = base64.b64encode(text.encode()).decode()
    return {"event": "StepOutput", "step": step, "stream": stream, "data": data}


def ended(step, **more):
    return {"event": "StepEnded", "step": step, **more}


def moved(step, what, current, total=0):
    return {"event": "Transfer", "step": step, "what": what, "current": current, "total": total}


def played(kind, *events):
    """Show events, each a tenth of a second after the last; return what was written."""
    reading, writing = os.pipe()
    clock = Clock()
    shown = kind(Trace(clock), writing)
    for event in events:
        shown.take(event)
        clock.at += 0.1
    shown.finish()
    os.close(writing)
    with os.fdopen(reading) as file:
        return file.read()


def drawn(*events, columns=60, rows=20):
    clock = Clock()
    trace = Trace(clock)
    for event in events:
        vertex = trace.take(event)
        if event["event"] == "StepOutput":
            vertex.write(base64.b64decode(event["data"]).decode(), clock())
        clock.at += 0.1
    return screen(trace, columns, rows, colours=False)


def test_plain_progress_is_buildkits_lines():
    text = played(
        Plain,
        began(1, "[internal] load build definition from Dockerfile"),
        moved(1, "transferring dockerfile:", 32, 32),
        ended(1, ns=100_000_000),
        began(2, "FROM busybox", 1, 2),
        ended(2, cached=True),
        began(3, "RUN echo hi", 2, 2, stage="web"),
        wrote(3, "hi\npart"),
        ended(3, ns=300_000_000),
    )

    assert text == (
        "#1 [internal] load build definition from Dockerfile\n"
        "#1 transferring dockerfile: 32B / 32B done\n"
        "#1 DONE 0.1s\n"
        "\n#2 [1/2] FROM busybox\n#2 CACHED\n"
        "\n#3 [web 2/2] RUN echo hi\n#3 0.100 hi\n#3 0.200 part\n#3 DONE 0.3s\n"
    )


def test_of_two_steps_at_once_one_is_shown_and_the_other_when_it_ends():
    text = played(
        Plain,
        began(1, "RUN a", 2, 2, stage="a"),
        began(2, "RUN b", 2, 2, stage="b"),
        wrote(1, "from a\n"),
        wrote(2, "from b\n"),
        ended(2),
        ended(1),
    )

    assert text.split("\n\n") == [
        "#1 [a 2/2] RUN a\n#1 0.200 from a\n#1 ...",
        "#2 [b 2/2] RUN b\n#2 0.200 from b\n#2 DONE 0.3s",
        "#1 [a 2/2] RUN a\n#1 DONE 0.5s\n",
    ]


def test_a_step_that_fails_says_so_and_its_output_is_told_again():
    text = played(
        Plain,
        began(1, "RUN false", 2, 2),
        wrote(1, "why"),
        {"event": "StepFailed", "step": 1, "text": "RUN false", "message": "exit code: 1"},
    )

    assert text == (
        "#1 [2/2] RUN false\n#1 0.200 why\n#1 ERROR: exit code: 1\n------\n > [2/2] RUN false:\n0.200 why\n------\n"
    )


def test_a_cache_miss_is_told_with_its_reason():
    text = played(Plain, began(1, "COPY . /", 2, 2), ended(1, miss="file app.py differs", ns=1))

    assert "#1 not cached: file app.py differs\n" in text


def test_a_step_that_the_base_images_onbuild_asks_for_is_shown_and_an_onbuild_of_the_dockerfile_is_not():
    told = played(
        Plain,
        began(1, "ONBUILD RUN make", 2, 2, onbuild=True, stage="stage-0"),
        wrote(1, "made\n"),
        ended(1),
        began(2, "ONBUILD RUN other", 2, 2, stage="stage-0"),
        ended(2),
    )

    assert "#1 [stage-0 2/2] ONBUILD RUN make\n#1 0.100 made\n" in told
    assert "other" not in told


def test_numbers_that_change_often_are_told_now_and_then():
    text = played(Plain, began(1, "FROM x", 1, 1), *(moved(1, "layer", n, 1000) for n in range(1, 1001)), ended(1))

    assert 10 < text.count("#1 layer") < 40
    assert "#1 layer 1.00kB / 1.00kB 99.9s done\n" in text


def test_what_a_program_writes_can_not_drive_the_terminal():
    text = played(
        Plain, began(1, "RUN \x1b[2J", 1, 1), wrote(1, "\x1b[31mred\x1b[0m \x1b]0;title\x07\x9bx 50%\r100%\n"), ended(1)
    )

    assert "\x1b" not in text
    assert "#1 0.100 100%\n" in text


def test_the_screen_has_a_line_for_each_step_with_its_time_at_the_right():
    lines = drawn(
        began(1, "FROM busybox", 1, 2), ended(1, cached=True), began(2, "RUN sleep 9", 2, 2), wrote(2, "one\ntwo")
    )

    assert lines == [
        "[+] Building 0.4s (1/2)",
        " => CACHED [1/2] FROM busybox                          0.1s",
        " => [2/2] RUN sleep 9                                  0.2s",
        " => => # one",
        " => => # two",
    ]


def test_the_tail_has_the_last_six_lines():
    lines = drawn(began(1, "RUN seq 9", 2, 2), wrote(1, "".join(f"{n}\n" for n in range(1, 10))))

    assert [line for line in lines if " # " in line] == [f" => => # {n}" for n in range(4, 10)]


def test_a_small_screen_keeps_what_still_runs():
    done = [event for n in range(2, 12) for event in (began(n, f"RUN {n}", n, 12), ended(n))]

    lines = drawn(began(1, "RUN long", 1, 12), *done, rows=6)

    assert len(lines) == 5
    assert "RUN long" in lines[1]
    assert "RUN 11" in lines[-1]


def test_at_the_end_all_steps_are_shown_and_it_says_finished():
    done = [event for n in range(1, 30) for event in (began(n, f"RUN {n}", n, 30), ended(n))]

    lines = drawn(*done, {"event": "Built", "images": [{"id": "sha256:1"}]}, rows=0)

    assert [line.split("  ")[0] for line in lines[-2:]] == [" => exporting to image", " => => writing image sha256:1"]
    assert lines[0].endswith("(30/30) FINISHED")


def test_what_still_ran_when_another_step_failed_is_canceled():
    lines = drawn(
        began(1, "RUN a", 1, 1),
        began(2, "RUN b", 1, 1),
        {"event": "StepFailed", "step": 2, "text": "", "message": "no"},
    )

    assert [line.split()[1] for line in lines[1:]] == ["CANCELED", "ERROR"]


def test_a_long_name_is_cut_and_a_transfer_shows_how_much():
    lines = drawn(began(1, "RUN " + "x" * 200, 1, 1), moved(1, "sha256:abc", 12_300_000, 45_600_000), columns=70)

    assert {len(line) for line in lines[1:]} == {69}
    assert "12.30MB / 45.60MB" in lines[2]


def test_rawjson_is_buildkits_solve_status():
    text = played(
        RawJson,
        began(1, "RUN echo hi", 2, 2),
        wrote(1, "hi\n", "stderr"),
        moved(1, "layer", 1, 2),
        {"event": "Warned", "step": 1, "message": "careful", "rule": "StageNameCasing", "url": "u"},
        ended(1, cached=True, ns=1),
    )
    first, log, status, warning, last = map(json.loads, text.splitlines())

    (vertex,) = first["vertexes"]
    assert vertex["name"] == "[2/2] RUN echo hi"
    assert log["logs"][0] | {"timestamp": ""} == {
        "vertex": vertex["digest"],
        "stream": 2,
        "data": "aGkK",
        "timestamp": "",
    }
    assert (status["statuses"][0]["id"], status["statuses"][0]["current"], status["statuses"][0]["total"]) == (
        "layer",
        1,
        2,
    )
    assert base64.b64decode(warning["warnings"][0]["short"]) == b"StageNameCasing: careful"
    assert last["vertexes"][0]["cached"]
    assert last["vertexes"][0]["completed"] >= vertex["started"]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (999, "999B"), (1000, "1.00kB"), (12_345_678, "12.35MB"), (5e12, "5.00TB")]
)
def test_sizes_have_two_decimals(size, text):
    assert human(size) == text


def test_a_line_is_what_is_left_on_the_screen_of_it():
    assert last_of("10%\r20%\r\x1b[1mdone\x1b[0m\r") == "done"


def test_the_excerpt_marks_the_lines_of_the_step():
    failure = {
        "location": {"line": 2, "end_line": 3, "column": 0},
        "excerpt": ["FROM a", "RUN b \\", "  c"],
        "excerpt_line": 1,
    }

    assert excerpt(failure, "Dockerfile") == (
        "Dockerfile:2\n--------------------\n"
        "   1 |     FROM a\n   2 | >>> RUN b \\\n   3 | >>>   c\n--------------------\n"
    )


def test_a_lint_warning_has_the_form_of_buildx():
    warning = {
        "rule": "JSONArgsRecommended", "message": "JSON arguments recommended for CMD", "description": "JSON arguments",
        "url": "https://x/", "location": {"line": 3, "end_line": 3, "column": 0}, "source": "Dockerfile:3\n--",
    }  # fmt: skip

    assert one(warning) == (
        "\nWARNING: JSONArgsRecommended - https://x/\nJSON arguments recommended for CMD\nDockerfile:3\n--\n"
    )


# ------------------------------------------------------------------------------------------------ the classic builder


def classic(*events, quiet=False):
    told = []
    stream = Classic(told.append, quiet=quiet)
    for event in events:
        stream.take(event)
    return told


def text_of(told):
    return "".join(message.stream or message.error for message in told)


ID = "sha256:" + "1" * 64
STEP = build.StepBegan(step=1, text="FROM busybox", position=1, positions=2)
RUN = build.StepBegan(step=2, text="RUN echo hi", position=2, positions=2)
BUILT = build.Built(images=(build.BuiltImage(id=ID),), names=("x:latest", "y:2"))


def test_the_classic_stream_is_what_dockerd_sends():
    told = classic(
        STEP, build.StepEnded(step=1, layer="sha256:" + "a" * 64), RUN,
        build.StepOutput(step=2, stream="stdout", data=b"hi\n"), build.StepOutput(step=2, stream="stderr", data=b"no"),
        build.StepEnded(step=2, layer="sha256:" + "b" * 64), BUILT,
    )  # fmt: skip

    assert text_of(told) == (
        "Step 1/2 : FROM busybox\n ---> aaaaaaaaaaaa\nStep 2/2 : RUN echo hi\nhi\n\x1b[91mno\x1b[0m ---> bbbbbbbbbbbb\n"
        "Successfully built 111111111111\nSuccessfully tagged x:latest\nSuccessfully tagged y:2\n"
    )
    assert {"ID": ID} in [message.aux for message in told]


def test_the_classic_stream_shows_an_instruction_as_it_is_written():
    told = classic(build.StepBegan(step=1, text="COPY a /b", written="COPY a $to", position=1, positions=1))

    assert text_of(told) == "Step 1/1 : COPY a $to\n"


def test_a_cached_step_says_so_but_not_from():
    told = classic(STEP, build.StepEnded(step=1, cached=True), RUN, build.StepEnded(step=2, cached=True))

    assert text_of(told) == "Step 1/2 : FROM busybox\nStep 2/2 : RUN echo hi\n ---> Using cache\n"


def test_steps_at_once_are_told_one_after_another():
    told = classic(
        STEP, RUN, build.StepOutput(step=2, stream="stdout", data=b"hi\n"), build.StepEnded(step=2),
        build.StepEnded(step=1), BUILT,
    )  # fmt: skip

    assert text_of(told).startswith("Step 1/2 : FROM busybox\nStep 2/2 : RUN echo hi\nhi\nSuccessfully built")


def test_steps_are_told_in_the_order_of_the_dockerfile():
    later = build.StepBegan(step=3, text="FROM busybox", stage="last", position=3, positions=3)
    told = classic(
        STEP, build.StepEnded(step=1), later, build.StepEnded(step=3), RUN,
        build.StepOutput(step=2, stream="stdout", data=b"hi\n"), build.StepEnded(step=2), BUILT,
    )  # fmt: skip

    assert text_of(told).startswith(
        "Step 1/2 : FROM busybox\nStep 2/2 : RUN echo hi\nhi\nStep 3/3 : FROM busybox AS last\nSuccessfully built"
    )


def test_quiet_tells_the_id_alone():
    told = classic(STEP, build.StepEnded(step=1), BUILT, quiet=True)

    assert [message.stream for message in told] == [f"{ID}\n"]


def test_quiet_tells_everything_when_it_fails():
    failed = build.StepFailed(
        step=1,
        text="RUN x",
        exit_code=3,
        message='process "/bin/sh -c x; exit 3" did not complete successfully: exit code: 3',
    )

    told = classic(STEP, failed, quiet=True)

    assert text_of(told) == "Step 1/2 : FROM busybox\nThe command '/bin/sh -c x; exit 3' returned a non-zero code: 3"
    assert told[-1].error_detail.code == 3
