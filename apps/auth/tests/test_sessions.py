"""Signing in, refreshing, signing out."""

import base64
import threading
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from apps.auth import jobs
from apps.auth.models import Session
from apps.auth.services import people, sessions
from apps.auth.tests.conftest import PASSWORD
from apps.core.errors import DomainError
from apps.core.models import JobRun

URL = "/api/v1/auth"
START = "2026-03-02T09:00:00Z"


def refresh(token):
    return APIClient().post(f"{URL}/refresh", {"refreshToken": token})


def refusal(answer):
    return answer.status_code, answer.json()["code"]


class TestSignIn:
    def test_gives_a_pair(self, seller, sign_in):
        answer = sign_in(seller.email)
        body = answer.json()
        assert answer.status_code == 200
        assert body | {"accessToken": "", "refreshToken": ""} == {
            "tokenType": "Bearer",
            "accessToken": "",
            "expiresIn": 900,
            "refreshToken": "",
            "refreshExpiresIn": 604800,
        }
        assert len(body["refreshToken"]) == 43
        assert answer["Cache-Control"] == "no-store"
        assert not answer.cookies

    def test_keeps_hashes_only(self, seller, pair_of):
        token = base64.urlsafe_b64decode(pair_of(seller)["refreshToken"] + "=")
        session = Session.objects.get()
        kept = [bytes(session.family_hash), bytes(session.token_hash)]
        assert token not in kept
        assert token[:16] not in kept
        assert (session.address, session.previous_hash) == ("127.0.0.1", None)

    @pytest.mark.parametrize("spelled", ["Seller@Example.com", "  seller@example.com ", "SELLER@EXAMPLE.COM"])
    def test_email_in_any_case(self, seller, sign_in, spelled):
        assert sign_in(spelled).status_code == 200

    @pytest.mark.parametrize("path", [f"{URL}/token", f"{URL}/token/"])
    def test_with_and_without_the_slash(self, seller, path):
        assert APIClient().post(path, {"email": seller.email, "password": PASSWORD}).status_code == 200

    def test_unknown_and_wrong_look_the_same(self, seller, sign_in):
        unknown, wrong = sign_in("nobody@example.com"), sign_in(seller.email, "wrong password 1")
        assert refusal(unknown) == refusal(wrong) == (401, "invalid_credentials")
        assert unknown.json()["detail"] == wrong.json()["detail"]

    def test_password_first_then_disabled(self, make_user, sign_in):
        user = make_user("former", enabled=False)
        assert refusal(sign_in(user.email)) == (403, "account_disabled")
        assert refusal(sign_in(user.email, "wrong password 1")) == (401, "invalid_credentials")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "email"),
            ({"email": "a@example.com"}, "password"),
            ({"email": "a@example.com", "password": None}, "password"),
            ({"email": "a@example.com", "password": ["x"]}, "password"),
            ({"email": "a@example.com", "password": "x" * 1001}, "password"),
            ({"email": {}, "password": "x"}, "email"),
        ],
    )
    def test_malformed(self, db, body, field):
        answer = APIClient().post(f"{URL}/token", body)
        assert refusal(answer) == (400, "validation_error")
        assert field in [each["field"] for each in answer.json()["errors"]]

    def test_old_short_password_still_signs_in(self, seller, sign_in):
        seller.set_password("seed")
        seller.save()
        assert sign_in(seller.email, "seed").status_code == 200

    def test_password_is_taken_as_typed(self, seller, sign_in):
        assert sign_in(seller.email, f" {PASSWORD} ").status_code == 401

    def test_get_is_not_allowed(self, db):
        assert APIClient().get(f"{URL}/token").status_code == 405

    def test_a_password_changed_while_it_was_checked_opens_nothing(self, seller, monkeypatch):
        def check_and_change(*, email, password, address):
            user = people.User.objects.get(pk=seller.pk)
            people.set_password(user=seller, password="Осенний-ветер-77", actor=None)
            return user

        monkeypatch.setattr(sessions, "check_credentials", check_and_change)
        with pytest.raises(sessions.InvalidCredentials):
            sessions.sign_in(email=seller.email, password=PASSWORD, address=None, user_agent="", now=timezone.now())
        assert not Session.objects.exists()


