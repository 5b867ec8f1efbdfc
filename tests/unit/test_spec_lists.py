"""Lists of images that are being made: what is in them, and what they say of each."""

import pytest

from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.spec.distribution import Descriptor, Platform
from sampan.spec.lists import Entry, ManifestList, PlatformChange, check_new, decode

AMD = Platform(architecture="amd64")


def entry(name, digit="a", platform=AMD):
    descriptor = Descriptor(media_type="x", digest=f"sha256:{digit * 64}", size=1, platform=platform)
    return Entry(reference=name, place=f"docker://{name}", descriptor=descriptor, manifest=b"{}")


def names(made):
    return [(e.reference, e.descriptor.digest[7]) for e in made.entries]


def test_an_image_takes_the_place_of_one_of_the_same_name_or_content():
    made = ManifestList().with_entries([entry("a", "1"), entry("b", "2")], PlatformChange())

    assert names(made.with_entries([entry("a", "3")], PlatformChange())) == [("b", "2"), ("a", "3")]
    assert names(made.with_entries([entry("c", "2")], PlatformChange())) == [("a", "1"), ("c", "2")]


def test_what_is_annotated_is_changed_and_the_rest_stays():
    made = ManifestList().with_entries([entry("a", "1")], PlatformChange(annotations={"k": "v"}))
    found = made.find("a", "a", "list")

    changed = made.changed(found, PlatformChange(architecture="arm64", variant="v8", os_features=("x",)))

    descriptor = changed.entries[0].descriptor
    assert descriptor.platform == Platform(architecture="arm64", variant="v8", os_features=("x",))
    assert descriptor.annotations == {"k": "v"}
    assert descriptor.digest == found.descriptor.digest


@pytest.mark.parametrize("change", [{"architecture": "x86_64"}, {"os": "Linux"}, {"architecture": "foo"}])
def test_platforms_that_go_does_not_know_are_refused(change):
    with pytest.raises(InvalidInput, match="unsupported os/arch combination"):
        ManifestList().with_entries([entry("a")], PlatformChange(**change))


def test_images_are_found_by_name_and_digest_and_others_are_not():
    made = ManifestList().with_entries([entry("a", "1")], PlatformChange())

    assert made.find("sha256:" + "1" * 64, "", "l") is made.find("a", "", "l")
    with pytest.raises(NotFound, match="manifest for image b does not exist in l") as caught:
        made.find("b", "b", "l")
    assert caught.value.hint == "there are: a"
    assert made.without(made.entries[0]).entries == ()


def test_a_list_that_is_there_is_amended_only_when_told():
    check_new(exists=False, amend=False)
    check_new(exists=True, amend=True)
    with pytest.raises(Conflict, match="refusing to amend an existing manifest list with no --amend flag"):
        check_new(exists=True, amend=False)


def test_a_list_is_read_as_it_was_written():
    import msgspec

    made = ManifestList().with_entries([entry("a")], PlatformChange()).annotated({"k": "v"})

    assert decode(msgspec.json.encode(made)) == made
