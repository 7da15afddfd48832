"""Plain reads of clients, deals and what hangs from them: what the lists show, and the stage figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from django.db import connection
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Extract

from apps.auth.access import Caller
from apps.core.folding import digits, fold, number_key
from apps.core.models import Event
from apps.core.reads import Reading
from apps.crm.models import Calculation, Client, Deal, DealMember, Policy
from apps.crm.rules import STAGES

NO_MANAGER = "__NO_MANAGER__"
# A search picks its rows first and sorts them after: a limit that no table reaches keeps the planner from walking the
# page's index row by row in hope of a match.
ALL_ROWS = 2**31


def deals(caller: Caller, filters: Mapping[str, Any], today: date) -> QuerySet[Deal]:
    """Living deals that the caller sees, narrowed by the filters of the list and of the metrics.

    `stage`, `status`, `manager` (user ids and NO_MANAGER, any of them), `period` (days from `today`, past ones too),
    `search` (part of the title or description, in any case), `client_id`, `open`.
    """
    rows = Deal.objects.living().visible_to(caller)
    if stage := filters.get("stage"):
        rows = rows.filter(stage=stage)
    if status := filters.get("status"):
        rows = rows.filter(status=status)
    if managers := filters.get("manager"):
        rows = rows.filter(_of_managers(managers, caller))
    if days := filters.get("period"):
        rows = rows.filter(next_review_at__lte=today + timedelta(days=days))
    if client_id := filters.get("client_id"):
        rows = rows.filter(client_id=client_id)
    if filters.get("open"):
        rows = rows.open()
    return found_deals(rows, filters.get("search") or "")


@dataclass(frozen=True, slots=True)
class Sight:
    """As much of a caller as `visible_to` asks for: readings are built with a stand-in for the id."""

    pk: Any
    is_admin: bool
    sees_all_deals: bool

    @classmethod
    def of(cls, caller: Caller) -> "Sight":
        return cls(caller.pk, caller.is_admin, caller.sees_all_deals)

    @property
    def shape(self) -> tuple[bool, bool]:
        return (self.is_admin, self.sees_all_deals)

    @property
    def values(self) -> dict[str, Any]:
        """The id, where rows are narrowed by it."""
        return {} if self.is_admin or self.sees_all_deals else {"caller": self.pk}

    def as_caller(self, values: Mapping[str, Any]) -> Caller:
        return cast(Caller, Sight(values.get("caller"), self.is_admin, self.sees_all_deals))


def worklist(caller: Caller, filters: Mapping[str, Any], today: date) -> QuerySet[Deal] | Reading:
    """`deals` for the list: as a reading unless a filter is one whose SQL depends on what is asked."""
    managers = filters.get("manager") or []
    if filters.get("search") or filters.get("period") or len(managers) > 1 or NO_MANAGER in managers:
        return deals(caller, filters, today)
    sight, is_open = Sight.of(caller), bool(filters.get("open"))
    given = {name: filters[name] for name in ("stage", "status", "client_id") if filters.get(name)}
    values = sight.values | given | ({"manager": managers[0]} if managers else {})

    def build(values: Mapping[str, Any]) -> QuerySet[Deal]:
        one = {"manager": [values["manager"]]} if managers else {}
        return deals(sight.as_caller(values), {**values, **one, "open": is_open}, today)

    one_plan = "caller" not in sight.values
    return Reading(Deal, ("worklist", *sight.shape, *sorted(values), is_open), values, build, one_plan)


def deal(caller: Caller, deal_id: UUID, columns: Sequence[str]) -> Reading:
    """The living deal of that id if the caller sees it: one row of the columns, or none."""
    sight = Sight.of(caller)

    def build(values: Mapping[str, Any]) -> QuerySet[Any, Any]:
        seen = Deal.objects.living().visible_to(sight.as_caller(values))
        return seen.filter(pk=values["deal"]).values_list(*columns)

    return Reading(Deal, ("detail", *sight.shape, tuple(columns)), {**sight.values, "deal": deal_id}, build)


_CLIENT_COLUMNS = tuple(field.attname for field in Client._meta.concrete_fields)


def client(caller: Caller, client_id: UUID) -> Client | None:
    """The living client of that id if the caller sees him. One query, as a reading: every new deal asks it."""
    sight = Sight.of(caller)
    narrowed = {} if sight.is_admin else {"caller": sight.pk}

    def build(values: Mapping[str, Any]) -> QuerySet[Any, Any]:
        seen = Client.objects.living().visible_to(sight.as_caller(values))
        return seen.filter(pk=values["client"]).values_list(*_CLIENT_COLUMNS)

    rows = Reading(Client, ("one", *sight.shape), {**narrowed, "client": client_id}, build).rows()
    return Client.from_db(connection.alias, _CLIENT_COLUMNS, rows[0]) if rows else None


def found_deals(rows: QuerySet[Deal], text: str) -> QuerySet[Deal]:
    """The rows whose title or description has the text, in any case; all of them for an empty one."""
    if not (search := fold(text)):
        return rows
    return rows.filter(pk__in=Deal.objects.filter(search_text__contains=search).values("pk")[:ALL_ROWS])


def _of_managers(managers: Sequence[Any], caller: Caller) -> Q:
    """Deals of these owners; NO_MANAGER names unowned ones to those who see every deal, nothing to anyone else."""
    ids = [each for each in managers if each != NO_MANAGER]
    if len(ids) == len(managers) == 1:
        return Q(owner_id=ids[0])
    condition = Q(owner_id__in=ids)
    unowned = NO_MANAGER in managers and (caller.sees_all_deals or caller.is_admin)
    return condition | Q(owner_id=None) if unowned else condition


def clients(caller: Caller, filters: Mapping[str, Any]) -> QuerySet[Client]:
    """Living clients that the caller sees; `search` finds by name, phone digits and e-mail, `status`, `owner_id`."""
    rows = Client.objects.living().visible_to(caller)
    if status := filters.get("status"):
        rows = rows.filter(status=status)
    if owner_id := filters.get("owner_id"):
        rows = rows.filter(owner_id=owner_id)
    return found_clients(rows, filters.get("search") or "")


def found_clients(rows: QuerySet[Client], text: str) -> QuerySet[Client]:
    """The rows whose name, phone digits or e-mail have the text, in any case; all of them for an empty one."""
    if not (search := fold(text)):
        return rows
    condition = Q(search_text__contains=search)
    for number in _phone_parts(search):
        condition |= Q(search_text__contains=number)
    return rows.filter(pk__in=Client.objects.filter(condition).values("pk")[:ALL_ROWS])


def _phone_parts(text: str) -> Iterable[str]:
    """The digits of a text that looks like a part of a phone; a leading 8 is also tried as the country code 7."""
    number = digits(text)
    if len(number) < 3 or any(char.isalpha() for char in text):
        return []
    return [number, f"7{number[1:]}"] if number.startswith("8") else [number]


def calculations(deal_id: UUID, filters: Mapping[str, Any]) -> QuerySet[Calculation]:
    """Living calculations of a deal with `linked_policy_id`: `status` (any of), `insurance_company` (part of it, in any
    case), `calculation_date_from`, `calculation_date_to` (inclusive)."""
    rows = with_linked_policy(Calculation.objects.living().filter(deal_id=deal_id))
    if statuses := filters.get("status"):
        rows = rows.filter(status__in=statuses)
    if company := fold(filters.get("insurance_company") or ""):
        rows = rows.filter(insurance_company_key__contains=company)
    if start := filters.get("calculation_date_from"):
        rows = rows.filter(calculation_date__gte=start)
    if end := filters.get("calculation_date_to"):
        rows = rows.filter(calculation_date__lte=end)
    return rows


def with_linked_policy(rows: QuerySet[Calculation]) -> QuerySet[Calculation]:
    """Calculations with `linked_policy_id`, in the same query."""
    linked = Policy.objects.living().filter(calculation_id=OuterRef("pk")).values("pk")[:1]
    return rows.annotate(linked_policy_id=Subquery(linked))


def policies(caller: Caller, filters: Mapping[str, Any]) -> QuerySet[Policy]:
    """Living policies that the caller sees: `deal_id`, `client_id`, `status`, `search` (part of the number as typed or
    without its spaces)."""
    rows = Policy.objects.living().visible_to(caller)
    for name in ("deal_id", "client_id", "status"):
        if value := filters.get(name):
            rows = rows.filter(**{name: value})
    return found_policies(rows, filters.get("search") or "")


def found_policies(rows: QuerySet[Policy], text: str) -> QuerySet[Policy]:
    """The rows whose number has the text, however it is spaced and whichever alphabet its look-alikes are in."""
    if not text.strip():
        return rows
    search = number_key(text)
    return rows.filter(policy_number_key__contains=search) if search else rows.none()


def deal_history(deal_id: UUID) -> QuerySet[Event]:
    """What happened to the deal and everything in it."""
    return Event.objects.filter(deal_id=deal_id)


def client_history(client_id: UUID) -> QuerySet[Event]:
    """What happened to the client himself; his deals and policies have histories and rights of their own."""
    return Event.objects.filter(client_id=client_id, aggregate="client")


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over the deals of one stage."""

    deals: int = 0
    planned_total: Decimal = Decimal("0.00")
    cycles: int = 0
    cycle_days: Decimal = Decimal(0)

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.deals + other.deals,
            self.planned_total + other.planned_total,
            self.cycles + other.cycles,
            self.cycle_days + other.cycle_days,
        )