class TestRefresh:
    def test_rotates(self, seller, pair_of, bearer):
        first = pair_of(seller)
        answer = refresh(first["refreshToken"])
        assert answer.status_code == 200
        second = answer.json()
        assert second["refreshToken"] != first["refreshToken"]
        assert set(second) == set(first)
        assert bearer(second["accessToken"]).get(f"{URL}/me").status_code == 200
        assert Session.objects.count() == 1

    @pytest.mark.parametrize("name", ["refreshToken", "refresh_token"])
    def test_both_spellings(self, seller, pair_of, name):
        assert APIClient().post(f"{URL}/refresh", {name: pair_of(seller)["refreshToken"]}).status_code == 200

    def test_the_family_keeps_its_name(self, seller, pair_of):
        first = pair_of(seller)["refreshToken"]
        second = refresh(first).json()["refreshToken"]
        assert base64.urlsafe_b64decode(first + "=")[:16] == base64.urlsafe_b64decode(second + "=")[:16]

    @pytest.mark.parametrize(("seconds", "alive"), [(0, True), (9, True), (10, False), (3600, False)])
    def test_reuse_of_the_previous_token(self, seller, pair_of, seconds, alive):
        with time_machine.travel(START, tick=False) as clock:
            first = pair_of(seller)["refreshToken"]
            second = refresh(first).json()["refreshToken"]
            clock.shift(seconds)
            assert refusal(refresh(first)) == (401, "refresh_token_expired")
            assert (refresh(second).status_code == 200) is alive
            assert Session.objects.get().end_reason == ("" if alive else "reused")

    def test_reuse_of_an_older_token_ends_the_session_at_once(self, seller, pair_of, bearer):
        first = pair_of(seller)["refreshToken"]
        second = refresh(first).json()["refreshToken"]
        third = refresh(second).json()
        assert refusal(refresh(first)) == (401, "refresh_token_expired")
        assert refusal(refresh(third["refreshToken"])) == (401, "refresh_token_expired")
        assert bearer(third["accessToken"]).get(f"{URL}/me").json()["code"] == "session_ended"

    def test_reuse_ends_one_session_of_many(self, seller, pair_of, bearer):
        other, first = pair_of(seller), pair_of(seller)["refreshToken"]
        refresh(refresh(first).json()["refreshToken"])
        refresh(first)
        assert bearer(other["accessToken"]).get(f"{URL}/me").status_code == 200

    def test_a_made_up_token_of_a_known_family_ends_it(self, seller, pair_of):
        token = pair_of(seller)["refreshToken"]
        forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(token + "=")[:16] + b"0" * 16).decode().rstrip("=")
        assert refusal(refresh(forged)) == (401, "refresh_token_expired")
        assert refresh(token).status_code == 401

    @pytest.mark.parametrize(("shift", "status"), [({"days": 7, "seconds": -1}, 200), ({"days": 7}, 401)])
    def test_seven_days_idle(self, seller, pair_of, shift, status):
        with time_machine.travel(START, tick=False) as clock:
            token = pair_of(seller)["refreshToken"]
            clock.shift(timedelta(**shift))
            assert refresh(token).status_code == status

    def test_thirty_days_in_all(self, seller, pair_of, bearer):
        with time_machine.travel(START, tick=False) as clock:
            pair = pair_of(seller)
            for _ in range(5):
                clock.shift(timedelta(days=5, hours=23))
                answer = refresh(pair["refreshToken"])
                assert answer.status_code == 200
                pair = answer.json()
            assert pair["refreshExpiresIn"] == 5 * 3600  # 29 d 19 h have passed
            clock.shift(timedelta(hours=5))
            assert refusal(refresh(pair["refreshToken"])) == (401, "refresh_token_expired")
            assert Session.objects.get().end_reason == "expired"

    def test_access_token_does_not_outlive_its_session(self, seller, pair_of, bearer, settings):
        settings.AUTH_SESSION_TTL = 60
        with time_machine.travel(START, tick=False) as clock:
            client = bearer(pair_of(seller)["accessToken"])
            clock.shift(60)
            assert client.get(f"{URL}/me").json()["code"] == "session_ended"

    @pytest.mark.parametrize(
        "token",
        [
            "x",
            "7e57ab1e-0000-4000-8000-000000000000",
            "a" * 42,
            "a" * 44,
            "+" * 43,
            "ы" * 43,
            "a" * 42 + "b",  # not the one spelling of its bytes
        ],
    )
    def test_malformed(self, db, token):
        assert refusal(refresh(token)) == (401, "refresh_token_invalid")

    @pytest.mark.parametrize("body", [{}, {"refreshToken": ""}, {"refreshToken": None}, {"refreshToken": {}}])
    def test_missing(self, db, body):
        answer = APIClient().post(f"{URL}/refresh", body)
        assert refusal(answer) == (400, "validation_error")
        assert answer.json()["errors"][0]["field"] == "refreshToken"

    def test_unknown(self, db):
        assert refusal(refresh("A" * 43)) == (401, "refresh_token_expired")

    def test_access_token_is_no_refresh_token(self, seller, pair_of):
        assert refusal(refresh(pair_of(seller)["accessToken"])) == (401, "refresh_token_invalid")

    def test_disabled(self, admin, seller, pair_of):
        token = pair_of(seller)["refreshToken"]
        people.change_user(user=seller, enabled=False, actor=admin)
        assert refusal(refresh(token)) == (403, "account_disabled")

    def test_new_token_carries_the_roles_of_now(self, admin, seller, pair_of, bearer):
        pair = pair_of(seller)
        people.UserRole.objects.create(user=seller, role=people.Role.objects.get(name="ROLE_TEAM_LEAD"))
        token = refresh(pair["refreshToken"]).json()["accessToken"]
        names = [role["name"] for role in bearer(token).get(f"{URL}/me").json()["roles"]]
        assert names == ["ROLE_SALES_AGENT", "ROLE_TEAM_LEAD", "ROLE_USER"]


