import pytest
from hypothesis import given, strategies as st

from sampan.errors import InvalidInput
from sampan.spec import settings
from sampan.spec.settings import Place, Registries, Registry, Settings


def parse(*texts):
    return settings.parse((f"file{number}", text) for number, text in enumerate(texts))


def test_nothing_set_is_the_default():
    assert parse() == parse("") == Settings()


def test_everything_may_be_set():
    found = parse("""
        [store]
        keep-blobs = true
        [limits]
        max-layer-bytes = "2g"
        max-layer-entries = 5
        [devices]
        cdi-spec-dirs = ["/cdi"]
        [registries]
        default = "quay.io"
        tries = 3
        wait = "250ms"
        timeout = 5
        [registries."docker.io"]
        mirrors = ["mirror.example:5000/hub", "http://10.0.0.1"]
        [registries."registry.example:5000"]
        insecure = true
        [registries."bad.example"]
        blocked = true
        [registries."old.example/team"]
        location = "new.example/team"
    """)

    assert found.store.keep_blobs
    assert (found.limits.max_layer_bytes, found.limits.max_layer_entries) == (2 << 30, 5)
    assert found.devices.cdi_spec_dirs == ("/cdi",)
    registries = found.registries
    assert (registries.default, registries.tries, registries.wait_s, registries.timeout_s) == ("quay.io", 3, 0.25, 5)
    assert registries.known["docker.io"].mirrors == ("mirror.example:5000/hub", "http://10.0.0.1")
    assert registries.is_insecure("registry.example:5000")
    assert not registries.is_insecure("registry.example")


def test_a_later_file_changes_single_keys():
    found = parse(
        '[registries]\ndefault="a.example"\ntries=2\n["registries"."b.example"]\ninsecure=true\nblocked=true',
        '[registries]\ntries=7\n[registries."b.example"]\nblocked=false\n[store]\nkeep-blobs=true',
    )

    assert (found.registries.default, found.registries.tries) == ("a.example", 7)
    assert found.registries.known["b.example"] == Registry(insecure=True)
    assert found.store.keep_blobs


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("x = ", "can't read file0: ", ""),
        ("[stroe]", "can't use file0: stroe: there is no such key", "did you mean store?"),
        ("[store]\nkeep-blob = true", "store.keep-blob: there is no such key", "did you mean keep-blobs?"),
        ("[store]\nkeep-blobs = 1", "store.keep-blobs: Expected `bool`, got `int`", ""),
        ("[build]\nmin-free-percent = 101", "build.min-free-percent: Expected `int` <= 100", ""),
        ("store = 1", "store: this is a table", "write [store] on a line of its own, and its keys below"),
        ("[limits]\nmax-layer-bytes = '2x'", "limits.max-layer-bytes: invalid size: '2x'", ""),
        ("[limits]\nmax-layer-bytes = 0", "limits.max-layer-bytes: Expected `int` >= 1", ""),
        ("[registries]\ntimeout = '5'", "registries.timeout: invalid duration: '5'", ""),
        ("[registries]\ndefault = 'a/b'", "registries.default: 'a/b' is no registry", ""),
        ("[registries]\nknown = 1", "registries.known: there is no such key", ""),
        ("[registries.'a.io']\nmirors = []", 'registries."a.io".mirors: there is no such key', "did you mean mirrors?"),
        ("[registries.'a.io']\nmirrors = 'b.io'", 'registries."a.io".mirrors: Expected `array`, got `str`', ""),
        (
            "[registries.'a.io']\nmirrors = ['ftp://b.io']",
            "mirrors: 'ftp://b.io' does not read host[:port][/prefix]",
            "",
        ),
        ("[registries.'a.io']\nlocation = 'http://b'", "location: 'http://b' does not read host[:port][/prefix]", ""),
        ("[registries.'a/B!']\nblocked = true", "registries.a/B!: there is no such key", ""),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(text, where, hint):
    with pytest.raises(InvalidInput) as caught:
        parse(text)

    assert where in caught.value.message
    assert "file0" in caught.value.message
    assert hint in caught.value.hint


KNOWN = Registries(
    known={
        "docker.io": Registry(mirrors=("a.example/hub", "http://b.example:5000")),
        "docker.io/library/debian": Registry(mirrors=("debian.example/os",)),
        "b.example:5000": Registry(),
        "a.example": Registry(insecure=True),
        "old.example/team": Registry(location="new.example/group", insecure=True),
        "blocked.example": Registry(blocked=True),
    }
)


@pytest.mark.parametrize(
    ("registry", "repository", "places"),
    [
        ("quay.io", "x/y", [Place(host="quay.io", repository="x/y")]),
        (
            "docker.io",
            "library/alpine",
            [
                Place(host="a.example", repository="hub/library/alpine", insecure=True),
                Place(host="b.example:5000", repository="library/alpine", insecure=True, scheme="http"),
                Place(host="registry-1.docker.io", repository="library/alpine"),
            ],
        ),
        ("docker.io", "library/debian", [
            Place(host="debian.example", repository="os"),
            Place(host="registry-1.docker.io", repository="library/debian"),
        ]),
        ("old.example", "team/app", [Place(host="new.example", repository="group/app", insecure=True)]),
        ("old.example", "teams/app", [Place(host="old.example", repository="teams/app")]),
    ],
)  # fmt: skip
def test_a_repository_is_at_its_mirrors_and_at_its_registry(registry, repository, places):
    assert list(KNOWN.places(registry, repository)) == places


def test_a_blocked_registry_is_not_gone_to():
    with pytest.raises(InvalidInput, match=r"registry blocked.example is blocked in the configuration"):
        KNOWN.places("blocked.example", "app")


def test_a_mirror_of_one_repository_is_a_repository():
    registries = Registries(known={"docker.io/library/debian": Registry(mirrors=("debian.example",))})

    with pytest.raises(InvalidInput, match="it names a registry only"):
        registries.places("docker.io", "library/debian")


def test_docker_hub_goes_by_any_of_its_names():
    found = parse('[registries."index.docker.io"]\nmirrors = ["registry-1.docker.io"]').registries

    assert [place.host for place in found.places("docker.io", "a/b")] == ["registry-1.docker.io"] * 2


TABLES = (
    "[store]",
    "[build]",
    "[limits]",
    "[registries]",
    "[registries.'a.io']",
    "[registries.b]",
    "[[registries]]",
    "['']",
)
KEYS = (
    "keep-blobs", "max-layer-bytes", "max-layer-entries", "default", "tries", "wait", "timeout", "mirrors", "location",
    "insecure", "blocked", "known", "'docker.io'", "a.b",
)  # fmt: skip
VALUES = (
    "true", "1", "-1", "0x7fffffffffffffff", "1e400", "nan", "1979-05-27", "''", "'a.io'", "'5m'", "'5g'", "'-1s'",
    "[]", "['a.io/b']", "['http://a.io', 1]", "{}", "{insecure = 1}", "'a.io/B'",
)  # fmt: skip
lines = st.sampled_from(TABLES) | st.builds("{} = {}".format, st.sampled_from(KEYS), st.sampled_from(VALUES))


@given(st.lists(lines, max_size=6).map("\n".join) | st.text(max_size=40))
def test_any_text_is_read_or_refused_with_its_file(text):
    try:
        found = parse(text)
    except InvalidInput as e:
        refused = e.message
    else:
        refused = "file0"
        assert found.registries.wait_s >= 0
    assert "file0" in refused
