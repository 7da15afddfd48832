"""A store that is away is asked once in a while, by one at a time."""

import time

import pytest
from django.core.cache import cache
from redis.exceptions import RedisError

from apps.core import breaker
from apps.core.breaker import Breaker, StoreAway


def fail(one):
    with pytest.raises(RedisError), one:
        raise RedisError


def test_closed_while_all_is_well():
    one = Breaker()
    for _ in range(3):
        with one:
            pass


def test_open_after_a_failure_and_for_one_at_a_time_after_the_pause(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(breaker.time, "monotonic", lambda: clock[0])
    one = Breaker()
    fail(one)
    with pytest.raises(StoreAway), one:
        pass
    clock[0] += breaker.PAUSE
    with one, pytest.raises(StoreAway), one:  # somebody looks: nobody else does
        pass
    with one:  # he has found it there
        pass


def test_a_second_failure_waits_anew(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(breaker.time, "monotonic", lambda: clock[0])
    one = Breaker()
    fail(one)
    clock[0] += breaker.PAUSE
    fail(one)
    with pytest.raises(StoreAway), one:
        pass


def test_an_answer_that_is_no_failure_of_the_store_is_an_answer():
    one = Breaker()
    with pytest.raises(ValueError), one:
        raise ValueError
    with one:
        pass


def test_the_cache_does_not_try_for_long(settings):
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}
    started = time.monotonic()
    with pytest.raises(RedisError):
        cache.get("anything")
    assert time.monotonic() - started < breaker.PATIENCE
