"""The reference rows: five people, two clients, two deals with a policy each, three payments, the catalogs.

Every row has a fixed id and is written once: what is there already, changed by people or deleted, stays as it is.
Totals, statuses and figures are the triggers' own.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from django.db import transaction
from django.db.models import Model, Q

from apps.auth.models import Role, User, UserRole
from apps.core.folding import fold
from apps.crm import events as crm_events
from apps.crm.models import (
    Catalog,
    Client,
    Deal,
    DealMember,
    InsuranceType,
    Insurer,
    JournalEntry,
    Policy,
    SalesChannel,
)
from apps.crm.services import members
from apps.crm.services.told import tell_policy
from apps.payments import events as payment_events
from apps.payments.models import Expense, Income, Operation, Payment
from apps.payments.services.told import tell_operation, tell_payment
from crm2.seeds import PASSWORD, told

NAMESPACE = UUID("6f1c2a0e-5d0b-4c64-9a3e-2b1f7c9d4e80")  # of ids that the contract does not fix

ROLES = {
    "ROLE_USER": ("1", "Сотрудник"),
    "ROLE_ADMIN": ("2", "Главный администратор"),
    "ROLE_SALES_AGENT": ("3", "Продавец"),
    "ROLE_EXECUTOR": ("4", "Исполнитель"),
    "ROLE_FINANCE_MANAGER": ("5", "Финансовый менеджер"),
    "ROLE_TEAM_LEAD": ("6", "Руководитель группы"),
}

ANNA, SERGEY, ELENA, PAVEL, OLGA = "anna.admin", "sergey.seller", "elena.executor", "pavel.finance", "olga.lead"
USERS = {
    ANNA: ("b342f7f5", "Анна Админова", ("ROLE_ADMIN", "ROLE_USER")),
    SERGEY: ("e94f8a3a", "Сергей Продавцов", ("ROLE_SALES_AGENT", "ROLE_USER")),
    ELENA: ("709cb79d", "Елена Исполнителева", ("ROLE_EXECUTOR", "ROLE_USER")),
    PAVEL: ("0c1cc9fb", "Павел Финансов", ("ROLE_FINANCE_MANAGER", "ROLE_USER")),
    OLGA: ("6fda31ff", "Ольга Руководителева", ("ROLE_SALES_AGENT", "ROLE_TEAM_LEAD", "ROLE_USER")),
}

INSURERS = {
    "СОГАЗ": ["АО СОГАЗ"],
    "АльфаСтрахование": ["Альфа", "АльфаСтрахование АО"],
    "РЕСО-Гарантия": ["РЕСО", "СПАО РЕСО-Гарантия"],
    "Ингосстрах": ["СПАО Ингосстрах"],
    "Росгосстрах": ["РГС"],
    "ВСК": ["Страховой дом ВСК"],
    "Согласие": ["СК Согласие"],
    "Ренессанс страхование": ["Ренессанс"],
}
INSURANCE_TYPES = {
    "ОСАГО": ["Автогражданка"],
    "КАСКО": ["Автокаско"],
    "Имущество": ["Страхование имущества", "Квартира", "Дом"],
    "Ипотека": ["Ипотечное страхование"],
    "ДМС": ["Добровольное медицинское страхование"],
    "Несчастный случай": ["НС"],
    "Выезд за рубеж": ["ВЗР"],
}
SALES_CHANNELS = {
    "Офис": ["Визит в офис"],
    "Рекомендация": ["Сарафанное радио"],
    "Сайт": ["Заявка с сайта"],
    "Телефон": ["Звонок"],
    "Партнёр": ["Автосалон", "Агент-партнёр"],
}

CLIENTS = {
    "corporate": ("c1a7436c", "ООО «Пример-Логистика»", "office@example.com", "+7 000 000-00-01"),
    "private": ("f2b89c12", "Берёзкина Мария Петровна", "maria.berezkina@example.com", "8 (000) 000-00-02"),
}
DEALS = {
    "fleet": (
        "d1b96491-1ef3-4ff5-8fdc-333333333333", "corporate", SERGEY, "Страхование автопарка", "in_progress",
        "Двенадцать грузовых автомобилей, договор на год", date(2024, 7, 22),
    ),
    "flat": (
        "a2c7305a-3bb2-4a8e-9a02-444444444444", "private", OLGA, "Квартира, отделка и имущество", "proposal",
        "Предложения трёх страховщиков отправлены клиенту", date(2024, 7, 29),
    ),
}  # fmt: skip
JOURNAL = {
    "fleet": (SERGEY, "Клиент прислал список автомобилей и копии ПТС, расчёт поставлен исполнителю."),
    "flat": (OLGA, "Созвонились: клиент сравнивает предложения, решит до конца месяца."),
}
POLICIES = {
    "CR-2024-0001": ("fleet", "active", "2500000.00", date(2024, 7, 1), date(2025, 6, 30), "КАСКО"),
    "CR-2024-0002": ("flat", "draft", "180000.00", date(2024, 8, 1), date(2025, 7, 31), "Имущество"),
}
PAID_POLICY = "CR-2024-0001"
PAYMENTS: dict[int, dict[str, Any]] = {  # by number, all of PAID_POLICY
    1: {"planned_amount": "2500000.00", "planned_date": date(2024, 7, 5), "actual_date": date(2024, 7, 4)},
    2: {"planned_amount": "350000.00", "planned_date": date(2024, 7, 12), "actual_date": date(2024, 7, 12)},
    3: {"planned_amount": "120000.00", "planned_date": date(2024, 7, 18), "actual_date": date(2024, 7, 18)},
}
INCOMES = {1: ("2500000.00", "premium", date(2024, 7, 4)), 2: ("350000.00", "commission", date(2024, 7, 12))}
EXPENSES = {3: ("120000.00", "partner_fee", date(2024, 7, 18))}


class Loader:
    """One run: the rows by their short names, and how many of each kind it has written."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.clients: dict[str, Client] = {}
        self.deals: dict[str, Deal] = {}
        self.written: dict[str, int] = {}

    def once(self, model: type[Any], row_id: UUID, **fields: Any) -> tuple[Any, bool]:
        """The row of this id, and whether it had to be written."""
        found = model._base_manager.filter(pk=row_id).first()
        if found is not None:
            return found, False
        row = model(pk=row_id, **fields)
        if hasattr(row, "updated_at"):
            row.updated_at = row.created_at
        row.save(force_insert=True)
        name = str(model._meta.model_name)
        self.written[name] = self.written.get(name, 0) + 1
        return row, True

    def load_people(self) -> None:
        roles = {
            name: Role.objects.get_or_create(name=name, defaults={"id": repeated(digit), "description": description})[0]
            for name, (digit, description) in ROLES.items()
        }
        for name, (prefix, full_name, held) in USERS.items():
            email = f"{name}@example.com"
            user = User.objects.filter(email=email).first()
            if user is None:
                fresh = User(email=email)
                fresh.set_password(PASSWORD)  # past the validator: clients and examples know this password
                user, _ = self.once(User, whole(prefix), email=email, full_name=full_name, password=fresh.password)
                UserRole.objects.bulk_create([UserRole(user=user, role=roles[each]) for each in held])
                told.user_created(user, held)
            self.users[name] = user

    def load_catalogs(self) -> None:
        for model, listed in ((Insurer, INSURERS), (InsuranceType, INSURANCE_TYPES), (SalesChannel, SALES_CHANNELS)):
            known: type[Catalog] = model
            for name, aliases in listed.items():
                if entries(known, [name]):
                    continue
                keys = {"name_key": fold(name), "alias_keys": sorted({fold(each) for each in aliases})}
                entry, _ = self.once(known, natural(known, name), name=name, aliases=aliases, **keys)
                told.catalog_created(entry, self.users[ANNA])

    def load_deals(self) -> None:
        sergey = self.users[SERGEY]
        for key, (prefix, name, email, phone) in CLIENTS.items():
            typed = {"name": name, "email": email, "phone": phone}
            client, made = self.once(Client, whole(prefix), **typed, **Client.twins(**typed), owner=sergey)
            self.clients[key] = client
            if made:
                told.client_created(client, sergey)
        for key, (row_id, client_key, owner, title, status, description, review) in DEALS.items():
            typed = {"title": title, "description": description}
            deal, made = self.once(
                Deal, UUID(row_id), client=self.clients[client_key], owner=self.users[owner], status=status,
                next_review_at=review, **typed, **Deal.twins(**typed),
            )  # fmt: skip
            self.deals[key] = deal
            if made:
                deal.refresh_from_db(fields=["stage"])
                DealMember.objects.create(deal=deal, user=self.users[owner], role="seller", via="owner")
                told.deal_created(deal, self.users[owner])
                members.add_member(deal=deal, user_id=self.users[ELENA].pk, role="executor", actor=self.users[ANNA])
        for key, (author, body) in JOURNAL.items():
            deal = self.deals[key]
            entry, made = self.once(
                JournalEntry, natural(JournalEntry, deal.pk), deal=deal, author=self.users[author], body=body
            )
            if made:
                told.journal_appended(entry, deal, self.users[author])

    def load_policies(self) -> None:
        elena = self.users[ELENA]
        for number, (deal_key, status, premium, start, end, kind) in POLICIES.items():
            deal = self.deals[deal_key]
            policy, made = self.once(
                Policy, natural(Policy, number), deal=deal, client_id=deal.client_id, owner=elena, status=status,
                policy_number=number, premium=Decimal(premium), effective_from=start, effective_to=end,
                insurance_type_id=entries(InsuranceType, [kind])[kind],
                **Policy.twins(policy_number=number),
            )  # fmt: skip
            if made:
                tell_policy(crm_events.POLICY_CREATED, policy, elena, told.given(policy, told.POLICY_FIELDS))

    def load_payments(self) -> None:
        pavel = self.users[PAVEL]
        policy = Policy.objects.get(pk=natural(Policy, PAID_POLICY))
        for number, values in PAYMENTS.items():
            payment, made = self.once(
                Payment, natural(Payment, f"{PAID_POLICY}/{number}"), policy=policy, deal_id=policy.deal_id,
                sequence=number, currency="RUB", created_by=pavel, updated_by=pavel, recorded_by=pavel,
                **{**values, "planned_amount": Decimal(values["planned_amount"])},
            )  # fmt: skip
            if not made:
                continue
            told_after = [
                *self._operation(Income, payment, INCOMES.get(number), pavel),
                *self._operation(Expense, payment, EXPENSES.get(number), pavel),
            ]
            payment.refresh_from_db()
            tell_payment(payment_events.PAYMENT_CREATED, payment, pavel, told.given(payment, told.PAYMENT_FIELDS))
            for kind, operation in told_after:
                tell_operation("created", kind, operation, payment, pavel, told.given(operation, told.OPERATION_FIELDS))

    def _operation(
        self, model: type[Operation], payment: Payment, row: tuple[str, str, date] | None, author: User
    ) -> list[tuple[Any, Operation]]:
        if row is None:
            return []
        amount, category, posted_at = row
        operation, _ = self.once(
            model, natural(model, payment.pk), payment=payment, amount=Decimal(amount), currency=payment.currency,
            category=category, posted_at=posted_at, created_by=author, updated_by=author,
        )  # fmt: skip
        return [(model._meta.model_name, operation)]


