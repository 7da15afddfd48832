"""How often a wrong password may be tried. Only wrong attempts count.

A slot is taken before the password is checked and given back when it was right: parallel guesses cannot outrun the
count. Keys hold a keyed hash of the account and the address. Without Redis one attempt a second passes in each process.
"""

import hashlib
import ipaddress
import logging
import math
import time
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from limits import (
    RateLimitItem,
    RateLimitItemPerDay,
    RateLimitItemPerHour,
    RateLimitItemPerMinute,
    RateLimitItemPerSecond,
)
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from redis.exceptions import RedisError

from apps.core.breaker import REDIS_OPTIONS, redis_breaker
from apps.core.errors import RateLimited

security = logging.getLogger("crm2.security")

# Wrong passwords of one account from one address: the longer it goes on, the longer it waits.
ACCOUNT_WINDOWS: tuple[RateLimitItem, ...] = (
    RateLimitItemPerMinute(5, 5),
    RateLimitItemPerHour(10),
    RateLimitItemPerDay(20),
)
ADDRESS_WINDOW = RateLimitItemPerHour(60)
WITHOUT_REDIS = RateLimitItemPerSecond(1)

_local = MovingWindowRateLimiter(MemoryStorage())


@dataclass(frozen=True, slots=True)
class Attempt:
    """A slot taken for one password check."""

    account: str
    place: str
    counted: bool = True

    def succeeded(self) -> None:
        """The password was right: the account is forgiven here, the address gets its slot back."""
        if not self.counted:
            return
        try:
            with redis_breaker:
                for window in ACCOUNT_WINDOWS:
                    _moving().clear(window, "account", self.account)
                _give_back(self.place)
        except RedisError as error:
            security.warning("throttle unavailable", extra={"code": "throttle", "reason": type(error).__name__})


def reserve(*, email: str | None, address: str | None) -> Attempt:
    """Takes a slot for one password check; without an e-mail only the address is counted.

    :raises RateLimited: no slot is free; `retry_after` says in how many seconds one will be
    """
    place = _digest(network_of(address))
    account = _digest(f"{place} {(email or '').strip().lower()}")
    try:
        with redis_breaker:
            _take_address(place)
            if email is not None:
                _take_account(account, place)
    except RedisError as error:
        security.warning("throttle unavailable", extra={"code": "throttle", "reason": type(error).__name__})
        if not _local.hit(WITHOUT_REDIS, "sign-in"):
            raise RateLimited(1) from None
        return Attempt(account, place, counted=False)
    return Attempt(account, place)


def network_of(address: str | None) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one subscriber of IPv6 is given."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "-"
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _take_address(place: str) -> None:
    limiter = _fixed()
    if not limiter.hit(ADDRESS_WINDOW, "address", place):
        _give_back(place)
        raise _refusal(limiter.get_window_stats(ADDRESS_WINDOW, "address", place).reset_time)


def _take_account(account: str, place: str) -> None:
    limiter = _moving()
    # The longer windows are looked at first, so that knocking on a closed door fills no shorter one.
    for window in reversed(ACCOUNT_WINDOWS):
        if not limiter.test(window, "account", account):
            _give_back(place)
            raise _refusal(limiter.get_window_stats(window, "account", account).reset_time)
    for window in ACCOUNT_WINDOWS:
        if not limiter.hit(window, "account", account):
            _give_back(place)
            raise _refusal(limiter.get_window_stats(window, "account", account).reset_time)


def _give_back(place: str) -> None:
    _storage(settings.REDIS_URL).incr(ADDRESS_WINDOW.key_for("address", place), ADDRESS_WINDOW.get_expiry(), amount=-1)


def _refusal(free_at: float) -> RateLimited:
    security.warning("throttled", extra={"code": "throttled"})
    return RateLimited(max(1, math.ceil(free_at - time.time())))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), key=settings.SECRET_KEY.encode()[:64], digest_size=16).hexdigest()


@cache
def _storage(url: str) -> RedisStorage:
    return RedisStorage(
        url.replace("unix://", "redis+unix://", 1) if url.startswith("unix://") else url,
        key_prefix="crm2:throttle",
        **REDIS_OPTIONS,  # type: ignore[arg-type]  # annotated as texts; they go to redis-py as they are
    )


def _moving() -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(_storage(settings.REDIS_URL))


def _fixed() -> FixedWindowRateLimiter:
    return FixedWindowRateLimiter(_storage(settings.REDIS_URL))
