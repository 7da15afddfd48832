"""How streams read the database: in threads of their own, holding no connection between two questions."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from channels.db import database_sync_to_async

_live = ThreadPoolExecutor(1, thread_name_prefix="streams-live")  # nobody's replay delays what is new
_rest = ThreadPoolExecutor(3, thread_name_prefix="streams")


async def ask(function: Callable[..., Any], /, *arguments: Any, live: bool = False, **named: Any) -> Any:
    """What the function reads; its connection has gone back to the pool."""
    call = database_sync_to_async(function, thread_sensitive=False, executor=_live if live else _rest)
    return await call(*arguments, **named)
