"""One agency's short life in which every event happens, through the services. Read by tests/events_doc.py."""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.backends.postgresql.psycopg_any import DateRange

from apps.auth.models import User
from apps.auth.services import people, roles, service_tokens
from apps.crm.models import Client, Deal, Insurer, Policy
from apps.crm.services import calculations, catalogs, clients, deals, journal, members, policies
from apps.notifications import services as notifications
from apps.payments.services import operations, payments

PASSWORD = "Зимний-лес-2026"
TODAY, NEXT_MONTH = date(2026, 3, 10), date(2026, 4, 10)


def live() -> None:
    """Does everything once. Expects the tables and the base roles."""
    admin, seller, executor = _people()
    _catalogs(admin)
    client = _clients(seller)
    deal = _deals(client, seller, executor)
    policy = _calculations_and_policies(client, deal, seller, executor)
    _payments(deal, policy, seller)
    _notifications()
    spare = deals.create_deal(client_id=client.pk, title="Квартира", next_review_at=NEXT_MONTH, actor=seller)
    deals.delete_deal(deal_id=spare.pk, actor=seller)
    deals.restore_deal(deal_id=spare.pk, actor=seller)


def _fresh(user: User) -> User:
    return User.objects.with_roles().get(pk=user.pk)


def _people() -> tuple[User, User, User]:
    def make(name: str, role: str, actor: User | None) -> User:
        made = people.create_user(
            email=f"{name}@example.com", password=PASSWORD, full_name=name.title(), roles=[role], actor=actor
        )
        return _fresh(made)

    admin = make("anna", "ROLE_ADMIN", None)
    seller, executor = make("sergey", "ROLE_SALES_AGENT", admin), make("elena", "ROLE_EXECUTOR", admin)
    people.change_user(user=executor, full_name="Елена Смирнова", actor=admin)
    people.set_password(user=executor, password="Летний-лес-2026", actor=admin)
    role = roles.create_role(name="night_shift", description="Ночная смена", actor=admin)
    people.assign_role(user=executor, role=role.name, actor=admin)
    people.remove_role(user=executor, role=role.name, actor=admin)
    token, _text = service_tokens.create_service_token(name="1C", scopes=["payments.record"], actor=admin)
    service_tokens.revoke_service_token(token_id=token.pk, actor=admin)
    return admin, seller, _fresh(executor)


def _catalogs(admin: User) -> None:
    entry = catalogs.create_entry(Insurer, values={"name": "РЕСО-Гарантия", "aliases": ["РЕСО"]}, actor=admin)
    catalogs.change_entry(Insurer, entry_id=entry.pk, values={"code": "reso"}, actor=admin)


def _clients(seller: User) -> Client:
    client = clients.create_client(values={"name": "Ёлкина Анна", "phone": "8 912 000-00-01"}, actor=seller)
    clients.change_client(client_id=client.pk, values={"email": "elkina@example.com"}, actor=seller)
    clients.delete_client(client_id=client.pk, actor=seller)
    return clients.restore_client(client_id=client.pk, actor=seller)


def _deals(client: Client, seller: User, executor: User) -> Deal:
    deal = deals.create_deal(client_id=client.pk, title="Octavia 2021", next_review_at=NEXT_MONTH, actor=seller)
    deals.change_deal(deal_id=deal.pk, values={"title": "Škoda Octavia 2021"}, actor=seller)
    members.add_member(deal=deals.locked_deal(deal.pk, seller), user_id=executor.pk, role="observer", actor=seller)
    members.remove_member(deal=deals.locked_deal(deal.pk, seller), user_id=executor.pk, actor=seller)
    members.add_member(deal=deals.locked_deal(deal.pk, seller), user_id=executor.pk, role="executor", actor=seller)
    journal.append_entry(deal_id=deal.pk, body="Позвонить в четверг", actor=seller)
    deals.change_stage(deal_id=deal.pk, stage="closedLost", reason="Дорого", actor=seller)
    deals.reopen_deal(deal_id=deal.pk, reason="Передумала", actor=seller)
    return deal


def _calculations_and_policies(client: Client, deal: Deal, seller: User, executor: User) -> Policy:
    values: dict[str, Any] = {
        "insurance_company": "РЕСО",
        "program_name": "Каско",
        "premium_amount": Decimal("42000.00"),
        "calculation_date": TODAY,
        "validity_period": DateRange(TODAY, NEXT_MONTH, "[)"),
        "files": ["quote.pdf"],
    }
    calculation = calculations.create_calculation(deal_id=deal.pk, values=values, actor=executor)
    ids = {"deal_id": deal.pk, "calculation_id": calculation.pk}
    calculations.change_calculation(**ids, values={"coverage_sum": Decimal("2500000.00")}, actor=executor)
    calculations.change_status(**ids, status="ready", actor=executor)
    policy = policies.create_policy(
        values={
            "client_id": client.pk,
            "deal_id": deal.pk,
            "policy_number": "ХХХ 0123",
            "effective_from": TODAY,
            "effective_to": date(2027, 3, 9),
        },
        actor=seller,
    )
    policies.change_policy(policy_id=policy.pk, values={"premium": Decimal("42000.00")}, actor=seller)
    policies.change_policy(policy_id=policy.pk, values={"status": "active"}, actor=seller)
    calculations.change_status(**ids, status="confirmed", policy_id=policy.pk, actor=seller)
    calculations.change_status(**ids, status="archived", actor=seller)
    calculations.delete_calculation(**ids, actor=seller)
    policies.delete_policy(policy_id=policy.pk, actor=seller)
    return policies.restore_policy(policy_id=policy.pk, actor=seller)


def _payments(deal: Deal, policy: Policy, seller: User) -> None:
    ids = {"deal_id": deal.pk, "policy_id": policy.pk}
    plan = {"planned_amount": Decimal("24000.00"), "planned_date": TODAY}
    payment = payments.create_payment(**ids, values=plan, actor=seller)
    mine: dict[str, Any] = {**ids, "payment_id": payment.pk}
    money = {"amount": Decimal("24000.00"), "category": "premium", "posted_at": TODAY}
    income = operations.record_income(**mine, values=money, actor=seller)
    spent = {"amount": Decimal("1500.00"), "category": "partner_fee", "posted_at": TODAY}
    expense = operations.record_expense(**mine, values=spent, actor=seller)
    less = {"amount": Decimal("1400.00")}
    operations.correct_operation("expense", **mine, operation_id=expense.pk, values=less, actor=seller)
    operations.remove_operation("expense", **mine, operation_id=expense.pk, actor=seller)
    less = {"amount": Decimal("23000.00")}
    operations.correct_operation("income", **mine, operation_id=income.pk, values=less, actor=seller)
    operations.remove_operation("income", **mine, operation_id=income.pk, actor=seller)
    payments.delete_payment(**mine, actor=seller)


def _notifications() -> None:
    notifications.receive_notification(
        message_id=UUID("11111111-1111-4111-8111-111111111111"),
        source="billing",
        type="invoice.paid",
        time="2026-03-10T09:00:00Z",
        data={"invoice": "2026-17", "recipients": [{"userId": "22222222-2222-4222-8222-222222222222"}]},
    )
