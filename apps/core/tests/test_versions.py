"""ETag and If-Match."""

import pytest

from apps.core.api.versions import NEVER
from apps.core.changes import apply, differing, expect_version
from apps.core.errors import VersionMismatch

NOTES = "/api/v1/notes"


@pytest.mark.django_db
@pytest.mark.urls("apps.core.tests.site")
class TestIfMatch:
    @pytest.mark.parametrize(
        ("header", "version"),
        [
            ('"5"', 5),
            ('W/"5"', 5),
            (' "5" ', 5),
            ("*", None),
            (None, None),
            ("5", NEVER),
            ('""', NEVER),
            ('"five"', NEVER),
            ('"٥"', NEVER),
            ('"-1"', NEVER),
            ('"5", "6"', NEVER),
            ('"99999999999999999999"', NEVER),
            ('w/"5"', NEVER),
        ],
    )
    def test_forms(self, api, reader, header, version):
        headers = {"If-Match": header} if header is not None else {}
        assert api(reader).patch(NOTES, {}, headers=headers).json() == {"expected": version}

    def test_strict_asks_for_it(self, api, reader, settings):
        settings.STRICT_IF_MATCH = True
        answer = api(reader).patch(NOTES, {})
        assert (answer.status_code, answer.json()["code"]) == (428, "version_required")

    @pytest.mark.parametrize("header", ['"5"', "*"])
    def test_strict_is_content_with_any(self, api, reader, settings, header):
        settings.STRICT_IF_MATCH = True
        assert api(reader).patch(NOTES, {}, headers={"If-Match": header}).status_code == 200

    def test_a_mismatch_tells_the_current_version(self, api, reader):
        answer = api(reader).post(NOTES, {"job": "a", "fault": "version"})
        assert (answer.status_code, answer["ETag"]) == (412, '"4"')


class Thing:
    pk = 1
    version = 3
    updated_at = None
    name = "a"
    size = 1
    saved: list[str] | None = None

    def save(self, *, update_fields: list[str]) -> None:
        self.saved = update_fields


@pytest.mark.parametrize("expected", [3, None])
def test_the_version_that_was_read(expected):
    expect_version(Thing(), expected)


@pytest.mark.parametrize("expected", [2, 4, NEVER, 0])
def test_any_other_version(expected):
    with pytest.raises(VersionMismatch) as caught:
        expect_version(Thing(), expected)
    assert caught.value.current == 3


def test_a_change_is_written_once_with_the_next_version():
    thing = Thing()
    changed = differing(thing, {"name": "b", "size": 1})
    assert changed == {"name": ("a", "b")}
    apply(thing, changed, also={"name_key": "b"})
    assert (thing.name, thing.version, thing.name_key) == ("b", 4, "b")
    assert thing.saved == ["name", "name_key", "version", "updated_at"]