def test_of_six_refreshes_at_once_one_succeeds(committed):
    pair = sessions.sign_in(email=committed.email, password=PASSWORD, address=None, user_agent="", now=timezone.now())
    outcomes, start = [], threading.Barrier(6)

    def run():
        start.wait()
        try:
            sessions.refresh(refresh_token=pair.refresh_token, now=timezone.now())
            outcomes.append("ok")
        except DomainError as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["ok"] + ["refresh_token_expired"] * 5
    assert Session.objects.get().ended_at is None  # the losers did not end the family


class TestLogout:
    def test_ends_this_session_alone(self, seller, pair_of, bearer):
        one, other = pair_of(seller), pair_of(seller)
        assert bearer(one["accessToken"]).post(f"{URL}/logout").status_code == 204
        assert bearer(one["accessToken"]).get(f"{URL}/me").json()["code"] == "session_ended"
        assert refusal(refresh(one["refreshToken"])) == (401, "refresh_token_expired")
        assert bearer(other["accessToken"]).get(f"{URL}/me").status_code == 200

    def test_needs_a_session(self, db):
        assert refusal(APIClient().post(f"{URL}/logout")) == (401, "authorization_required")


class TestStale:
    def test_ends_idle_and_old_and_forgets(self, seller, pair_of):
        with time_machine.travel(START, tick=False) as clock:
            pair_of(seller)
            clock.shift(timedelta(days=3))
            pair_of(seller)
            clock.shift(timedelta(days=4))
            assert sessions.end_stale_sessions(now=timezone.now()) == {"ended": 1, "forgotten": 0}
            assert sessions.end_stale_sessions(now=timezone.now()) == {"ended": 0, "forgotten": 0}
            clock.shift(timedelta(days=29))
            assert sessions.end_stale_sessions(now=timezone.now()) == {"ended": 1, "forgotten": 0}
            clock.shift(timedelta(days=2))
            assert sessions.end_stale_sessions(now=timezone.now()) == {"ended": 0, "forgotten": 1}

    def test_job_runs_once_a_slot(self, seller, pair_of):
        with time_machine.travel(START, tick=False):
            jobs.end_stale_sessions()
            jobs.end_stale_sessions()
        [run] = JobRun.objects.all()
        assert run.outcome == {"ended": 0, "forgotten": 0}


def test_security_log_names_no_email(seller, sign_in, caplog):
    with caplog.at_level("INFO", logger="crm2.security"):
        sign_in(seller.email)
        sign_in(seller.email, "wrong password 1")
        sign_in("nobody@example.com")
    codes = [record.code for record in caplog.records]
    assert codes == ["signed_in", "sign_in_failed", "sign_in_failed"]
    assert "@" not in " ".join(str(record.__dict__) for record in caplog.records)
