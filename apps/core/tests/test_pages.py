"""Lists: keyset pages that lose and repeat nothing, and queries that refuse what they do not know."""

import base64
import re
from types import SimpleNamespace
from uuid import uuid4

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from apps.core.api.pages import GATEWAY_MOST, NATIVE_MOST
from apps.core.models import JobRun
from apps.core.tests.site import add_note

pytestmark = pytest.mark.urls("apps.core.tests.site")
NOTES, NEWEST = "/api/v1/notes", "/api/v1/newest"


@pytest.fixture
def caller() -> APIClient:
    """Someone signed in, who needs no row."""
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(SimpleNamespace(pk=uuid4(), is_active=True, can=lambda _capability: False))
    return client


def next_of(answer) -> str | None:
    match = re.fullmatch(r'<([^>]+)>; rel="next"', answer.get("Link", ""))
    return match[1] if match else None


def cursor_of(answer) -> str:
    return re.search(r"cursor=([^&>]+)", answer["Link"])[1]


def walk(client: APIClient, url: str, between=lambda: None) -> list[int]:
    """The ids of all pages, from link to link."""
    ids: list[int] = []
    follow: str | None = url
    while follow:
        answer = client.get(follow)
        assert answer.status_code == 200, answer.content
        ids += [row["id"] for row in answer.json()]
        follow = next_of(answer)
        between()
    return ids


def refused(answer) -> list[tuple[str, str]]:
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filters")
    return [(each["field"], each["code"]) for each in answer.json()["errors"]]


@pytest.mark.django_db
class TestPages:
    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    @pytest.mark.parametrize("url", [NOTES, NEWEST])
    def test_the_pages_together_are_the_list(self, caller, url, limit):
        ids = [add_note("a").pk for _ in range(17)]
        expected = ids if url == NOTES else ids[::-1]
        assert walk(caller, f"{url}?limit={limit}") == expected

    @pytest.mark.parametrize("url", [NOTES, NEWEST])
    def test_rows_that_come_meanwhile_turn_nothing_round(self, caller, url):
        before = [add_note("a").pk for _ in range(12)]
        seen = walk(caller, f"{url}?limit=3", between=lambda: JobRun.objects.count() < 16 and add_note("a"))
        after = list(JobRun.objects.order_by("slot", "id").values_list("pk", flat=True))
        assert len(seen) == len(set(seen))
        assert set(before) <= set(seen)
        assert seen == (after if url == NOTES else sorted(before, reverse=True))

    def test_the_last_page_has_no_link(self, caller):
        add_note("a")
        assert "Link" not in caller.get(f"{NOTES}?limit=1")

    def test_the_link_keeps_the_filter(self, caller):
        wanted = [add_note(job).pk for job in "abab" if job == "a"]
        assert walk(caller, f"{NOTES}?limit=1&job=a") == [
            JobRun.objects.filter(job="a").order_by("pk")[0].pk,
            wanted[1],
        ]

    def test_the_total_only_when_asked(self, caller):
        for _ in range(3):
            add_note("a")
        assert "X-Total-Count" not in caller.get(NOTES)
        assert caller.get(f"{NOTES}?count=true&limit=1")["X-Total-Count"] == "3"

    def test_offset(self, caller):
        ids = [add_note("a").pk for _ in range(4)]
        assert [row["id"] for row in caller.get(f"{NOTES}?offset=1&limit=2").json()] == ids[1:3]

    def test_a_page_costs_one_query(self, caller, django_assert_num_queries):
        for _ in range(5):
            add_note("a")
        caller.get(NOTES)  # the first request of a process asks for pending migrations
        with django_assert_num_queries(1):
            caller.get(f"{NOTES}?limit=2")


@pytest.mark.django_db
class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "field", "code"),
        [
            ("colour=red", "colour", "unknown_parameter"),
            ("limit=0", "limit", "min_value"),
            ("limit=x", "limit", "invalid"),
            (f"limit={NATIVE_MOST + 1}", "limit", "max_value"),
            ("offset=10001", "offset", "max_value"),
            ("offset=-1", "offset", "min_value"),
            ("count=perhaps", "count", "invalid"),
            ("slot_after=yesterday", "slot_after", "invalid"),
            ("job=a%00b", "job", "null_characters_not_allowed"),
            ("job=a&job=b", "job", "repeated_parameter"),
            ("slotAfter=2026-01-01&slot_after=2026-01-02", "slot_after", "repeated_parameter"),
            ("id=1&id=x", "id", "invalid"),
            ("cursor=garbage", "cursor", "invalid_cursor"),
            ("cursor=%F0%9F%8D%BA", "cursor", "invalid_cursor"),
        ],
    )
    def test_a_query_that_makes_no_sense(self, caller, query, field, code):
        assert refused(caller.get(f"{NOTES}?{query}")) == [(field, code)]

    @pytest.mark.parametrize("query", ["limit=200", "offset=10000", "job=a&job=a", "id=1&id[]=2", "id[]=1&id[]=2", ""])
    def test_queries_that_do(self, caller, query):
        assert caller.get(f"{NOTES}?{query}").status_code == 200

    def test_the_gateway_face_gives_more_at_once(self, caller):
        assert caller.get(f"/api/v1/crm/notes?limit={GATEWAY_MOST}").status_code == 200
        assert refused(caller.get(f"/api/v1/crm/notes?limit={GATEWAY_MOST + 1}")) == [("limit", "max_value")]

    @pytest.mark.parametrize("elsewhere", [f"{NOTES}?job=b", NOTES, f"{NEWEST}?job=a", "/api/v1/crm/notes?job=a"])
    def test_a_cursor_of_another_list(self, caller, elsewhere):
        add_note("a")
        add_note("a")
        cursor = cursor_of(caller.get(f"{NOTES}?job=a&limit=1"))
        sign = "&" if "?" in elsewhere else "?"
        assert refused(caller.get(f"{elsewhere}{sign}cursor={cursor}")) == [("cursor", "invalid_cursor")]

    def test_a_cursor_outlives_another_limit(self, caller):
        ids = [add_note("a").pk for _ in range(3)]
        cursor = cursor_of(caller.get(f"{NOTES}?limit=1"))
        assert [row["id"] for row in caller.get(f"{NOTES}?limit=9&cursor={cursor}").json()] == ids[1:]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.lists(x), max_leaves=5
)
MOMENTS = st.sampled_from(
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-01-01", "2026-02-31", "infinity", "", "\0"]
)
NUMBERS = st.sampled_from(["1", "-1", str(2**63), "9" * 400, "1.5", "NaN", "٣", "\0", " 7 "])


def test_a_forged_cursor_is_refused_or_read_but_breaks_nothing(committed, caller):
    for _ in range(2):
        add_note("a")
    genuine = cursor_of(caller.get(f"{NOTES}?limit=1"))
    mark = orjson.loads(base64.urlsafe_b64decode(genuine + "=="))[0]

    @given(
        st.one_of(st.text(), JSON, st.tuples(st.just(mark), MOMENTS | st.text(), NUMBERS | st.text()), st.just([mark]))
    )
    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    def check(forged):
        try:
            raw = orjson.dumps(forged)
        except (TypeError, orjson.JSONEncodeError):
            raw = repr(forged).encode("utf-8", "replace")
        for text in (base64.urlsafe_b64encode(raw).decode().rstrip("="), str(forged)[:500]):
            assert caller.get(NOTES, {"cursor": text.encode("utf-8", "replace")}).status_code in (200, 400)

    check()
