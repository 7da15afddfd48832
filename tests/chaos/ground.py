"""What every row stands on: a private database that is migrated, used and dropped, and processes of our own."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import django
import psycopg

ROOT = Path(__file__).resolve().parents[2]


class Ground:
    """A private database and a folder for logs and ledgers; `start` runs a module's process on them."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        self.database_url = database_url
        self.folder = folder
        self.children: list[subprocess.Popen[bytes]] = []
        self._env = os.environ | {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "CRM_ENV": "development",
            "DJANGO_SETTINGS_MODULE": "crm2.settings.base",
            "LOG_LEVEL": "INFO",
            "RABBITMQ_URL": "",
        }

    def give(self, **variables: str) -> None:
        """Further environment of the processes started from now on."""
        self._env |= variables

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database_url, autocommit=True)

    def start(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        """A Python process with these arguments; what it says goes to the log in the folder."""
        with (self.folder / log).open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=self._env, stdout=output, stderr=subprocess.STDOUT
            )
        self.children.append(child)
        return child

    def run(self, *arguments: str, timeout: float = 120) -> str:
        """What a Python process with these arguments prints.

        :raises RuntimeError: if it fails
        """
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self._env, capture_output=True, text=True, timeout=timeout
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def end(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
            child.wait()


@contextmanager
def private_ground() -> Iterator[Ground]:
    """Creates and migrates `crm2_chaos_<pid>` on the server of DATABASE_URL, or on the embedded one; drops it after."""
    os.environ.setdefault("CRM_ENV", "development")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm2.settings.base")
    django.setup()
    from django.conf import settings  # noqa: PLC0415 - after setup

    from crm2 import servers  # noqa: PLC0415 - after setup

    servers.hold()
    name = f"crm2_chaos_{os.getpid()}"
    parts = urlsplit(settings.DATABASE_URL)
    server = urlunsplit(parts._replace(path="/postgres"))
    with tempfile.TemporaryDirectory(prefix=f"{name}_") as folder:
        ground = Ground(urlunsplit(parts._replace(path=f"/{name}")), settings.REDIS_URL, Path(folder))
        _sql(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}")
        try:
            ground.run("manage.py", "migrate", "--verbosity=0")
            yield ground
        finally:
            ground.end()
            _sql(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _sql(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
