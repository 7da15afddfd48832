"""Demo data: the reference rows to the letter, twice is once, and an invented agency that no check finds fault with."""

import itertools
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Count, F, Max, Min, Q
from django.utils import timezone

from apps.auth.models import Role, User
from apps.auth.services import sessions
from apps.core.models import Event, SoftDeleted
from apps.crm import queries as crm_queries
from apps.crm import rules
from apps.crm.models import Calculation, Client, Deal, DealMember, Insurer, JournalEntry, Policy, StageFigureDelta
from apps.crm.services import catalogs, clients, deals, policies
from apps.payments import queries as payment_queries
from apps.payments.models import Expense, Income, Payment
from crm2.seeds import bulk, reference
from crm2.seeds.agency import Agency, repeatable
from crm2.seeds.shapes import Catalogs, made_id

pytestmark = pytest.mark.django_db

BULK = 300
FLEET, FLAT = UUID("d1b96491-1ef3-4ff5-8fdc-333333333333"), UUID("a2c7305a-3bb2-4a8e-9a02-444444444444")


def load(**options: Any) -> str:
    said = StringIO()
    call_command("load_seeds", stdout=said, **options)
    return said.getvalue()


def dump() -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the project."""
    return {
        model._meta.db_table: sorted(model._base_manager.values_list(), key=repr)
        for model in apps.get_models()
        if model.__module__.startswith("apps.")
    }


@pytest.fixture
def seeded() -> None:
    load()


@pytest.fixture
def agency() -> str:
    return load(bulk=BULK)


# --- Reference rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("email", "user_id", "roles"),
    [
        ("anna.admin", "b342f7f5", {"ROLE_ADMIN", "ROLE_USER"}),
        ("sergey.seller", "e94f8a3a", {"ROLE_SALES_AGENT", "ROLE_USER"}),
        ("elena.executor", "709cb79d", {"ROLE_EXECUTOR", "ROLE_USER"}),
        ("pavel.finance", "0c1cc9fb", {"ROLE_FINANCE_MANAGER", "ROLE_USER"}),
        ("olga.lead", "6fda31ff", {"ROLE_TEAM_LEAD", "ROLE_SALES_AGENT", "ROLE_USER"}),
    ],
)
def test_people_sign_in(seeded: None, email: str, user_id: str, roles: set[str]) -> None:
    user = User.objects.get(email=f"{email}@example.com")
    assert (str(user.pk), user.role_names) == (f"{user_id}-0000-4000-8000-000000000001", roles)
    pair = sessions.sign_in(
        email=user.email, password="Passw0rd!", address="127.0.0.1", user_agent="test", now=timezone.now()
    )
    assert pair.access_token


def test_roles_have_their_ids(seeded: None) -> None:
    ids = dict(Role.objects.values_list("name", "pk"))
    assert ids["ROLE_FINANCE_MANAGER"] == UUID("5" * 32)
    assert ids["ROLE_TEAM_LEAD"] == UUID("6" * 32)


def test_clients_and_deals(seeded: None) -> None:
    assert set(Client.objects.values_list("pk", "status", "owner__email")) == {
        (UUID("c1a7436c-0000-4000-8000-000000000001"), "active", "sergey.seller@example.com"),
        (UUID("f2b89c12-0000-4000-8000-000000000001"), "active", "sergey.seller@example.com"),
    }
    assert [
        (str(d.next_review_at), d.status, d.owner.email, d.planned_total)
        for d in Deal.objects.order_by("next_review_at")
    ] == [
        ("2024-07-22", "in_progress", "sergey.seller@example.com", Decimal("2970000.00")),
        ("2024-07-29", "proposal", "olga.lead@example.com", Decimal("0.00")),
    ]
    assert set(DealMember.objects.values_list("deal", "user__email", "role", "via")) == {
        (FLEET, "sergey.seller@example.com", "seller", "owner"),
        (FLEET, "elena.executor@example.com", "executor", "manual"),
        (FLAT, "olga.lead@example.com", "seller", "owner"),
        (FLAT, "elena.executor@example.com", "executor", "manual"),
    }
    assert set(JournalEntry.objects.values_list("deal", flat=True)) == {FLEET, FLAT}


def test_policies_and_payments(seeded: None) -> None:
    found = Policy.objects.order_by("policy_number").values_list("policy_number", "deal", "status", "premium")
    assert list(found) == [
        ("CR-2024-0001", FLEET, "active", Decimal("2500000.00")),
        ("CR-2024-0002", FLAT, "draft", Decimal("180000.00")),
    ]
    payments = Payment.objects.order_by("sequence")
    shown = payments.values_list(
        "policy__policy_number", "sequence", "status", "planned_amount", "net_total", "actual_date"
    )
    assert [(*row[:-1], str(row[-1])) for row in shown] == [
        ("CR-2024-0001", 1, "paid", Decimal("2500000.00"), Decimal("2500000.00"), "2024-07-04"),
        ("CR-2024-0001", 2, "paid", Decimal("350000.00"), Decimal("350000.00"), "2024-07-12"),
        ("CR-2024-0001", 3, "scheduled", Decimal("120000.00"), Decimal("-120000.00"), "2024-07-18"),
    ]
    assert set(Income.objects.values_list("category", "amount")) == {
        ("premium", Decimal("2500000.00")),
        ("commission", Decimal("350000.00")),
    }
    assert list(Expense.objects.values_list("category", "amount")) == [("partner_fee", Decimal("120000.00"))]


@pytest.mark.parametrize(("alias", "name"), [("ресо", "РЕСО-Гарантия"), ("  альфа ", "АльфаСтрахование")])
def test_catalogs_know_their_aliases(seeded: None, alias: str, name: str) -> None:
    entry = catalogs.meant(Insurer, alias)
    assert entry
    assert entry.name == name


@pytest.mark.parametrize(
    ("name", "count"),
    [("user.created", 5), ("client.created", 2), ("deal.created", 2), ("deal.member.added", 2), ("policy.created", 2),
     ("deal.journal.appended", 2), ("deal.payment.created", 3), ("deal.payment.income.created", 2),
     ("deal.payment.expense.created", 1)],
)  # fmt: skip
def test_histories_begin_with_the_creation(seeded: None, name: str, count: int) -> None:
    assert Event.objects.filter(name=name, via="command").count() == count


def test_events_are_those_of_the_services(seeded: None, agency: str) -> None:
    """What the services tell of a client, a deal and a policy, the seeds tell too, one by one and in bulk."""
    anna = User.objects.with_roles().get(email="anna.admin@example.com")
    client = clients.create_client(values={"name": "Зимина Вера", "email": "v@example.com", "phone": "1"}, actor=anna)
    deal = deals.create_deal(client_id=client.pk, title="Гараж", next_review_at=timezone.localdate(), actor=anna)
    policy = policies.create_policy(
        values={"client_id": client.pk, "deal_id": deal.pk, "policy_number": "Г-1"}, actor=anna
    )
    for made in (client, deal, policy):
        by_service = Event.objects.get(aggregate_id=made.pk)
        seeded_payloads = Event.objects.filter(name=by_service.name).values_list("payload", flat=True)
        assert {frozenset(payload) for payload in seeded_payloads} == {frozenset(by_service.payload)}


def test_loading_twice_changes_no_row(seeded: None) -> None:
    before = dump()
    assert "all there already" in load()
    assert dump() == before


def test_what_people_changed_stays(seeded: None) -> None:
    Deal.objects.filter(pk=FLEET).update(title="Автопарк 2027")
    Insurer.objects.filter(name="ВСК").update(name="ВСК-2", name_key="вск-2")
    before = dump()
    load()
    assert dump() == before


@pytest.mark.parametrize("options", [{}, {"bulk": 10}])
def test_production_refuses(settings: Any, options: dict[str, Any]) -> None:
    settings.CRM_ENV = "production"
    with pytest.raises(CommandError, match="CRM_ENV"):
        load(**options)
    assert not User.objects.exists()


def test_a_clash_loads_nothing(admin: User) -> None:
    client = Client.objects.create(name="X", owner=admin, **Client.twins(name="X", phone=None, email=None))
    Policy.objects.create(client=client, policy_number="cr 2024 0002", **Policy.twins(policy_number="cr 2024 0002"))
    with pytest.raises(CommandError, match="crm_policy_number_once_among_living"):
        load()
    assert not Deal.objects.exists()


# --- The invented agency ----------------------------------------------------------------------------------------------


def test_bulk_has_the_proportions(agency: str) -> None:
    users = User.objects.filter(email__startswith="agency1.")
    mine = Deal.objects.filter(owner__in=users)
    counts = {
        "users": users.count(),
        "clients": Client.objects.filter(owner__in=users).count(),
        "deals": mine.count(),
        "policies": Policy.objects.filter(owner__in=users).count(),
        "payments": Payment.objects.filter(created_by__in=users).count(),
        "incomes": Income.objects.filter(created_by__in=users).count(),
    }
    assert counts == {"users": 5, "clients": 60, "deals": BULK, "policies": 180, "payments": 360, "incomes": 720}
    assert "deals 300" in agency
    assert set(mine.values("owner").annotate(n=Count("pk")).values_list("n", flat=True)) == {BULK // 5}
    others = DealMember.objects.filter(user__in=users, via="manual")
    assert set(others.values("user").annotate(n=Count("pk")).values_list("n", flat=True)) == {BULK // 100}
    assert not others.filter(deal__owner=F("user")).exists()
    assert set(mine.values_list("stage", flat=True)) == set(rules.STAGES)


def test_bulk_keeps_what_the_triggers_keep(agency: str) -> None:
    assert payment_queries.differing_payments().count() == 0
    assert payment_queries.differing_deals().count() == 0
    assert crm_queries.differing_stage_figures() == 0
    assert set(Payment.objects.values_list("status", flat=True)) == {"scheduled", "partially_paid", "paid", "cancelled"}


def test_triggers_work_again_after_bulk(agency: str) -> None:
    deal = Deal.objects.filter(owner__email__startswith="agency1.").first()
    assert deal
    before = StageFigureDelta.objects.count()
    Deal.objects.filter(pk=deal.pk).update(planned_total=F("planned_total") + 1)
    assert StageFigureDelta.objects.count() == before + 1


def test_bulk_states_are_possible(agency: str) -> None:
    today = timezone.localdate()
    closed = Q(stage__in=rules.CLOSED_STAGES)
    assert not Deal.objects.filter(closed, closed_from="").exists()
    assert not Deal.objects.filter(~closed, ~Q(closed_from="")).exists()
    assert not Deal.objects.filter(status="lost", close_reason="").exists()
    assert not Deal.objects.filter(updated_at__lt=F("created_at")).exists()
    assert not Deal.objects.exclude(members__via="owner", members__role="seller", members__user=F("owner")).exists()
    for model in (Income, Expense):
        assert not model.objects.filter(posted_at__gt=today).exists()
    assert not Payment.objects.filter(actual_date__gt=today).exists()
    assert not Payment.objects.filter(status="paid", actual_date=None).exists()
    assert not Policy.objects.filter(status="closed", effective_to__gte=today).exists()
    invented = Policy.objects.exclude(policy_number__startswith="CR-")
    assert not invented.filter(status="active", effective_to__lt=today).exists()
    assert not invented.exclude(deal__client=F("client")).exists()
    ready = Calculation.objects.exclude(status="draft")
    assert not ready.filter(Q(files=[]) | Q(validity_period=None) | Q(premium_amount=None)).exists()
    assert Calculation.objects.filter(status="confirmed").exists()
    assert not Calculation.objects.filter(status="confirmed", policy=None).exists()


def test_bulk_rows_satisfy_their_models(agency: str) -> None:
    """What the database cannot check: the choices, the twins of what was typed, the ends of texts."""
    for model in (Client, Deal, Calculation, Policy, Payment, Income, Expense):
        assert issubclass(model, SoftDeleted)
        for row in model._default_manager.all()[:200]:
            row.clean_fields(exclude={field.name for field in row._meta.fields if field.value_from_object(row) is None})
    for client in Client.objects.all():
        twins = Client.twins(name=client.name, phone=client.phone, email=client.email)
        assert {name: getattr(client, name) for name in twins} == twins


def test_bulk_events_follow_the_versions(agency: str) -> None:
    """A history begins at version 1 and ends at the row's own, the later event not before the earlier."""
    for model, created in ((Deal, "deal.created"), (Policy, "policy.created")):
        rows = dict(model._default_manager.values_list("pk", "version"))
        told = Event.objects.filter(aggregate=model._meta.model_name)
        spans = {
            row["aggregate_id"]: (row["first"], row["last"])
            for row in told.values("aggregate_id").annotate(first=Min("version"), last=Max("version"))
        }
        assert spans == {pk: (1, version) for pk, version in rows.items()}
        assert told.filter(name=created).count() == len(rows)
    times = Event.objects.filter(via="command", aggregate="deal").order_by("aggregate_id", "version")
    for _pk, group in itertools.groupby(times.values_list("aggregate_id", "at"), key=lambda row: row[0]):
        moments = [at for _id, at in group]
        assert moments == sorted(moments)
    assert not Event.objects.filter(at__gt=timezone.now()).exists()


