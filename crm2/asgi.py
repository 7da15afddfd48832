"""One ASGI process for everything (what `make up` runs), or for the event streams alone beside gunicorn."""

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

from crm2 import servers

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm2.settings.base")
servers.hold()
servers.bound_requests()
django = get_asgi_application()

from apps.notifications.streams.app import Streams  # noqa: E402 - models need Django set up

application = ProtocolTypeRouter({"http": Streams(django)})
