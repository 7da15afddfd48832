"""Idempotency-Key: the first answer is the only one, whoever repeats, races or dies."""

import threading
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from apps.core import relay
from apps.core.api import idempotency
from apps.core.models import IdempotencyKey, JobRun

pytestmark = pytest.mark.urls("apps.core.tests.site")
NOTES = "/api/v1/notes"
BODY = {"job": "a", "payload": {"text": "Зимний лес"}}


def caller(pk: UUID | None = None) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(SimpleNamespace(pk=pk or uuid4(), is_active=True, can=lambda _capability: False))
    return client


def post(client: APIClient, body: dict, key: str = "key-1", url: str = NOTES):
    return client.post(url, body, headers={"Idempotency-Key": key})


@pytest.mark.django_db
class TestRepeating:
    def test_the_same_request_replays_the_first_answer(self):
        client = caller()
        first, second = post(client, BODY), post(client, BODY)
        assert (first.status_code, second.status_code) == (201, 201)
        assert second.content == first.content
        assert "Idempotency-Replayed" not in first
        assert second["Idempotency-Replayed"] == "true"
        for header in ("Content-Type", "ETag", "Location"):
            assert second[header] == first[header]
        assert JobRun.objects.count() == 1

    @pytest.mark.parametrize(
        ("body", "url"),
        [
            ({"payload": BODY["payload"], "job": "a"}, NOTES),
            (BODY, f"{NOTES}/"),
        ],
    )
    def test_spelling_makes_no_other_request(self, body, url):
        client = caller()
        post(client, BODY)
        assert post(client, body, url=url)["Idempotency-Replayed"] == "true"

    @pytest.mark.parametrize(("body", "url"), [({"job": "b"}, NOTES), ({}, NOTES), (BODY, "/api/v1/crm/notes")])
    def test_another_request_with_the_key_is_refused(self, body, url):
        client = caller()
        post(client, BODY)
        answer = post(client, body, url=url)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert JobRun.objects.count() == 1

    def test_keys_belong_to_their_caller(self):
        assert post(caller(), BODY).json()["id"] != post(caller(), BODY).json()["id"]

    def test_another_key_is_another_request(self):
        client = caller()
        post(client, BODY)
        assert "Idempotency-Replayed" not in post(client, BODY, key="key-2")
        assert JobRun.objects.count() == 2

    def test_without_a_key_every_request_counts(self):
        client = caller()
        for _ in range(2):
            client.post(NOTES, BODY)
        assert JobRun.objects.count() == 2

    @pytest.mark.parametrize("key", ["", " ", "a b", "ключ", "a\tb", "x" * 256])
    def test_a_bad_key(self, key):
        answer = post(caller(), BODY, key=key)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "Idempotency-Key")
        assert not JobRun.objects.exists()

    @pytest.mark.parametrize("key", ["x", "!", "~" * 255])
    def test_a_good_key(self, key):
        assert post(caller(), BODY, key=key).status_code == 201

    def test_other_methods_have_no_use_for_it(self):
        client = caller()
        client.patch(NOTES, {}, headers={"Idempotency-Key": "k"})
        assert not IdempotencyKey.objects.exists()


@pytest.mark.django_db
class TestRefusals:
    @pytest.mark.parametrize("fault", ["domain", "named_fields", "not_found", "version"])
    def test_a_refusal_is_kept_and_its_work_undone(self, fault):
        client = caller()
        first, second = (post(client, BODY | {"fault": fault}) for _ in range(2))
        assert second.status_code == first.status_code in (400, 404, 409, 412)
        assert second.content == first.content
        assert second["Content-Type"] == "application/problem+json"
        assert second["Idempotency-Replayed"] == "true"
        assert not JobRun.objects.exists()

    @pytest.mark.parametrize(
        "fault", ["unauthenticated", "forbidden", "rate_limited", "unavailable", "database_away", "bug"]
    )
    def test_what_may_go_otherwise_next_time_is_not_kept(self, fault):
        client = caller()
        first = post(client, BODY | {"fault": fault})
        assert first.status_code in (401, 403, 429, 503, 500)
        assert not IdempotencyKey.objects.exists()
        assert not JobRun.objects.exists()
        assert "Idempotency-Replayed" not in post(client, BODY)


class TestTwins:
    def test_of_twenty_at_once_one_works(self, committed):
        pk, answers = uuid4(), []
        gate = threading.Barrier(20)

        def one() -> None:
            try:
                gate.wait(10)
                answers.append(post(caller(pk), BODY))
            finally:
                connection.close()

        threads = [threading.Thread(target=one) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [answer.status_code for answer in answers] == [201] * 20
        assert len({answer.content for answer in answers}) == 1
        assert sum("Idempotency-Replayed" not in answer for answer in answers) == 1
        assert JobRun.objects.count() == 1

    def test_one_still_running_is_told_so(self, committed, monkeypatch):
        monkeypatch.setattr(idempotency, "LOCK_TIMEOUT", "200ms")
        pk = uuid4()
        with relay.connect() as other:
            other.autocommit = False
            other.execute(
                "INSERT INTO core_idempotencykey (owner, key, route, fingerprint, headers, body)"
                " VALUES (%s, 'key-1', '', '', '{}', '')",
                [pk],
            )
            answer = post(caller(pk), BODY)
            other.rollback()
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_use")
        assert answer["Retry-After"] == "1"
        assert post(caller(pk), BODY).status_code == 201

    def test_a_crash_leaves_nothing(self, committed):
        pk = uuid4()
        assert post(caller(pk), BODY | {"fault": "bug"}).status_code == 500
        assert not JobRun.objects.exists()
        assert not IdempotencyKey.objects.exists()
        assert post(caller(pk), BODY).status_code == 201

    def test_the_work_does_not_inherit_the_short_patience(self, committed):
        post(caller(), BODY)
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == ("0",)


@pytest.mark.django_db
def test_a_key_is_kept_with_its_moment():
    client = caller()
    post(client, BODY)
    assert timezone.now() - IdempotencyKey.objects.get().created_at < timedelta(minutes=1)
