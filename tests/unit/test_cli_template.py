"""Templates beyond what is compared with Docker's client in test_cli_like_docker."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sampan.cli.inspect_template import executed
from sampan.cli.template import Template, TemplateError

DATA = {
    "Name": "web",
    "Number": 7,
    "Labels": {"a": "1", "b": "2"},
    "List": ["x", "y", "z"],
    "Nested": {"Inner": {"Deep": "d"}},
    "Nothing": None,
    "Yes": True,
    "Log": {"Type": "local", "Config": {"tag": "x"}},
    "Config": {"Cmd": "sh"},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{.}}", "{web 7 map[a:1 b:2] [x y z] {{d}} <nil> true {local map[tag:x]} {sh}}"),
        ("{{.Log}} {{.Log.Config}} {{.Log.Config.tag}} {{.Config}}", "{local map[tag:x]} map[tag:x] x {sh}"),
        ("{{.Nested.Inner.Deep}}", "d"),
        ("{{(.Nested).Inner.Deep}}", "d"),
        ("{{with .Nested}}{{.Inner.Deep}} {{$.Name}}{{end}}", "d web"),
        ("{{range .List}}{{.}},{{end}}", "x,y,z,"),
        ("{{range $i, $v := .List}}{{$i}}{{$v}} {{end}}", "0x 1y 2z "),
        ("{{range $v := .List}}{{$v}}{{end}}", "xyz"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ('{{range .List}}{{if eq . "y"}}{{break}}{{end}}{{.}}{{end}}', "x"),
        ('{{range .List}}{{range $.List}}{{if eq . "y"}}{{continue}}{{end}}{{.}}{{end}}{{end}}', "xzxzxz"),
        ("{{$n := 1}}{{range .List}}{{$n = len .}}{{end}}{{$n}}", "1"),
        ("{{$x := .Name}}{{with .Nested}}{{$x}}{{end}}", "web"),
        ("{{if .Nothing}}a{{else if .Yes}}b{{else}}c{{end}}", "b"),
        ("{{if and .Yes (not .Nothing)}}y{{end}}", "y"),
        ('{{or .Nothing "d"}}', "d"),
        ('{{ .Name | upper | printf "%q" }}', '"WEB"'),
        ("{{json .Labels}} {{json .Nothing}} {{json .Name}}", '{"a":"1","b":"2"} null "web"'),
        ('{{index .Labels "a"}} {{index .List 1}}', "1 y"),
        ("{{.Labels.zz}}", "<no value>"),
        ("{{.NESTED.Inner.Deep}} {{.Labels.A}}", "d <no value>"),
        ("{{println .Name}}{{print .Number .Yes}}", "web\n7 true"),
        ('{{join .List "-"}}', "x-y-z"),
        ("{{\"}}\"}} {{`{{`}} {{'a'}}", "}} {{ 97"),
        ("a\n  {{- /* gone */ -}}\n  b", "ab"),
        ("{{.Name}}\n{{if .Yes}}\n{{end}}", "web\n\n"),
        (
            'a{{define "x"}}<{{.}}>{{end}}{{template "x" .Name}}{{range .List}}{{template "x" .}}{{end}}',
            "a<web><x><y><z>",
        ),
        ('{{template "x"}}{{define "x"}}({{.}}{{$}}){{end}}', "(<nil><nil>)"),
        ('{{block "x" .Nested}}{{.Inner.Deep}}{{$.Inner.Deep}}{{end}}{{template "x" .Nested}}', "dddd"),
        ("{{$v := 1}}{{define `x`}}{{$v := 2}}{{$v}}{{end}}{{template `x`}}{{$v}}", "21"),
        ('{{define "x"}} {{end}}{{define "x"}}b{{end}}{{define "x"}} {{end}}{{template "x"}}', "b"),
    ],
)
def test_a_template_gives(template, text):
    assert Template(template).execute(DATA) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("[{{.Config.User}}] {{.Config.Cmd}} {{.Config.ArgsEscaped}}", "[] [] false"),
        ("{{.Options}} {{json .Options}} {{.Labels}}", "map[] null map[]"),
        ("{{.HostConfig.BlkioDeviceReadBps}} {{json .HostConfig.BlkioDeviceReadBps}}", "[] null"),
    ],
)
def test_inspects_template_has_the_zero_value_of_dockers_type_where_the_json_has_nothing(template, text):
    found = {"Config": {}, "Options": None, "Labels": None, "HostConfig": {"BlkioDeviceReadBps": None}}

    assert executed(Template(template), found) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{$x}}",
        "{{$x.Name}}",
        '{{printf "%v" $x}}',
        "{{(index $x 1)}}",
        "{{with $x := 1}}{{$x}}{{end}}{{$x}}",
        "{{range $i, $x := .List}}{{$i}}{{end}}{{$x}}",
        "{{if 1}}{{$x := 1}}{{end}}{{$x}}",
        '{{$x := 1}}{{define "a"}}{{$x}}{{end}}',
        '{{define "a"}}{{$x := 1}}{{end}}{{$x}}',
    ],
)
def test_a_variable_that_there_is_not_is_found_when_the_template_is_parsed(template):
    with pytest.raises(TemplateError, match=r'^template: :1: undefined variable "\$x"$'):
        Template(template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{", "template: :1: unclosed action"),
        ("a\n{{end}}", "template: :2: unexpected {{end}}"),
        ("{{if}}{{end}}", "template: :1: missing value for if"),
        ("{{nope}}", 'template: :1: function "nope" not defined'),
        ("{{/* x", "template: :1: unclosed comment"),
        ('{{"x', "template: :1: unterminated quoted string"),
        ("{{if .Name}}", "template: :1: unexpected EOF"),
        ("{{continue}}", "template: :1: {{continue}} outside {{range}}"),
        ("{{(.Name}}", "template: :1: unclosed left paren"),
        ("{{.Name | }}", "template: :1: missing value for command"),
        ("{{.Name .Name}}", 'template: :1:2: executing "" at <.Name>: Name is not a method but has arguments'),
        ("{{.Nope}}", 'template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"'),
        ("{{.Name.X}}", 'template: :1:7: executing "" at <.Name.X>: can\'t evaluate field X in type string'),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        (
            "{{index .List 5}}",
            'template: :1:2: executing "" at <index .List 5>: error calling index: index out of range: 5',
        ),
        (
            '{{template "x"}}',
            'template: :1:11: executing "" at <{{template "x"}}>: template "x" not defined',
        ),
        (
            '{{define "a"}}{{template "a" .}}{{end}}{{template "a" .}}',
            'template: :1:25: executing "a" at <{{template "a" .}}>: exceeded maximum template depth (100)',
        ),
        (
            '{{define "x"}}{{$.Nope}}{{end}}{{template "x" .}}',
            'template: :1:17: executing "x" at <$.Nope>: map has no entry for key "Nope"',
        ),
        (
            '{{define "x"}}a{{end}}{{template "x" . .}}',
            'template: :1:37: executing "" at <.>: can\'t give argument to non-function .',
        ),
        (
            '{{define "a"}}' + "{{if 1}}" * 20 + '{{template "a" .}}' + "{{end}}" * 21 + '{{template "a" .}}',
            "template: :1: exceeded maximum template depth",
        ),
        ("{{if 1}}" * 3000 + "{{end}}" * 3000, "template: :1: exceeded maximum nesting depth"),
        ("{{define x}}a{{end}}", 'template: :1: unexpected "x" in define clause'),
        ("{{define}}a{{end}}", 'template: :1: unexpected "}}" in define clause'),
        ("{{template x}}", 'template: :1: unexpected "x" in template clause'),
        ('{{define "x" .}}a{{end}}', "template: :1: unexpected <.> in define clause"),
        ('{{define "x"}}a', "template: :1: unexpected EOF"),
        ('{{define "x"}}a{{else}}{{end}}', "template: :1: unexpected {{else}} in define clause"),
        ('{{block "x" .}}a{{else}}b{{end}}', "template: :1: unexpected {{else}} in block clause"),
        ('{{block "x"}}a{{end}}', "template: :1: missing value for block clause"),
        ('{{if 1}}{{define "x"}}{{end}}{{end}}', "template: :1: unexpected <define> in command"),
        ('{{range .List}}{{block "x" .}}{{break}}{{end}}{{end}}', "template: :1: {{break}} outside {{range}}"),
        (
            '{{define "x"}}a{{end}}{{define "x"}}b{{end}}',
            'template: :1: template: multiple definition of template "x"',
        ),
    ],
)
def test_a_wrong_template_is_told_in_gos_words(template, message):
    with pytest.raises(TemplateError) as caught:
        Template(template).execute(DATA)

    assert str(caught.value) == message


_PART = st.sampled_from(
    ["{{", "}}", ".Name", " ", "|", "(", ")", '"', "`", "'", "range", "if", "else", "end", "with", "$x", ":=", "1", "-",
     "printf", "index", "json", "/*", "*/", "\n", ".", ",", "{{.Name}}", "{{end}}", "nil", "true", "%", "=",
     "define", "block", "template"]
)  # fmt: skip


@given(st.lists(_PART, max_size=12).map("".join))
def test_any_text_is_a_template_or_an_error(source):
    try:
        Template(source).execute(DATA)
    except TemplateError as e:
        assert str(e).startswith("template: :")  # noqa: PT017


@given(st.text(st.characters(exclude_characters="{")))
def test_text_without_actions_stays_as_it_is(source):
    assert Template(source).execute(DATA) == source


@given(st.text(max_size=20), st.integers(0, 30), st.sampled_from(["", "-", "0", "+"]))
def test_printf_pads_to_the_width(text, width, flags):
    shown = Template('{{printf "%' + flags + str(width) + 's" .}}').execute(text)

    assert len(shown) == max(len(text), width)
    assert text in shown
