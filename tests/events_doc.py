"""The samples of docs/events.md: a small agency lives through every event, and the page shows what was really emitted.

`python -m tests.events_doc` rewrites the generated part of the page; tests/test_docs_events.py says when it is old. The
scenario runs in a test database that is made for it and dropped.
"""

import importlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
import time_machine

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm2.settings.test")
django.setup()  # `python -m tests.events_doc` comes without it

from django.apps import apps  # noqa: E402
from django.db import transaction  # noqa: E402
from django.db.models.signals import post_save  # noqa: E402
from django.test.utils import setup_databases, teardown_databases  # noqa: E402

from apps.core import bus, context  # noqa: E402
from apps.core.consumer import DEAD_EXCHANGE  # noqa: E402
from apps.core.models import Event  # noqa: E402
from apps.crm import events as crm_events  # noqa: E402
from apps.crm import rules  # noqa: E402
from apps.notifications import consumers  # noqa: E402
from crm2 import servers  # noqa: E402
from tests import events_scenario  # noqa: E402

PAGE = Path(__file__).resolve().parents[1] / "docs" / "events.md"
BEGIN, END = "<!-- generated: python -m tests.events_doc -->", "<!-- end of the generated part -->"
BUS_BEGIN, BUS_END = "<!-- generated too: the bus -->", "<!-- end of the bus -->"
SHOWN_ON_BUS = "deal.stage.changed"
NOON = "2026-03-10T12:00:00+03:00"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# name: (the aggregate that carries the version, when it is emitted)
ABOUT: dict[str, tuple[str, str]] = {
    "user.created": ("user", "A person was added, by an administrator, by `ensure_admin` or by registration."),
    "user.updated": ("user", "The name was changed, or the account enabled or disabled."),
    "user.password.changed": ("user", "A new password was set, by its holder or by an administrator."),
    "user.role.added": ("user", "A role was given."),
    "user.role.removed": ("user", "A role was taken."),
    "role.created": ("role", "A role was made."),
    "service_token.created": ("service_token", "A service token was made. The token itself is nowhere in the event."),
    "service_token.revoked": ("service_token", "A service token was revoked."),
    "catalog.created": (
        "insurer, insurancetype or saleschannel",
        "A catalog entry was made. `catalog` names the catalog.",
    ),
    "catalog.updated": ("insurer, insurancetype or saleschannel", "A catalog entry was changed."),
    "client.created": ("client", "A client was made. Client events carry field names, never values."),
    "client.updated": ("client", "A client was changed."),
    "client.deleted": ("client", "A client was deleted."),
    "client.restored": ("client", "A deleted client came back."),
    "deal.created": ("deal", "A deal was opened. `sales_agent_id` equals `owner_id`."),
    "deal.updated": (
        "deal",
        "Fields of the deal were changed. A change of stage alone does not emit it; `changed` names the fields.",
    ),
    "deal.stage.changed": ("deal", "The deal went to another stage: forward, back, closed or reopened."),
    "deal.deleted": ("deal", "The deal was deleted with its open children. `deletion_id` names the batch."),
    "deal.restored": ("deal", "The batch of a deleted deal came back."),
    "deal.member.added": ("deal", "Someone was let into the deal, or got another role in it."),
    "deal.member.removed": ("deal", "Someone's part in the deal ended, or his role in it was replaced."),
    "deal.journal.appended": ("journal", "An entry was added to the journal. Its version is always 1."),
    "deal.calculation.created": ("calculation", "A calculation was added, as a draft."),
    "deal.calculation.updated": ("calculation", "Fields of a calculation were changed, or its policy moved away."),
    "deal.calculation.deleted": ("calculation", "A calculation was deleted, alone or with its deal."),
    "deal.calculation.status.ready": ("calculation", "A calculation became ready."),
    "deal.calculation.status.confirmed": ("calculation", "A calculation was confirmed; `policy_id` if one was bound."),
    "deal.calculation.status.archived": ("calculation", "A calculation was archived; its policy was unbound."),
    "policy.created": ("policy", "A policy was entered."),
    "policy.updated": ("policy", "Fields of a policy were changed, it was moved, or bound to a calculation."),
    "policy.status.changed": ("policy", "A policy went to another status."),
    "policy.deleted": ("policy", "A policy was deleted, alone or with its deal."),
    "policy.restored": ("policy", "A deleted policy came back, alone or with its deal."),
    "deal.payment.created": ("payment", "An instalment was planned."),
    "deal.payment.updated": (
        "payment",
        "The plan, the totals or the status changed; every income and expense emits it too, after its own event.",
    ),
    "deal.payment.deleted": ("payment", "A payment was deleted on its own."),
    "deal.payment.income.created": ("income", "Money came in."),
    "deal.payment.income.updated": ("income", "An income was corrected; `previous` is what it was."),
    "deal.payment.income.deleted": ("income", "An income was removed."),
    "deal.payment.expense.created": ("expense", "Money was spent."),
    "deal.payment.expense.updated": ("expense", "An expense was corrected; `previous` is what it was."),
    "deal.payment.expense.deleted": ("expense", "An expense was removed."),
    "notification.received": ("notification", "Another system told something over the bus. Its version is always 1."),
}