@transaction.atomic
def load() -> Mapping[str, int]:
    """Writes the reference rows that are not there; how many of each kind it wrote, empty when nothing was missing."""
    loader = Loader()
    loader.load_people()
    loader.load_catalogs()
    loader.load_deals()
    loader.load_policies()
    loader.load_payments()
    return loader.written


def entries(model: type[Catalog], names: Iterable[str]) -> dict[str, UUID]:
    """Ids of the seeded entries of a catalog by their seeded names, whatever they are called by now."""
    wanted = {natural(model, name): name for name in names}
    keys = {fold(name): name for name in wanted.values()}
    found = model._default_manager.filter(Q(pk__in=wanted) | Q(name_key__in=keys)).order_by("pk")
    ids = {wanted.get(pk) or keys[key]: pk for pk, key in found.values_list("pk", "name_key")}
    return {name: ids[name] for name in wanted.values() if name in ids}


def whole(prefix: str) -> UUID:
    """An id of which the contract gives the first eight digits."""
    return UUID(f"{prefix}-0000-4000-8000-000000000001")


def repeated(digit: str) -> UUID:
    return UUID(digit * 32)


def natural(model: type[Model], key: object) -> UUID:
    """The id of a row that is known by its natural key."""
    return uuid5(NAMESPACE, f"{model._meta.model_name}/{key}")
