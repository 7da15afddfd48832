"""Django's PostgreSQL backend with a cheaper answer to "does this pooled connection still live?".

The pool's own check asks the server once a request, as much as the caller's look-up costs. A connection that the
server has ended is readable at once: a look at the socket finds it. One that has lain idle is asked properly: its
machine may have gone without a word.
"""

import select
import time
from typing import Any

import psycopg
from django.db.backends.postgresql import base

IDLE_SECONDS = 2.0
TRIES = 10  # each lays one dead connection aside; the pool replaces it in the background


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection that lives: the pool's, or a new one where there is no pool.

        :raises psycopg.OperationalError: no server answers in time
        """
        for _ in range(TRIES):
            connection = super().get_new_connection(conn_params)
            if not self.pool or _lives(connection):
                return connection
            connection.close()
            self.pool.putconn(connection)
        raise psycopg.OperationalError("the pool's connections are dead")

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