def stage_metrics(caller: Caller, filters: Mapping[str, Any], today: date) -> list[dict[str, Any]]:
    """Five rows in the order of the stages, over the deals that the list with these filters shows."""
    if any(filters.get(name) for name in ("period", "search", "client_id", "open", "status")):
        by_stage = _live(deals(caller, filters, today))
    else:
        by_stage = _kept(caller, filters)
    if wanted := filters.get("stage"):
        by_stage = {wanted: by_stage.get(wanted, Figures())}
    total = sum(each.deals for each in by_stage.values())
    return [_metric(stage, by_stage.get(stage, Figures()), total) for stage in STAGES]


def _metric(stage: str, figures: Figures, total: int) -> dict[str, Any]:
    return {
        "stage": stage,
        "count": figures.deals,
        "total_value": f"{figures.planned_total:.2f}",
        "conversion_rate": figures.deals / total if total else 0,
        "avg_cycle_duration_days": float(figures.cycle_days / figures.cycles) if figures.cycles else None,
    }


def _kept(caller: Caller, filters: Mapping[str, Any]) -> dict[str, Figures]:
    """From the kept figures: those who see all by owner; others their own, and live what they are members of."""
    managers = list(filters.get("manager") or [])
    if caller.sees_all_deals or caller.is_admin:
        return _sum_kept(managers)
    total: dict[str, Figures] = {}
    if not managers or caller.pk in managers:
        total = _sum_kept([caller.pk])
    elsewhere = DealMember.objects.filter(user_id=caller.pk).exclude(via="owner").values("deal_id")
    others = Deal.objects.living().filter(pk__in=elsewhere).exclude(owner_id=caller.pk)
    if managers:
        others = others.filter(_of_managers(managers, caller))
    for stage, figures in _live(others).items():
        total[stage] = total.get(stage, Figures()) + figures
    return total


