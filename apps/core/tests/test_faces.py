"""Two spellings of one API: names are renamed, what people wrote is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.api.faces import camel, from_wire, snake, to_camel
from apps.core.errors import Invalid

NAMES = [
    ("id", "id"),
    ("next_review_at", "nextReviewAt"),
    ("phone_e164", "phoneE164"),
    ("a.b_c.d_e", "a.bC.dE"),
    ("items.0.planned_amount", "items.0.plannedAmount"),
    ("trace_id", "trace_id"),
]


@pytest.mark.parametrize(("name", "spelled"), NAMES)
def test_camel(name, spelled):
    assert camel(name) == spelled


@pytest.mark.parametrize(
    ("spelled", "name"),
    [("nextReviewAt", "next_review_at"), ("next_review_at", "next_review_at"), ("id[]", "id"), ("dealId[]", "deal_id"),
     ("phoneE164", "phone_e164"), ("", "")],
)  # fmt: skip
def test_snake(spelled, name):
    assert snake(spelled) == name


@given(st.from_regex(r"[a-z]{2,8}(_[a-z]{2,8}){0,4}", fullmatch=True))
def test_a_plain_name_survives_the_way_there_and_back(name):
    if name != "trace_id":
        assert snake(camel(name)) == name


def test_answers_rename_fields_at_every_depth():
    data = {"deal_id": 1, "rows": [{"due_on": None}, ({"a_b": 2},)]}
    assert to_camel(data) == {"dealId": 1, "rows": [{"dueOn": None}, [{"aB": 2}]]}


@pytest.mark.parametrize("name", ["payload", "context", "metadata", "before", "after"])
def test_free_json_is_left_alone(name):
    inner = {"some_key": {"otherKey": [{"a_b": 1}]}}
    assert to_camel({name: inner}) == {name: inner}
    assert from_wire({name: inner}) == {name: inner}


@pytest.mark.parametrize("body", [{"dealId": 1, "deal_id": 1}, {"deal_id": {"aB": 1}, "dealId": {"a_b": 1}}])
def test_two_spellings_may_agree(body):
    assert list(from_wire(body)) == ["deal_id"]


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"dealId": 1, "deal_id": 2}, "deal_id", "conflicting_spellings"),
        ({"rows": [{"aB": None, "a_b": 0}]}, "a_b", "conflicting_spellings"),
        ({"name": "a\0b"}, "", "null_characters_not_allowed"),
        ({"rows": [["\0"]]}, "", "null_characters_not_allowed"),
        ({"payload": {"a": ["\0"]}}, "", "null_characters_not_allowed"),
        ({"payload": {"a\0": 1}}, "", "null_characters_not_allowed"),
    ],
)
def test_what_is_refused(body, field, code):
    with pytest.raises(Invalid) as caught:
        from_wire(body)
    assert [(each.field, each.code) for each in caught.value.errors] == [(field, code)]


def nested(depth: int, inside: str) -> object:
    data: object = 1
    for level in range(depth - 1):
        data = [data] if level % 2 else {"a": data}
    return {inside: data}


@pytest.mark.parametrize("inside", ["rows", "payload"])
def test_nesting_ends_at_32(inside):
    from_wire(nested(31, inside))
    with pytest.raises(Invalid) as caught:
        from_wire(nested(34, inside))
    assert caught.value.errors[0].code == "too_deep"


@pytest.mark.django_db
@pytest.mark.urls("apps.core.tests.site")
class TestTheFaces:
    BODY = {"job": "a", "payload": {"some_key": 1}}

    def test_native(self, api, reader):
        assert set(api(reader).post("/api/v1/notes", self.BODY).json()) == {"id", "job_name", "payload", "trace_id"}

    def test_gateway(self, api, reader):
        body = api(reader).post("/api/v1/crm/notes", self.BODY).json()
        assert set(body) == {"id", "jobName", "payload", "trace_id"}
        assert body["payload"] == {"some_key": 1}

    @pytest.mark.parametrize("face", ["/api/v1/notes", "/api/v1/crm/notes"])
    @pytest.mark.parametrize("name", ["next_review_at", "nextReviewAt"])
    def test_both_read_both(self, api, reader, face, name):
        answer = api(reader).post(face, {"job": "a", name: "no date"})
        assert [each["code"] for each in answer.json()["errors"]] == ["invalid"]

    @pytest.mark.parametrize("name", ["slot_after", "slotAfter", "slotAfter[]"])
    def test_query_parameters_too(self, api, reader, name):
        assert api(reader).get("/api/v1/notes", {name: "2026-01-01T00:00:00Z"}).status_code == 200
