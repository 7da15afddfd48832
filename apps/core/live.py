"""Three values that an operator changes while the processes run: the log level, the streams' heartbeat, a notice.

Each process keeps its own; where they come from is no matter of this module (crm2.discovery reads them from Consul).
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings

log = logging.getLogger(__name__)

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
HEARTBEAT_SECONDS = range(5, 61)
LONGEST_NOTICE = 500  # characters


def heartbeat_seconds() -> float:
    """How long an open stream is silent at most."""
    return float(_values.get("stream_heartbeat", settings.STREAM_HEARTBEAT))


def maintenance_message() -> str:
    """What everybody should know now, such as when the system will be away; "" if nothing."""
    return str(_values.get("maintenance_message", ""))


def apply(given: Mapping[str, str]) -> None:
    """Takes over the values; a name that is missing goes back to its default.

    A bad value changes nothing. It is logged once, not at each reading, and without the value.
    """
    refused = {}
    for name, text in given.items():
        try:
            value = PARSERS[name](text)
        except KeyError:
            refused[name, text] = "unknown"
        except ValueError as error:
            refused[name, text] = str(error)
        else:
            _set(name, value)
    for name in _values.keys() - given.keys():
        _set(name, None)
    for (name, text), reason in refused.items():
        if (name, text) not in _refused:
            log.warning("live setting refused", extra={"code": name[:40], "reason": reason})
    _refused.clear()
    _refused.update(refused)


def _set(name: str, value: Any) -> None:
    if value == _values.get(name):
        return
    if value is None:
        del _values[name]
    else:
        _values[name] = value
    if name == "log_level":
        logging.getLogger().setLevel(value or settings.LOG_LEVEL)
    log.info("live setting changed", extra={"code": name})


def _log_level(text: str) -> str:
    if text not in LEVELS:
        raise ValueError(f"not one of {', '.join(LEVELS)}")
    return text


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) in HEARTBEAT_SECONDS):
        raise ValueError(f"not a number of seconds from {HEARTBEAT_SECONDS[0]} to {HEARTBEAT_SECONDS[-1]}")
    return int(text)


def _notice(text: str) -> str:
    if len(text) > LONGEST_NOTICE or not text.isprintable():
        raise ValueError(f"not one line of at most {LONGEST_NOTICE} characters")
    return text.strip()


PARSERS: dict[str, Callable[[str], Any]] = {
    "log_level": _log_level,
    "stream_heartbeat": _seconds,
    "maintenance_message": _notice,
}
_values: dict[str, Any] = {}
_refused: dict[tuple[str, str], str] = {}