_KEPT = """
    SELECT stage, sum(deals), sum(planned_total), sum(cycles), sum(cycle_days) FROM (
        SELECT owner_id, stage, deals, planned_total, cycles, cycle_days FROM crm_stagefigure
        UNION ALL
        SELECT owner_id, stage, deals, planned_total, cycles, cycle_days FROM crm_stagefiguredelta
    ) figures
    WHERE %(everyone)s OR owner_id = ANY(%(owners)s) OR (%(unowned)s AND owner_id IS NULL)
    GROUP BY stage
"""


def _sum_kept(managers: Sequence[Any]) -> dict[str, Figures]:
    owners = [each for each in managers if each != NO_MANAGER]
    parameters: Any = {"everyone": not managers, "owners": owners, "unowned": NO_MANAGER in managers}
    with connection.cursor() as cursor:
        cursor.execute(_KEPT, parameters)
        return {
            stage: Figures(int(deals), planned, int(cycles), days)
            for stage, deals, planned, cycles, days in cursor.fetchall()
        }


_DIFFERING = """
    SELECT count(*) FROM (
        SELECT owner_id, stage FROM (
            SELECT owner_id, stage, 1 AS deals, planned_total, (cycle >= 0)::int AS cycles,
                   greatest(cycle, 0) AS cycle_days
            FROM (SELECT *, crm_deal_cycle(d) AS cycle FROM crm_deal d WHERE deleted_at IS NULL) living
            UNION ALL
            SELECT owner_id, stage, -deals, -planned_total, -cycles, -cycle_days FROM crm_stagefigure
            UNION ALL
            SELECT owner_id, stage, -deals, -planned_total, -cycles, -cycle_days FROM crm_stagefiguredelta
        ) figures
        GROUP BY owner_id, stage
        HAVING sum(deals) <> 0 OR sum(planned_total) <> 0 OR sum(cycles) <> 0 OR sum(cycle_days) <> 0
    ) differing
"""


def differing_stage_figures() -> int:
    """How many pairs of owner and stage have kept figures that are not the sums of their living deals."""
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERING)
        return int(cursor.fetchone()[0])


def _live(rows: QuerySet[Deal]) -> dict[str, Figures]:
    """The same sums over the rows themselves."""
    seconds = Extract(F("updated_at") - F("created_at"), "epoch")
    forward = Q(updated_at__gte=F("created_at"))
    found = (
        rows.order_by()
        .values("stage")
        .annotate(
            n=Count("pk"),
            planned=Sum("planned_total"),
            cycles=Count("pk", filter=forward),
            cycle_seconds=Sum(seconds, filter=forward),
        )
    )
    return {
        row["stage"]: Figures(row["n"], row["planned"], row["cycles"], Decimal(row["cycle_seconds"] or 0) / 86400)
        for row in found
    }