def test_bulk_is_nobody_real(agency: str) -> None:
    for model in (User, Client):
        emails = model._default_manager.exclude(email=None).values_list("email", flat=True)
        assert {email.rpartition("@")[2] for email in emails} == {"example.com"}
    with_phone = Client.objects.exclude(phone=None)
    assert with_phone.exists()
    assert not with_phone.exclude(phone_e164__startswith="+7000").exists()


def test_bulk_again_needs_to_be_asked_for(agency: str) -> None:
    before = dump()
    assert "there is an agency already" in load(bulk=BULK)
    assert dump() == before
    assert "agency 2" in load(bulk=10, another=True)
    assert User.objects.filter(email__startswith="agency2.").count() == 5
    assert crm_queries.differing_stage_figures() == 0


@pytest.mark.parametrize("deals", [1, 7, 123, 200])
def test_any_number_of_deals(deals: int) -> None:
    load(bulk=deals)
    assert Deal.objects.exclude(pk__in=[FLEET, FLAT]).count() == deals
    assert payment_queries.differing_payments().count() == 0
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@pytest.mark.parametrize("deals", [0, -5])
def test_a_number_of_deals_is_positive(deals: int) -> None:
    with pytest.raises(CommandError, match="--bulk"):
        load(bulk=deals)


def test_the_same_number_gives_the_same_agency() -> None:
    """Another day moves the dates and nothing else; another number is another agency."""
    now = timezone.now()

    def made(number: int, days: int) -> Counter[str]:
        rng = repeatable(1)
        agency = Agency(
            number=number,
            deals=60,
            users=[made_id(rng) for _ in range(5)],
            catalogs=Catalogs(
                insurers=[(name, made_id(rng)) for name in reference.INSURERS],
                types={name: made_id(rng) for name in reference.INSURANCE_TYPES},
                channels=[made_id(rng)],
            ),
            now=now + timedelta(days=days),
            today=timezone.localdate(now) + timedelta(days=days),
        )
        rows = [
            row
            for chunk in agency.chunks()
            for table in chunk.rows
            if table != "core_event"
            for row in chunk.rows[table]
        ]
        return Counter(str([value for value in row if isinstance(value, UUID)]) for row in rows)

    first = made(1, 0)
    assert made(1, 0) == first
    assert made(1, 1) == first
    assert made(2, 0) != first


def test_agencies_are_counted(agency: str) -> None:
    assert bulk.agencies() == 1
