"""`python -m bench`: sets Django up, holds the stores, runs."""

import os
import sys

import django

os.environ.setdefault("CRM_ENV", "development")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm2.settings.base")
os.environ.setdefault("LOG_LEVEL", "INFO")
django.setup()

from bench.run import main  # noqa: E402 - after setup
from crm2 import servers  # noqa: E402 - after setup

servers.hold()
sys.exit(main())
