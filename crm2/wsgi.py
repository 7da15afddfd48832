"""The API and the admin for gunicorn threads."""

import os

from django.core.wsgi import get_wsgi_application

from crm2 import servers

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm2.settings.base")
servers.hold()
application = get_wsgi_application()
