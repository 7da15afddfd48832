"""Wrong passwords are counted per account and address; right ones never are."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from socket import socket

import pytest
import time_machine
from django.conf import settings as django_settings
from django.core.cache import cache
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from apps.auth.services import people, sessions, throttle
from apps.auth.tests.conftest import PASSWORD
from apps.core.breaker import PATIENCE, PAUSE, redis_breaker
from apps.core.errors import DomainError, RateLimited

WRONG = "wrong password 1"
REDIS_URL = django_settings.REDIS_URL
HERE, ELSEWHERE = "203.0.113.7", "203.0.113.8"


@pytest.fixture
def attempt(sign_in):
    """`attempt(user, password, address)`: the status of one sign-in."""

    def post(user, password=WRONG, address=HERE, **extra):
        email = user if isinstance(user, str) else user.email
        return sign_in(email, password, REMOTE_ADDR=address, **extra)

    return post


def statuses(attempt, count, *args, **extra):
    return [attempt(*args, **extra).status_code for _ in range(count)]


def test_five_wrong_then_429_with_retry_after(seller, attempt):
    assert statuses(attempt, 7, seller) == [401] * 5 + [429] * 2
    answer = attempt(seller)
    assert answer.json()["code"] == "rate_limited"
    assert 290 <= int(answer["Retry-After"]) <= 300


def test_the_right_password_is_refused_too_while_throttled(seller, attempt):
    statuses(attempt, 5, seller)
    assert attempt(seller, PASSWORD).status_code == 429


def test_the_right_password_from_another_address_works(seller, attempt):
    statuses(attempt, 6, seller)
    assert attempt(seller, PASSWORD, ELSEWHERE).status_code == 200


def test_another_account_from_the_same_address_works(seller, admin, attempt):
    statuses(attempt, 6, seller)
    assert attempt(admin, PASSWORD).status_code == 200


def test_unknown_accounts_are_counted_alike(db, attempt):
    assert statuses(attempt, 6, "nobody@example.com") == [401] * 5 + [429]


def test_spelling_of_the_email_does_not_matter(seller, attempt):
    spellings = ["seller@example.com", "SELLER@example.com", " seller@example.com", "Seller@Example.com"]
    assert [attempt(each).status_code for each in [*spellings, *spellings]] == [401] * 5 + [429] * 3


def test_success_forgives_the_account_here(seller, attempt):
    statuses(attempt, 4, seller)
    assert attempt(seller, PASSWORD).status_code == 200
    assert statuses(attempt, 6, seller) == [401] * 5 + [429]


def test_right_passwords_are_not_counted(seller, attempt):
    assert statuses(attempt, 70, seller, PASSWORD) == [200] * 70


def test_a_disabled_account_with_the_right_password_is_not_counted(make_user, attempt):
    former = make_user("former", enabled=False)
    assert statuses(attempt, 7, former, PASSWORD) == [403] * 7


def test_sixty_wrong_an_hour_from_one_address(db, attempt):
    wrong = [attempt(f"somebody{n // 4}@example.com").status_code for n in range(62)]
    assert wrong == [401] * 60 + [429] * 2
    assert attempt("somebody99@example.com", address=ELSEWHERE).status_code == 401


def test_refused_attempts_do_not_use_up_the_address(seller, admin, attempt):
    statuses(attempt, 80, seller)
    assert attempt(admin, PASSWORD).status_code == 200


def test_it_waits_longer_the_longer_it_goes_on(seller, attempt):
    with time_machine.travel("2026-03-02T09:00:00Z", tick=False) as clock:
        assert statuses(attempt, 6, seller) == [401] * 5 + [429]
        clock.shift(301)
        assert statuses(attempt, 6, seller) == [401] * 5 + [429]  # ten within the hour
        clock.shift(301)
        assert statuses(attempt, 2, seller) == [429] * 2
        assert int(attempt(seller)["Retry-After"]) > 2900
        clock.shift(3600)
        assert statuses(attempt, 6, seller) == [401] * 5 + [429]
        clock.shift(301)
        assert statuses(attempt, 6, seller) == [401] * 5 + [429]  # twenty within the day
        clock.shift(7200)
        assert attempt(seller).status_code == 429
        assert int(attempt(seller)["Retry-After"]) > 70_000


def test_keys_hold_no_email(seller, attempt):
    attempt(seller)
    client = cache._cache.get_client(None)  # type: ignore[attr-defined]
    keys = b" ".join(client.keys("*throttle*"))
    assert b"throttle" in keys
    assert b"seller" not in keys
    assert b"203.0.113" not in keys


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("", None, True),
    ],
)
def test_what_one_address_is(one, other, same):
    assert (throttle.network_of(one) == throttle.network_of(other)) is same


class TestForwardedFor:
    """X-Forwarded-For counts only from our own proxy."""

    def test_spoofed_header_does_not_change_the_key(self, seller, attempt):
        answers = [attempt(seller, HTTP_X_FORWARDED_FOR=f"198.51.100.{n}").status_code for n in range(7)]
        assert answers == [401] * 5 + [429] * 2

    @override_settings(TRUSTED_PROXIES=["10.0.0.0/8"])
    def test_only_the_last_hop_before_our_proxy_counts(self, seller, attempt):
        spoofed = [f"198.51.100.{n}, {HERE}, 10.0.0.2" for n in range(7)]
        answers = [attempt(seller, address="10.0.0.1", HTTP_X_FORWARDED_FOR=each).status_code for each in spoofed]
        assert answers == [401] * 5 + [429] * 2

    @override_settings(TRUSTED_PROXIES=["10.0.0.0/8"])
    def test_callers_behind_our_proxy_are_told_apart(self, seller, attempt):
        for _ in range(6):
            attempt(seller, address="10.0.0.1", HTTP_X_FORWARDED_FOR=HERE)
        assert attempt(seller, PASSWORD, "10.0.0.1", HTTP_X_FORWARDED_FOR=ELSEWHERE).status_code == 200
        assert attempt(seller, PASSWORD, "10.0.0.1", HTTP_X_FORWARDED_FOR=HERE).status_code == 429

    def test_the_session_keeps_the_real_address(self, seller, attempt):
        attempt(seller, PASSWORD, HTTP_X_FORWARDED_FOR="198.51.100.9")
        assert sessions.Session.objects.get().address == HERE


def test_of_sixty_guesses_at_once_few_reach_the_hasher(committed, monkeypatch):
    reached, start = [], threading.Barrier(12)
    verify = sessions.check_password

    def counted(password, encoded):
        reached.append(1)
        return verify(password, encoded)

    monkeypatch.setattr(sessions, "check_password", counted)

    def guess(n):
        try:
            if n < 12:
                start.wait()
            sessions.check_credentials(email=committed.email, password=f"guess {n}", address=HERE)
        except DomainError as error:
            return error.status
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(guess, range(60)))

    assert len(reached) == outcomes.count(401) == 5
    assert outcomes.count(429) == 55


class TestWithoutRedis:
    @pytest.fixture(autouse=True)
    def _no_redis(self, settings):
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        throttle._local.storage.reset()

    def test_one_attempt_a_second(self, seller, admin, attempt):
        with time_machine.travel("2026-03-02T09:00:00Z", tick=False) as clock:
            assert attempt(seller, PASSWORD).status_code == 200
            refused = attempt(admin, PASSWORD)
            assert (refused.status_code, refused["Retry-After"]) == (429, "1")
            clock.shift(1.5)
            assert attempt(admin, PASSWORD).status_code == 200

    def test_a_redis_that_hangs_costs_its_patience_once(self, settings, seller, attempt):
        with socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(50)
            settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            started = time.monotonic()
            seen = statuses(attempt, 4, seller)
        assert time.monotonic() - started < 2 * PATIENCE
        assert seen == [401, 429, 429, 429]  # one a second, the wrong and the right alike

    def test_it_counts_again_soon_after_redis_is_back(self, settings, seller, attempt):
        assert statuses(attempt, 2, seller) == [401, 429]
        settings.REDIS_URL = REDIS_URL
        with time_machine.travel(time.time() + 2, tick=False):
            assert statuses(attempt, 2, seller) == [401, 429]  # not asked yet
        redis_breaker._next_try_at -= PAUSE
        assert statuses(attempt, 6, seller) == [401] * 5 + [429]

    def test_unix_socket_url(self, settings):
        settings.REDIS_URL = "unix:///nowhere/redis.sock?db=3"
        pool = throttle._storage(settings.REDIS_URL).storage.connection_pool
        assert pool.connection_kwargs["path"] == "/nowhere/redis.sock"
        assert pool.connection_kwargs["db"] == 3


class TestOtherDoors:
    """The same count stands before every place that checks a password."""

    def test_own_password(self, seller):
        outcomes = []
        for _ in range(6):
            try:
                people.change_password(user=seller, current="wrong", new="Осенний-ветер-77", address=HERE)
            except DomainError as error:
                outcomes.append(error.code)
        assert outcomes == ["invalid_credentials"] * 5 + ["rate_limited"]

    def test_registration(self, db, settings):
        settings.AUTH_REGISTRATION_OPEN = True
        for n in range(60):
            people.register(email=f"new{n}@example.com", password="Осенний-ветер-77", address=HERE)
        with pytest.raises(RateLimited):
            people.register(email="one-more@example.com", password="Осенний-ветер-77", address=HERE)


def test_a_failure_to_forgive_does_not_fail_the_sign_in(seller, monkeypatch):
    def lost(*args):
        raise throttle.RedisError

    monkeypatch.setattr(throttle, "_give_back", lost)
    pair = sessions.sign_in(email=seller.email, password=PASSWORD, address=HERE, user_agent="", now=timezone.now())
    assert pair.access_token
