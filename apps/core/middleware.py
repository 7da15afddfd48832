"""What wraps every request: whose address it is, its trace id and log line, the guard against an old schema."""

import logging
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any, cast

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseError
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.gzip import GZipMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext_lazy as _

from apps.core import context
from apps.core.api.problems import plain_response
from apps.core.errors import Unavailable

GetResponse = Callable[[HttpRequest], HttpResponse]
access_log = logging.getLogger("crm2.access")


class TrustedProxyMiddleware:
    """X-Forwarded-For and -Proto count only when they come from TRUSTED_PROXIES; from anyone else they are dropped."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.networks = [ip_network(each, strict=False) for each in settings.TRUSTED_PROXIES]

    def __call__(self, request: HttpRequest) -> HttpResponse:
        meta = request.META
        forwarded = meta.pop("HTTP_X_FORWARDED_FOR", "")
        if self.networks and self._trusted(meta.get("REMOTE_ADDR", "")):
            hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
            stranger = next((hop for hop in reversed(hops) if not self._trusted(hop)), None)
            if stranger and _is_address(stranger):
                meta["REMOTE_ADDR"] = stranger
        else:
            meta.pop("HTTP_X_FORWARDED_PROTO", None)
        meta.pop("HTTP_X_FORWARDED_HOST", None)
        return self.get_response(request)

    def _trusted(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self.networks)
        except ValueError:
            return False


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class TraceMiddleware:
    """Takes or makes the trace id, gives it back in X-Trace-Id, and writes one access line without query or body."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        trace_id = context.trace_id_from(request.META.get("HTTP_X_TRACE_ID"))
        context.enter(trace_id=trace_id, via="admin" if request.path.startswith("/admin/") else "http")
        started = time.perf_counter()
        try:
            response = self.get_response(request)
            response["X-Trace-Id"] = trace_id
            if access_log.isEnabledFor(logging.INFO) and not request.path.startswith(settings.STATIC_URL):
                match = request.resolver_match
                access_log.info(
                    "request",
                    extra={
                        "method": request.method,
                        "route": match.route if match else "-",
                        "status": response.status_code,
                        "ms": round((time.perf_counter() - started) * 1000, 1),
                    },
                )
            return response
        finally:
            context.leave()


class MigrationsPending(Unavailable):
    code = "migrations_pending"
    message = _("The database has unapplied migrations: run manage.py migrate.")
    retry_after = 5


class SchemaGuardMiddleware:
    """503 `migrations_pending` while the schema is older than the code; asked until it is not, then never again."""

    current = False  # of the process: the schema does not go back under it
    open = {"/healthz", "/readyz", "/api/v1/health"}  # they say themselves what is wrong

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.rstrip("/") not in self.open:
            try:
                self.refuse_old_schema()
            except Unavailable as refusal:
                return plain_response(refusal)
        return self.get_response(request)

    @classmethod
    def refuse_old_schema(cls) -> None:
        """:raises Unavailable: the schema is older than the code (MigrationsPending), or cannot be asked"""
        if cls.current:
            return
        try:
            pending = migrations_pending()
        except DatabaseError:
            raise Unavailable from None
        if pending:
            raise MigrationsPending
        cls.current = True


VARIES = ("Accept-Language", "origin", "Accept-Encoding")  # the last one for what may be compressed
WORTH_COMPRESSING = 200  # bytes, GZipMiddleware's


class BearerLaneMiddleware:
    """Leads an API request with an Authorization header straight to its view, past the middleware below.

    A token carries no session, cookie, form or message, and the API has no static files. What the others do for every
    answer is done here in one step, by their own methods where there is more to decide than a constant: the host is
    checked, the language chosen, and the answer says what it varies by, its length, who may read and frame it.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.view = _innermost(get_response)
        self.security, self.cors, self.gzip = (
            SecurityMiddleware(self.view), CorsMiddleware(self.view), GZipMiddleware(self.view)
        )  # fmt: skip
        self.constant: dict[bool, list[tuple[str, str]]] = {}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        meta = request.META
        secure = request.is_secure()
        if (
            "HTTP_AUTHORIZATION" not in meta
            or not request.path.startswith("/api/")
            or request.method == "OPTIONS"
            or (self.security.redirect and not secure)
        ):
            return self.get_response(request)
        try:
            SchemaGuardMiddleware.refuse_old_schema()
            request.get_host()
        except (Unavailable, SuspiciousOperation):
            return self.get_response(request)
        asked = "HTTP_ACCEPT_LANGUAGE" in meta or "HTTP_COOKIE" in meta
        language = translation.get_language_from_request(request) if asked else settings.LANGUAGE_CODE
        translation.activate(language)
        response = self.view(request)
        headers = response.headers
        headers.setdefault("Content-Language", language)
        for name, value in self.constant.get(secure) or self._learn(request, secure):
            headers.setdefault(name, value)
        short = False
        if not response.streaming:
            length = len(response.content)
            short = length < WORTH_COMPRESSING
            headers.setdefault("Content-Length", str(length))
        if "Vary" in headers:
            patch_vary_headers(response, VARIES[:2] if short else VARIES)
        else:
            headers["Vary"] = ", ".join(VARIES[:2] if short else VARIES)
        if "HTTP_ORIGIN" in meta:
            self.cors.add_response_headers(request, response)
        if "gzip" in meta.get("HTTP_ACCEPT_ENCODING", ""):
            self.gzip.process_response(request, response)
        return response

    def _learn(self, request: HttpRequest, secure: bool) -> list[tuple[str, str]]:
        """The headers that Django puts on each answer over a secure connection, or over another."""
        bare = HttpResponse()
        del bare.headers["Content-Type"]
        self.security.process_response(request, bare)
        XFrameOptionsMiddleware(self.view).process_response(request, bare)
        self.constant[secure] = list(bare.headers.items())
        return self.constant[secure]


def _innermost(handler: Any) -> GetResponse:
    """The handler at the end of Django's chain: the one that resolves the address and calls the view.

    Where the chain runs asynchronously its links cannot be followed, and this is the chain itself.
    """
    while following := getattr(getattr(handler, "__wrapped__", None), "get_response", None):
        handler = following
    return cast(GetResponse, handler)


def migrations_pending() -> bool:
    """Whether the code knows a migration that the database has not seen."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))
