"""What crm tells: the payloads of docs/events.md, word for word, and the changes that histories show."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import transaction

from apps.auth.models import User
from apps.core import context
from apps.core.models import Event
from apps.crm.models import Calculation, Client, Deal, Policy
from apps.crm.services import calculations, clients, deals, journal, members, policies

pytestmark = pytest.mark.django_db

NOW = "2026-03-10T09:00:00+00:00"


@pytest.fixture(autouse=True)
def _noon() -> Any:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def told(db: None) -> Callable[[str], Event]:
    """The last event of a name."""

    def last(name: str) -> Event:
        return Event.objects.filter(name=name).order_by("-version").first() or pytest.fail(f"{name} was not told")

    return last


def deal_data(deal: Deal, **more: Any) -> dict[str, Any]:
    return {
        "deal_id": str(deal.pk), "client_id": str(deal.client_id), "owner_id": str(deal.owner_id),
        "sales_agent_id": str(deal.owner_id), "title": "Октавия 2021", "status": "draft", "stage": "qualification",
        "next_review_at": "2026-04-01", "created_at": NOW, **more,
    }  # fmt: skip


def test_deal_created(deal: Deal, seller: User, told: Any) -> None:
    event = told("deal.created")
    assert event.payload == deal_data(deal)
    assert (event.aggregate, event.aggregate_id, event.version) == ("deal", deal.pk, 1)
    assert (event.deal_id, event.client_id, event.actor_id) == (deal.pk, deal.client_id, seller.pk)
    assert event.changes["title"] == [None, "Октавия 2021"]
    assert "description" not in event.changes


def test_deal_updated(deal: Deal, seller: User, told: Any) -> None:
    values = {"title": "Октавия 2022", "description": "Серая", "next_review_at": date(2026, 5, 1)}
    deals.change_deal(deal_id=deal.pk, values=values, actor=seller)
    event = told("deal.updated")
    assert event.payload == deal_data(
        deal, title="Октавия 2022", next_review_at="2026-05-01", updated_at=NOW,
        changed=["description", "next_review_at", "title"],
    )  # fmt: skip
    assert event.changes == {
        "title": ["Октавия 2021", "Октавия 2022"],
        "description": [None, "Серая"],
        "next_review_at": ["2026-04-01", "2026-05-01"],
    }


def test_deal_stage_changed(deal: Deal, seller: User, told: Any) -> None:
    deals.change_stage(deal_id=deal.pk, stage="proposal", actor=seller)
    base = {"deal_id": str(deal.pk), "changed_at": NOW}
    moved = {**base, "old_stage": "qualification", "new_stage": "proposal", "status": "proposal"}
    assert told("deal.stage.changed").payload == moved
    deals.change_stage(deal_id=deal.pk, stage="closedLost", reason="Дорого", actor=seller)
    lost = told("deal.stage.changed")
    assert lost.payload == {
        **base, "old_stage": "proposal", "new_stage": "closedLost", "status": "lost", "reason": "Дорого",
    }  # fmt: skip
    assert lost.changes == {
        "status": ["proposal", "lost"], "stage": ["proposal", "closedLost"], "close_reason": ["", "Дорого"],
    }  # fmt: skip
    deals.reopen_deal(deal_id=deal.pk, reason="Передумал", actor=seller)
    reopened = told("deal.stage.changed")
    assert reopened.payload == {
        **base, "old_stage": "closedLost", "new_stage": "proposal", "status": "proposal", "reason": "Передумал",
    }  # fmt: skip
    assert reopened.changes["reason"] == [None, "Передумал"]
    assert not Event.objects.filter(name="deal.updated").exists()


def test_deal_deleted_and_restored_with_their_batch(
    deal: Deal, policy: Policy, calculation: Calculation, seller: User, told: Any
) -> None:
    deals.delete_deal(deal_id=deal.pk, actor=seller)
    deletion_id = str(Deal.objects.get(pk=deal.pk).deletion_id)
    assert told("deal.deleted").payload == {"deal_id": str(deal.pk), "deletion_id": deletion_id, "at": NOW}
    assert told("deal.deleted").changes == {"is_deleted": [False, True]}
    assert told("policy.deleted").aggregate_id == policy.pk
    assert told("deal.calculation.deleted").aggregate_id == calculation.pk
    deals.restore_deal(deal_id=deal.pk, actor=seller)
    assert told("deal.restored").payload == {"deal_id": str(deal.pk), "deletion_id": deletion_id, "at": NOW}
    assert told("policy.restored").changes == {"is_deleted": [True, False]}


def test_deal_members(deal: Deal, executor: User, seller: User, told: Any) -> None:
    payload = {"deal_id": str(deal.pk), "user_id": str(executor.pk), "role": "executor"}
    added = told("deal.member.added")
    assert (added.payload, added.changes) == (payload, {f"member.{executor.pk}": [None, "executor"]})
    assert (added.aggregate, added.version) == ("deal", 2)
    members.remove_member(deal=deal, user_id=executor.pk, actor=seller)
    assert told("deal.member.removed").payload == payload


def test_journal_appended(deal: Deal, seller: User, told: Any) -> None:
    entry = journal.append_entry(deal_id=deal.pk, body="Позвонил", actor=seller)
    assert told("deal.journal.appended").payload == {
        "deal_id": str(deal.pk), "entry_id": str(entry.pk), "author_id": str(seller.pk), "body": "Позвонил",
        "created_at": NOW,
    }  # fmt: skip


def test_calculations(deal: Deal, calculation: Calculation, policy: Policy, seller: User, told: Any) -> None:
    least = {
        "deal_id": str(deal.pk), "calculation_id": str(calculation.pk), "status": "draft", "insurance_company": "РЕСО",
        "calculation_date": "2026-03-01",
    }  # fmt: skip
    assert told("deal.calculation.created").payload == least
    ids: dict[str, Any] = {"deal_id": deal.pk, "calculation_id": calculation.pk, "actor": seller}
    calculations.change_calculation(**ids, values={"program_name": "КАСКО", "premium_amount": Decimal(5)})
    whole = {**least, "program_name": "КАСКО", "premium_amount": "5.00"}
    assert told("deal.calculation.updated").payload == whole
    assert told("deal.calculation.updated").changes == {
        "program_name": [None, "КАСКО"],
        "premium_amount": [None, "5.00"],
    }
    Calculation.objects.filter(pk=calculation.pk).update(status="ready")
    calculations.change_status(**ids, status="confirmed", policy_id=policy.pk)
    bound = {**whole, "status": "confirmed", "policy_id": str(policy.pk)}
    assert told("deal.calculation.status.confirmed").payload == bound
    assert told("policy.updated").changes == {"calculation_id": [None, str(calculation.pk)]}
    calculations.change_status(**ids, status="archived")
    assert told("deal.calculation.status.archived").payload == {**whole, "status": "archived"}
    assert told("deal.calculation.status.archived").changes == {"status": ["confirmed", "archived"]}
    calculations.delete_calculation(**ids)
    assert told("deal.calculation.deleted").payload == {**whole, "status": "archived"}


def test_policies(deal: Deal, policy: Policy, seller: User, told: Any) -> None:
    least = {
        "policy_id": str(policy.pk), "deal_id": str(deal.pk), "client_id": str(deal.client_id),
        "policy_number": "ХХХ 0123", "status": "draft", "premium": None, "effective_from": None, "effective_to": None,
        "updated_at": NOW,
    }  # fmt: skip
    assert told("policy.created").payload == least
    values = {"premium": Decimal("24000"), "effective_to": date(2027, 3, 19), "status": "active"}
    policies.change_policy(policy_id=policy.pk, values=values, actor=seller)
    changed = {**least, "premium": "24000.00", "effective_to": "2027-03-19"}
    assert told("policy.updated").payload == changed
    active = {**changed, "status": "active"}
    assert told("policy.status.changed").payload == {**active, "old_status": "draft"}
    assert told("policy.status.changed").changes == {"status": ["draft", "active"]}
    policies.delete_policy(policy_id=policy.pk, actor=seller)
    assert told("policy.deleted").payload == active
    policies.restore_policy(policy_id=policy.pk, actor=seller)
    assert told("policy.restored").payload == active


def test_client_events_never_carry_values(client_of: Callable[..., Client], seller: User, told: Any) -> None:
    client = client_of(seller, "Ёлкина Анна", email="anna@mail.ru")
    base = {"client_id": str(client.pk), "owner_id": str(seller.pk)}
    assert told("client.created").payload == {**base, "changed": ["email", "name", "owner_id", "phone", "status"]}
    clients.change_client(client_id=client.pk, values={"phone": "8 913 555-44-33", "name": "Тайна"}, actor=seller)
    assert told("client.updated").payload == {**base, "changed": ["name", "phone"]}
    assert told("client.updated").changes["name"] == ["Ёлкина Анна", "Тайна"]
    clients.delete_client(client_id=client.pk, actor=seller)
    clients.restore_client(client_id=client.pk, actor=seller)
    assert told("client.deleted").payload == told("client.restored").payload == {**base, "changed": ["is_deleted"]}
    for event in Event.objects.filter(aggregate="client"):
        for secret in ("Ёлкина", "anna@", "(912)", "Тайна", "913 555"):
            assert secret not in str(event.payload)


def test_versions_are_gapless(deal: Deal, policy: Policy, calculation: Calculation, seller: User) -> None:
    deals.change_deal(deal_id=deal.pk, values={"title": "А", "status": "in_progress"}, actor=seller)
    policies.change_policy(policy_id=policy.pk, values={"premium": Decimal(5)}, actor=seller)
    deals.delete_deal(deal_id=deal.pk, actor=seller)
    deals.restore_deal(deal_id=deal.pk, actor=seller)
    for row in (Deal.objects.get(), Policy.objects.get()):
        versions = Event.objects.filter(aggregate_id=row.pk).order_by("version").values_list("version", flat=True)
        assert list(versions) == list(range(1, row.version + 1))


def test_way_in_and_trace(deal: Deal, seller: User, told: Any) -> None:
    context.enter(trace_id="abc", via="bot")
    try:
        deals.change_deal(deal_id=deal.pk, values={"title": "А"}, actor=seller)
    finally:
        context.leave()
    assert (told("deal.updated").via, told("deal.updated").trace_id) == ("bot", "abc")


def test_a_refused_change_tells_nothing(deal: Deal, seller: User) -> None:
    before = Event.objects.count()
    values = {"title": "А", "status": "lost"}
    with pytest.raises(deals.ReasonRequired), transaction.atomic():
        deals.change_deal(deal_id=deal.pk, values=values, actor=seller)
    assert Event.objects.count() == before
    assert Deal.objects.get(pk=deal.pk).title == "Октавия 2021"
