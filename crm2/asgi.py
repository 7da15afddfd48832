"""One ASGI process for everything: what `make up` runs. Event streams join here."""

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

from crm2 import servers

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm2.settings.base")
servers.hold()
servers.bound_requests()
application = ProtocolTypeRouter({"http": get_asgi_application()})