def declared() -> set[str]:
    """Every event name that the apps' `events` modules declare."""
    names: set[str] = set()
    for config in apps.get_app_configs():
        path = Path(config.path) / "events.py"
        if config.name.startswith("apps.") and config.name != "apps.core" and path.is_file():
            module = importlib.import_module(f"{config.name}.events")
            names |= {value for key, value in vars(module).items() if key.isupper()}
    names.remove(crm_events.CALCULATION_STATUS)  # a beginning, not a name
    moves = {status for targets in rules.CALCULATION_MOVES.values() for status in targets}
    return names | {f"{crm_events.CALCULATION_STATUS}.{status}" for status in moves}


def collect() -> dict[str, Event]:
    """{name: the emitted Event whose payload says most}, from a run of the scenario in the current transaction."""
    found: dict[str, Event] = {}

    def keep(instance: Event, created: bool, **_: Any) -> None:
        kept = found.get(instance.name)
        if created and (kept is None or len(instance.payload) > len(kept.payload)):
            found[instance.name] = instance

    post_save.connect(keep, sender=Event, weak=False)
    context.enter(trace_id="0af7651916cd43dd", via="http")
    try:
        with time_machine.travel(NOON, tick=False):
            events_scenario.live()
    finally:
        context.leave()
        post_save.disconnect(keep, sender=Event)
    return found


class Ids:
    """Random ids become steady ones, named by the key where each was met first."""

    def __init__(self) -> None:
        self._steady: dict[str, str] = {}
        self._met: dict[str, int] = {}

    def of(self, value: Any, key: str = "") -> Any:
        if isinstance(value, Mapping):
            return {name: self.of(item, key if name == "id" else name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.of(item, key) for item in value]
        if isinstance(value, str) and _UUID.fullmatch(value):
            if value not in self._steady:
                self._met[key] = self._met.get(key, 0) + 1
                self._steady[value] = f"{zlib.crc32(key.encode()):08x}-0000-4000-8000-{self._met[key]:012x}"
            return self._steady[value]
        return value


def render(events: Mapping[str, Any]) -> str:
    """The generated part of the page: a table of all events, then a sample of each."""
    lines = ["| event | aggregate | on the bus | when |", "| --- | --- | --- | --- |"]
    lines += [
        f"| [`{name}`](#{_anchor(name)}) | {kind} | {_leaves(name)} | {when} |" for name, (kind, when) in ABOUT.items()
    ]
    ids = Ids()
    for name in ABOUT:
        sample = json.dumps(ids.of(events[name].payload), ensure_ascii=False, indent=2)
        lines += ["", f"### {name}", "", "```json", sample, "```"]
    return "\n".join(lines)


def _leaves(name: str) -> str:
    return "yes" if name.partition(".")[0] in bus.routes() else "no"


def render_bus(events: Mapping[str, Any]) -> str:
    """What goes over the bus, by the code: exchanges, queues, one message as it is sent."""
    lines = ["| events | exchange | `source` | `type` |", "| --- | --- | --- | --- |"]
    for word, route in bus.routes().items():
        lines.append(f"| `{word}.*` | `{route.exchange}` | `{route.source}` | `{route.prefix}<name>` |")
    queue = consumers.QUEUE
    others = sorted(set(bus.exchanges()) - {queue.exchange})
    lines += [
        "",
        "| queue | bound to | by | read by |",
        "| --- | --- | --- | --- |",
        *[f"| `{bus.FEED}` | `{exchange}` | `#` | whoever looks |" for exchange in [*others, queue.exchange]],
        f"| `{queue.name}` | `{queue.exchange}` | `{queue.key}` | `manage.py consume` |",
        f"| `{queue.dead}` | `{DEAD_EXCHANGE}` | `{queue.name}` | a person |",
    ]
    ids = Ids()
    event = events[SHOWN_ON_BUS]
    body = ids.of(bus.envelope(event))
    message = bus.message(event).properties
    headers = ids.of(message["application_headers"])
    shown = {name: value for name, value in message.items() if name != "application_headers"}
    for title, value in (("Body", body), ("Properties", ids.of(shown)), ("Headers", headers)):
        text = json.dumps(value, ensure_ascii=False, indent=2)
        lines += ["", f"{title} of a `{SHOWN_ON_BUS}`:", "", "```json", text, "```"]
    return "\n".join(lines)


def _anchor(name: str) -> str:
    return name.replace(".", "")


def samples(page: str) -> dict[str, Any]:
    """{name: payload} as the page shows them."""
    return {
        name: json.loads(text) for name, text in re.findall(r"^### (\S+)\n\n```json\n(.*?)\n```", page, re.M | re.S)
    }


def generated(page: str, begin: str = BEGIN, end: str = END) -> str:
    return page.split(begin)[1].split(end)[0].strip()


def keys(payload: Any) -> Any:
    """The shape of a payload: its keys, all the way down; a list by its first element."""
    if isinstance(payload, Mapping):
        return {name: keys(value) for name, value in payload.items()}
    return [keys(each) for each in payload[:1]] if isinstance(payload, list) else None


@contextmanager
def _test_database() -> Iterator[None]:
    servers.hold(fsync=False)
    made = setup_databases(verbosity=0, interactive=False)
    try:
        yield
    finally:
        teardown_databases(made, verbosity=0)


def main() -> None:
    with _test_database(), transaction.atomic():
        events = collect()
    page = PAGE.read_text(encoding="utf-8")
    for begin, end, text in ((BEGIN, END, render(events)), (BUS_BEGIN, BUS_END, render_bus(events))):
        before, rest = page.split(begin)
        after = rest.split(end)[1]
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE.name}: {len(ABOUT)} events")


if __name__ == "__main__":
    main()
