#!/usr/bin/env python
"""Django's command line; starts the embedded servers first where no URL is given."""

import os
import sys

from django.core.management import execute_from_command_line

from crm2 import servers

# They neither read nor write the stores.
OFFLINE = {"makemessages", "compilemessages", "collectstatic", "help", "spectacular", "consul"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm2.settings.base")
    if len(sys.argv) > 1 and sys.argv[1] not in OFFLINE:
        servers.hold()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
