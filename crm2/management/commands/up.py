"""`manage.py up`: a running system with demo data in one terminal. What `make up` does after installing."""

import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, call_command

from apps.crm.models import Deal
from crm2 import launcher

HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds for the web process to answer
DEMO_DEALS = 200
SIGN_IN = "anna.admin@example.com / Passw0rd!"


class Command(BaseCommand):
    help = "Migrates, loads reference and demo data, then runs web, worker, beat, relay (and consumer) until Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("`up` is for trying the system and for development; CRM_ENV is production.")
        port = self._port()
        call_command("migrate", verbosity=0)
        call_command("ensure_admin", verbosity=0)
        if not Deal.objects.exists():
            self.stdout.write("Loading demo data…")
            call_command("load_seeds", bulk=DEMO_DEALS, verbosity=0)
        python = [sys.executable, "-W", "ignore:StreamingHttpResponse",  # static files, read whole: they are small
                  "-W", "ignore:You're running the worker with superuser"]  # fmt: skip
        celery = [*python, "-m", "celery", "--quiet", "-A", "crm2.celery"]
        commands = {
            "web": [*python, "-m", "uvicorn", "crm2.asgi:application", "--host", HOST, "--port", str(port),
                    "--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "3"],
            "worker": [*celery, "worker", "--concurrency", "1", "--loglevel", "WARNING", "--without-gossip",
                       "--without-mingle"],
            "beat": [*celery, "beat", "--loglevel", "WARNING", "--pidfile="],
            "relay": [*python, "manage.py", "relay"],
        }  # fmt: skip
        if settings.RABBITMQ_URL:
            commands["consumer"] = [*python, "manage.py", "consume"]
        if settings.CONSUL_ENABLED:
            commands["consul"] = [*python, "manage.py", "consul"]
        environment = {"LOG_LEVEL": "WARNING", **os.environ}  # one terminal for all: only what needs a look
        os.chdir(settings.BASE_DIR)
        code = launcher.run(commands, env=environment, on_ready=lambda: self._greet_when_up(port))
        if code:
            raise SystemExit(code)

    def _port(self) -> int:
        text = os.environ.get("PORT") or "8080"
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
            raise CommandError("PORT must be a number from 1 to 65535.")
        port = int(text)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise CommandError(f"Port {port} of {HOST} is taken. Choose another: PORT=8090 make up") from None
        return port

    def _greet_when_up(self, port: int) -> None:
        threading.Thread(target=self._greet, args=(port,), daemon=True).start()

    def _greet(self, port: int) -> None:
        address = f"http://{HOST}:{port}"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{address}/healthz", timeout=2):  # noqa: S310 - our own address
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        else:
            return
        self.stdout.write(
            f"""
  CRM 2.0 is running.

  Admin        {address}/admin/
  API          {address}/api/docs/
  Sign in      {SIGN_IN}

  Next: open the admin and look at a deal; walk the main job with `make smoke`; stop with Ctrl-C.
"""
        )
        self.stdout.flush()
