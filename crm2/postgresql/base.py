"""Django's PostgreSQL backend, with less to do for each request.

The pool's own check asks the server once a request, as much as the caller's look-up costs. A connection that the
server has ended is readable at once: a look at the socket finds it. One that has lain idle is asked properly: its
machine may have gone without a word. Where threads live as long as the process, a connection stays with its thread
from request to request; at most half of the pool's do, so that there is always one for whoever has none.
"""

import select
import threading
import time
from typing import Any, ClassVar

import psycopg
from django.db.backends.postgresql import base

IDLE_SECONDS = 2.0
TRIES = 10  # each lays one dead connection aside; the pool replaces it in the background


class DatabaseWrapper(base.DatabaseWrapper):
    connections_stay = False  # set by an entry point whose threads live as long as its process
    _staying: ClassVar[set[Any]] = set()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection that lives: the pool's, or a new one where there is no pool.

        :raises psycopg.OperationalError: no server answers in time
        """
        for _ in range(TRIES):
            connection = super().get_new_connection(conn_params)
            if not self.pool or _lives(connection):
                connection.laid_aside_at = None
                return connection
            connection.close()
            self.pool.putconn(connection)
        raise psycopg.OperationalError("the pool's connections are dead")

    def close_if_unusable_or_obsolete(self) -> None:
        """At the end of a request and at the begin of the next: the connection goes back to the pool, unless it may
        stay; then it is laid aside, and looked at before it is taken up again.
        """
        if not (
            self.connections_stay
            and self.connection is not None
            and self.pool
            and self.get_autocommit()
            and not self.errors_occurred
            and self._has_a_place()
        ):
            super().close_if_unusable_or_obsolete()
        elif self.connection.laid_aside_at is None:
            self.connection.laid_aside_at = time.monotonic()
        elif _lives(self.connection):
            self.connection.laid_aside_at = None
        else:
            self.close()

    def _has_a_place(self) -> bool:
        if self.connection in self._staying:
            return True
        with self._lock:
            self._staying.difference_update([each for each in self._staying if each.closed])
            if len(self._staying) < self.pool.max_size // 2:
                self._staying.add(self.connection)
        return self.connection in self._staying

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.laid_aside_at = time.monotonic()
            self._staying.discard(self.connection)
        super()._close()  # type: ignore[misc]  # of the stubs


def _lives(connection: Any) -> bool:
    used_at = getattr(connection, "laid_aside_at", None) or 0.0  # a new one has never been used
    if time.monotonic() - used_at < IDLE_SECONDS and not _readable(connection):
        return True
    try:
        connection.execute("")
    except psycopg.Error:
        return False
    return True


def _readable(connection: Any) -> bool:
    """Whether the server has said something unasked: that it ends, mostly."""
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
