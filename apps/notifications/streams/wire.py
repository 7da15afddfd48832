"""The connection under a stream: how much of what was sent has not come through, and how to cut it.

ASGI knows neither. uvicorn's `send` belongs to an object that holds the transport; under another server these two do
nothing, and a reader that is too slow is noticed only when `send` blocks.
"""

import fcntl
import struct
import termios
from typing import Any


class Wire:
    def __init__(self, send: Any) -> None:
        self._transport = getattr(getattr(send, "__self__", None), "transport", None)

    def undelivered(self) -> int:
        """Bytes that wait here or that the other side's system has not acknowledged."""
        if self._transport is None or self._transport.is_closing():
            return 0
        waiting = int(self._transport.get_write_buffer_size())
        socket = self._transport.get_extra_info("socket")
        if socket is None:
            return waiting
        try:
            (unacknowledged,) = struct.unpack("i", fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, b"\0" * 4))
        except OSError:  # no TCP, or gone
            unacknowledged = 0
        return waiting + int(unacknowledged)

    def cut(self) -> None:
        """Ends the connection now; what waits is thrown away."""
        if self._transport is not None:
            self._transport.abort()
