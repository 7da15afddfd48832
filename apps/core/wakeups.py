"""Wake-ups: the channel layer tells every process with streams that there is something new. Never the only news.

Whoever listens also looks for himself once a second, so a wake-up that is late or lost costs that second. Therefore
sending waits for nobody: a thread of its own sends the newest wake-up, and one that fails is forgotten.
"""

import asyncio
import logging
import threading

from channels.layers import get_channel_layer

log = logging.getLogger(__name__)

GROUP = "crm2.events"
NUMBERED = "events.numbered"
SEND_SECONDS = 1.0
PAUSE = 1.0  # seconds after a failure


class Waker:
    """`wake()` from any thread, at any rate: it returns at once, and calls that come close together are one."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wakeups", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._asked.set()

    def stop(self) -> None:
        """Ends the thread; a wake-up on its way may be lost."""
        self._stopping.set()
        self._asked.set()
        self._thread.join(SEND_SECONDS * 2)

    def _run(self) -> None:
        well = True
        with asyncio.Runner() as runner:
            while self._asked.wait() and not self._stopping.is_set():
                self._asked.clear()
                try:
                    runner.run(_send())
                except Exception as error:  # a wake-up is no news: the poll finds what it would have told
                    if well:
                        log.warning("wake-ups are not sent", extra={"reason": type(error).__name__})
                    well = False
                    self._stopping.wait(PAUSE)
                else:
                    well = True


async def _send() -> None:
    layer = get_channel_layer()
    if layer is not None:
        async with asyncio.timeout(SEND_SECONDS):
            await layer.group_send(GROUP, {"type": NUMBERED})
