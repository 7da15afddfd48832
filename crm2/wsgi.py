"""The API and the admin for gunicorn threads.

Liveness is answered before Django: a probe comes by address, often, and must not depend on anything. Django's handler
begins a request by a look at the thread's connection, which a database that hangs would make long; hence here and not
only in ProbeMiddleware.
"""

import os
from collections.abc import Iterable
from typing import Any

from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import reset_queries

from crm2 import servers
from crm2.postgresql.base import DatabaseWrapper

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm2.settings.base")
servers.hold()
servers.bound_requests()
DatabaseWrapper.connections_rest = True
# Asked at every request, with nothing to do: statements are kept only for debugging, and no cache of ours holds
# anything from request to request.
request_started.disconnect(reset_queries)
request_finished.disconnect(close_caches)
django = get_wsgi_application()
ALIVE = b'{"status":"ok"}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(ALIVE)))]


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] in ("/healthz", "/healthz/"):
        start_response("200 OK", HEADERS)
        return [ALIVE]
    return django(environ, start_response)
