"""Consul, where there is one: this instance stands in its catalog, and three settings follow its key-value store.

Nothing depends on it. While it is away the settings stay as they are, and registering is tried again.
"""

import logging
import os
import threading
from urllib.parse import urlsplit

import consul
import requests
from django.conf import settings

from apps.core import live

log = logging.getLogger(__name__)

PREFIX = "crm2/settings/"
EVERY_SECONDS = 30.0
CHECK_EVERY, CHECK_PATIENCE, FORGET_AFTER = "10s", "3s", "10m"
LONGEST_VALUE = 4096  # bytes

# What it says when it is away, refuses, or speaks nonsense.
ERRORS = (consul.ConsulException, requests.RequestException, ValueError, TypeError, KeyError, AttributeError)


def client(*, patience: float | None = None) -> consul.Consul:
    """A client of the configured agent; `patience` in seconds, CONSUL_HTTP_TIMEOUT if None."""
    address = urlsplit(settings.CONSUL_HTTP_ADDR)
    made = consul.Consul(
        host=address.hostname,
        port=address.port or 8500,
        scheme=address.scheme,
        token=settings.CONSUL_HTTP_TOKEN or None,
        connections_timeout=patience or settings.CONSUL_HTTP_TIMEOUT / 1000,
    )
    made.http.session.trust_env = False  # no proxy of the environment stands between an instance and its agent
    return made


def service_id() -> str:
    return f"{settings.CONSUL_SERVICE_NAME}-{settings.CONSUL_SERVICE_ADDRESS}-{settings.CONSUL_SERVICE_PORT}"


def register() -> bool:
    """Enters this instance into the catalog, with a check of its readiness, unless it stands there. False: not now."""
    address, port = settings.CONSUL_SERVICE_ADDRESS, settings.CONSUL_SERVICE_PORT
    host = f"[{address}]" if ":" in address else address
    check = consul.Check.http(
        f"http://{host}:{port}/readyz", CHECK_EVERY, timeout=CHECK_PATIENCE, deregister=FORGET_AFTER
    )
    try:
        agent = client().agent
        if service_id() in agent.services():
            return True
        return bool(
            agent.service.register(
                settings.CONSUL_SERVICE_NAME, service_id=service_id(), address=address, port=port, check=check
            )
        )
    except ERRORS as error:
        log.warning("not registered in Consul", extra={"reason": type(error).__name__})
        return False


def deregister() -> None:
    try:
        client().agent.service.deregister(service_id())
    except ERRORS as error:
        log.warning("not deregistered from Consul", extra={"reason": type(error).__name__})


def has_leader() -> bool:
    """Whether the agent answers and knows a leader.

    :raises Exception: one of ERRORS, if it does not answer
    """
    return bool(client(patience=1.0).status.leader())


def read_settings() -> None:
    """Takes over what stands under `crm2/settings/`; all stays as it is when Consul is away."""
    try:
        _index, rows = client().kv.get(PREFIX, recurse=True)
        given = {row["Key"].removeprefix(PREFIX): _text(row["Value"]) for row in rows or ()}
    except ERRORS as error:
        log.warning("settings not read from Consul", extra={"reason": type(error).__name__})
        return
    given.pop("", None)  # the folder itself
    live.apply(given)


def _text(value: bytes | None) -> str:
    """The value as text; one that is none, or too long to be any, becomes one that every setting refuses."""
    return (value or b"")[:LONGEST_VALUE].decode(errors="replace").replace("\ufffd", "\0")


def follow() -> None:
    """Reads the settings now and every 30 seconds in a thread of this process, and in each process it forks."""
    os.register_at_fork(after_in_child=_start)
    _start()


def _start() -> None:
    threading.Thread(target=_follow, name="consul", daemon=True).start()


def _follow() -> None:
    pause = threading.Event()
    while True:
        try:
            read_settings()
        except Exception:  # the thread must go on: the next reading may do better
            log.exception("settings not read from Consul")
        pause.wait(EVERY_SECONDS)
