"""Django's PostgreSQL backend, with less to do for each request.

The pool's own check asks the server once a request, as much as the caller's look-up costs. A connection that the
server has ended is readable at once: a look at the socket finds it. One that has lain idle is asked properly: its
machine may have gone without a word. Where threads live as long as the process, connections rest between requests and
the one used last serves the next request, whichever thread has it: its server process is warm. At most half of the
pool's rest, so that there is always one for whoever has none.
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
    connections_rest = False  # set by an entry point whose threads live as long as its process
    _begun = False  # a request of this thread
    _resting: ClassVar[list[Any]] = []
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection that lives: the pool's, or a new one where there is no pool.

        :raises psycopg.OperationalError: no server answers in time
        """
        for _ in range(TRIES):
            connection = super().get_new_connection(conn_params)
            if not self.pool or self._lives_or_goes(connection):
                return connection
        raise psycopg.OperationalError("the pool's connections are dead")

    def close_if_unusable_or_obsolete(self) -> None:
        """At the begin of a request: takes up the connection that was used last. At its end: lays it down to rest, if
        there is a place; else it goes back to the pool.
        """
        if not self.connections_rest or not self.autocommit:  # a thread's first connection is made in full
            super().close_if_unusable_or_obsolete()
            return
        if self.connection is None:
            if not self._begun:  # else it is the end of a request that needed none
                self._take_up()
            self._begun = not self._begun
            return
        self._begun = False
        if self.errors_occurred or not self.pool or not self._lay_down():
            super().close_if_unusable_or_obsolete()

    def _take_up(self) -> None:
        while True:
            with self._lock:
                if not self._resting:
                    return
                connection = self._resting.pop()
            if self._lives_or_goes(connection):
                self.connection = connection
                return

    def _lives_or_goes(self, connection: Any) -> bool:
        """Whether it lives; a dead one goes back to the pool, which makes another in its place."""
        if _lives(connection):
            return True
        connection.close()
        self.pool.putconn(connection)
        return False

    def _lay_down(self) -> bool:
        with self._lock:
            if len(self._resting) >= self.pool.max_size // 2:
                return False
            self.connection.laid_aside_at = time.monotonic()
            self._resting.append(self.connection)
        self.connection = None
        return True

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.laid_aside_at = time.monotonic()
        super()._close()  # type: ignore[misc]  # of the stubs


def _lives(connection: Any) -> bool:
    if time.monotonic() - getattr(connection, "laid_aside_at", 0.0) < IDLE_SECONDS and not _readable(connection):
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
