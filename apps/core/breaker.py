"""What keeps a store that is away from costing every request its patience."""

import threading
import time
from types import TracebackType

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

PATIENCE = 0.5  # seconds for one answer of Redis
PAUSE = 5.0  # seconds without a question after a failure

# How Redis is asked within a request: once, and not for long.
REDIS_OPTIONS = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "retry": Retry(NoBackoff(), 0)}


class StoreAway(RedisConnectionError):
    """It was away a moment ago and is not asked now."""


class Breaker:
    """A block that asks the store, as a context manager; after a failure nobody asks for a while, then one at a time.

    Of this process alone: each finds out for itself, at the cost of one patience in every five seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_try_at: float | None = None  # None: all is well

    def __enter__(self) -> None:
        """
        :raises StoreAway: the store has failed within the pause
        """
        if self._next_try_at is None:
            return
        with self._lock:
            now = time.monotonic()
            if self._next_try_at is not None and now < self._next_try_at:
                raise StoreAway
            self._next_try_at = now + PAUSE  # this one looks, the others go on without

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        failed = isinstance(error, RedisError)
        if failed or self._next_try_at is not None:
            with self._lock:
                self._next_try_at = time.monotonic() + PAUSE if failed else None

    def reset(self) -> None:
        self._next_try_at = None


redis_breaker = Breaker()
