"""Wake-ups never hold up who sends them, and come when the channel layer does."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from apps.core import wakeups
from apps.core.wakeups import GROUP, NUMBERED, Waker


class Layer:
    """A channel layer that is away as long as `away`."""

    def __init__(self) -> None:
        self.away = False
        self.heard = threading.Event()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.away:
            raise ConnectionError
        assert (group, message) == (GROUP, {"type": NUMBERED})
        self.heard.set()


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Layer:
    made = Layer()
    monkeypatch.setattr(wakeups, "get_channel_layer", lambda: made)
    monkeypatch.setattr(wakeups, "PAUSE", 0.01)
    return made


@pytest.fixture
def waker(layer: Layer) -> Iterator[Waker]:
    made = Waker()
    made.start()
    yield made
    made.stop()
    assert not made._thread.is_alive()


def test_it_wakes(waker: Waker, layer: Layer) -> None:
    waker.wake()
    assert layer.heard.wait(2)


def test_without_redis_nobody_waits_and_the_next_one_comes(waker: Waker, layer: Layer) -> None:
    layer.away = True
    started = time.monotonic()
    for _ in range(1000):
        waker.wake()
    assert time.monotonic() - started < 0.5
    time.sleep(0.1)
    layer.away = False
    waker.wake()
    assert layer.heard.wait(2)
