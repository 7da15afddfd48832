"""`manage.py load_seeds`: reference rows, and with `--bulk N` an invented agency of N deals."""

import argparse
import time
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError
from django.db import IntegrityError

from apps.core import context
from crm2.seeds import bulk, reference


class Command(BaseCommand):
    help = "Loads demo data; loading twice changes nothing. Refused in production."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--bulk", type=int, metavar="N", help="also an invented agency with N deals")
        parser.add_argument(
            "--another", action="store_true", help="with --bulk: one more agency beside those there are"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.CRM_ENV == "production":
            raise CommandError("Demo data has published passwords: load_seeds is refused where CRM_ENV is production.")
        deals, self.verbosity = options["bulk"], options["verbosity"]
        if deals is not None and deals < 1:
            raise CommandError("--bulk takes a number of deals, at least 1.")
        context.enter(trace_id=context.new_trace_id(), via="command")
        try:
            self._say("Reference rows", reference.load)
            if deals is not None:
                self._load_bulk(deals, another=options["another"])
        except IntegrityError as error:
            raise CommandError(
                f"The database holds rows that the seeds clash with; nothing was loaded. {error}"
            ) from None
        finally:
            context.leave()

    def _load_bulk(self, deals: int, *, another: bool) -> None:
        agencies = bulk.agencies()
        if agencies and not another:
            self._write("Bulk data: there is an agency already, nothing was loaded; --another adds one more.")
            return
        self._say(f"Bulk data, agency {agencies + 1}", lambda: bulk.load(deals=deals, agency=agencies + 1))

    def _say(self, what: str, load: Any) -> None:
        started = time.perf_counter()
        written = load()
        counts = ", ".join(f"{name} {count:,}" for name, count in written.items())
        self._write(f"{what}: {counts or 'all there already'} ({time.perf_counter() - started:.1f} s)")

    def _write(self, line: str) -> None:
        if self.verbosity:
            self.stdout.write(line)
