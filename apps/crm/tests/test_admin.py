"""The admin of crm: the right rows for everyone, writes by the services, refusals shown."""

import html
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from django.contrib.admin import site
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.auth.models import User
from apps.core.models import Event
from apps.crm.models import (
    Calculation,
    Client,
    Deal,
    DealMember,
    InsuranceType,
    Insurer,
    JournalEntry,
    Policy,
    SalesChannel,
)
from apps.crm.services import catalogs, deals, journal, members, policies

pytestmark = pytest.mark.django_db

MODELS = [Calculation, Client, Deal, InsuranceType, Insurer, JournalEntry, Policy, SalesChannel]
MOST_QUERIES = 15


@pytest.fixture
def browser() -> Callable[[User], Browser]:
    def open_as(user: User) -> Browser:
        made = Browser()
        made.force_login(user)
        return made

    return open_as


def url(model: Any, page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:crm_{model._meta.model_name}_{page}", args=args)


def shown(answer: Any) -> set[Any]:
    return {row.pk for row in answer.context["cl"].result_list}


def told(answer: Any) -> str:
    """The messages and the form's faults, as the person reads them."""
    return html.unescape(answer.content.decode())


def fields(browser: Browser, address: str) -> dict[str, Any]:
    """What the form on the page would send back untouched."""
    answer = browser.get(address)
    assert answer.status_code == 200
    form = answer.context["adminform"].form
    data = {name: form[name].value() for name in form.fields}
    for formset in answer.context["inline_admin_formsets"]:
        each = formset.formset
        for bound in [each.management_form, *each.forms]:
            data |= {bound.add_prefix(name): bound[name].value() for name in bound.fields}
    sent = {}
    for name, value in data.items():
        if value is True:
            sent[name] = "on"
        elif value is not None and value is not False:
            sent[name] = value.isoformat() if isinstance(value, date) else str(value)
    return sent


@pytest.fixture
def everything(deal: Deal, policy: Policy, calculation: Calculation, seller: User, admin: User) -> dict[Any, Any]:
    """One row of every model: all that hangs from the seller's deal."""
    made: dict[Any, Any] = {
        Deal: deal, Policy: policy, Calculation: calculation, Client: deal.client,
        JournalEntry: journal.append_entry(deal_id=deal.pk, body="Позвонил", actor=seller),
    }  # fmt: skip
    for model in (Insurer, InsuranceType, SalesChannel):
        made[model] = catalogs.create_entry(model, values={"name": "РЕСО"}, actor=admin)
    return made


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("who", ["admin", "seller", "executor", "stranger"])
def test_lists_and_pages_open_with_the_right_rows(
    browser: Any, everything: dict[Any, Any], model: Any, who: str, request: Any
) -> None:
    person = browser(request.getfixturevalue(who))
    row = everything[model]
    catalog = model in (Insurer, InsuranceType, SalesChannel)
    sees = who != "stranger" or catalog
    assert shown(person.get(url(model))) == ({row.pk} if sees else set())
    page = person.get(url(model, "change", row.pk))
    assert page.status_code == (200 if sees else 302)
    history = person.get(url(model, "history", row.pk))
    assert history.status_code == (200 if sees else 404)
    writers = {"admin"} if catalog else {"admin", "seller", "stranger"} if model in (Client, Deal) else {
        "admin", "seller", "executor", "stranger"}  # fmt: skip
    adds = who in writers and model is not JournalEntry
    assert person.get(url(model, "add")).status_code == (200 if adds else 403)


def test_readers_stay_outside(browser: Any, reader: User) -> None:
    assert browser(reader).get(url(Deal)).status_code == 302


@pytest.mark.parametrize("model", MODELS)
def test_a_hundred_rows_cost_few_queries(
    browser: Any, everything: dict[Any, Any], seller: User, other_seller: User, admin: User, model: Any
) -> None:
    deal = everything[Deal]
    for n in range(110):
        if model is Deal:
            Deal.objects.create(client=deal.client, title=str(n), next_review_at=date(2026, 4, 1), search_text="",
                                owner=(seller, other_seller)[n % 2])  # fmt: skip
        elif model is Client:
            Client.objects.create(name=str(n), name_key=str(n), search_text="", owner=(seller, other_seller)[n % 2])
        elif model is JournalEntry:
            JournalEntry.objects.create(deal=deal, author=seller, body=str(n))
        elif model is Policy:
            Policy.objects.create(client=deal.client, deal=deal, policy_number=n, policy_number_key=n, owner=seller)
        elif model is Calculation:
            Calculation.objects.create(deal=deal, insurance_company=n, insurance_company_key=n, owner=seller,
                                       calculation_date=date(2026, 3, 1))  # fmt: skip
        else:
            model.objects.create(name=n, name_key=n)
    person = browser(admin)
    person.get(url(model))
    with CaptureQueriesContext(connection) as captured:
        answer = person.get(url(model))
    assert len(shown(answer)) == 100
    assert len(captured) <= MOST_QUERIES, "\n".join(each["sql"] for each in captured.captured_queries)


@pytest.mark.parametrize(
    ("model", "text", "found"),
    [
        (Deal, "ОКТАВИЯ", True), (Deal, "вольво", False), (Deal, "%", False),
        (Client, "елкина", True), (Client, "912 000", True), (Client, "913", False),
        (Policy, "xx 012", True), (Policy, "/", False),
        (Calculation, "ресо", True), (Calculation, "альфа", False),
        (Insurer, "РЕС", True), (Insurer, "альфа", False),
    ],
)  # fmt: skip
def test_search(browser: Any, everything: dict[Any, Any], seller: User, model: Any, text: str, found: bool) -> None:
    assert (shown(browser(seller).get(url(model), {"q": text})) == {everything[model].pk}) is found


@pytest.mark.parametrize("model", [Deal, Client, Insurer])
@pytest.mark.parametrize("term", ["", "о", "\0"])
def test_drop_downs_offer_what_the_person_sees(
    browser: Any, everything: dict[Any, Any], seller: User, stranger: User, admin: User, model: Any, term: str
) -> None:
    field = {Deal: "deal", Client: "client", Insurer: "insurer"}[model]
    query = {"app_label": "crm", "model_name": "policy", "field_name": field, "term": term}
    address = reverse("admin:autocomplete")
    for who, sees in ((seller, True), (stranger, model is Insurer)):
        answer = browser(who).get(address, query)
        assert answer.status_code == 200
        assert bool(answer.json()["results"]) is (sees and term != "\0" and (term == "" or model is not Client))
    if model is Deal:
        deals.delete_deal(deal_id=everything[Deal].pk, actor=admin)
        assert browser(admin).get(address, query).json()["results"] == []


# --- Writing ----------------------------------------------------------------------------------------------------------
def test_a_client_is_made_and_changed(browser: Any, seller: User, other_seller: User) -> None:
    person = browser(seller)
    sent = {"name": " Ёлкина ", "phone": "8 912 000-00-01", "email": "", "status": "active", "owner": other_seller.pk}
    assert person.post(url(Client, "add"), sent).status_code == 302
    made = Client.objects.get()
    assert (made.name, made.phone_e164, made.owner, made.email) == ("Ёлкина", "+79120000001", seller, None)
    address = url(Client, "change", made.pk)
    assert person.post(address, {**fields(person, address), "name": "Ёжикова"}).status_code == 302
    event = Event.objects.get(name="client.updated")
    assert (event.via, event.actor_id, event.changes) == ("admin", seller.pk, {"name": ["Ёлкина", "Ёжикова"]})
    assert person.post(address, fields(person, address)).status_code == 302
    assert Event.objects.count() == 2
    bad = person.post(address, {**fields(person, address), "email": "не адрес"})
    assert "email" in bad.context["adminform"].form.errors


def test_a_deal_is_made_by_its_owner(browser: Any, seller: User, client_of: Any) -> None:
    sent = {"client": client_of(seller).pk, "title": "КАСКО", "status": "draft", "next_review_at": "2026-04-01"}
    assert browser(seller).post(url(Deal, "add"), sent).status_code == 302
    made = Deal.objects.get()
    assert (made.owner, made.members.get().via) == (seller, "owner")
    assert Event.objects.get(name="deal.created").via == "admin"


def test_a_foreign_client_cannot_be_chosen_nor_read(
    browser: Any, seller: User, other_seller: User, client_of: Any
) -> None:
    foreign = client_of(other_seller, "Тайна")
    sent = {"client": foreign.pk, "title": "КАСКО", "status": "draft", "next_review_at": "2026-04-01"}
    answer = browser(seller).post(url(Deal, "add"), sent)
    assert answer.status_code == 200
    assert "client" in answer.context["adminform"].form.errors
    assert "Тайна" not in told(answer)
    assert not Deal.objects.exists()


def test_a_deal_is_changed_noted_and_its_team_too(
    browser: Any, deal: Deal, seller: User, executor: User, reader: User
) -> None:
    person, address = browser(seller), url(Deal, "change", deal.pk)
    sent = fields(person, address) | {
        "title": "Октавия 2022", "note": "Позвонил", "members-TOTAL_FORMS": "2", "members-0-role": "observer",
        "members-1-user": str(reader.pk), "members-1-role": "observer", "members-1-deal": str(deal.pk),
    }  # fmt: skip
    assert person.post(address, sent).status_code == 302
    assert Deal.objects.get().title == "Октавия 2022"
    assert JournalEntry.objects.get().body == "Позвонил"
    team = {(member.user, member.role) for member in DealMember.objects.filter(via="manual")}
    assert team == {(executor, "observer"), (reader, "observer")}
    names = set(Event.objects.filter(via="admin").values_list("name", flat=True))
    assert names == {"deal.updated", "deal.journal.appended", "deal.member.added", "deal.member.removed"}
    sent = fields(person, address) | {"members-0-DELETE": "on"}
    assert person.post(address, sent).status_code == 302
    assert DealMember.objects.filter(via="manual").count() == 1


def test_a_refusal_stands_in_the_form_and_changes_nothing(browser: Any, deal: Deal, seller: User) -> None:
    person, address = browser(seller), url(Deal, "change", deal.pk)
    before = Event.objects.count()
    answer = person.post(address, {**fields(person, address), "title": "Другое", "status": "lost", "note": "А"})
    assert answer.status_code == 200
    assert "reason" in answer.context["adminform"].form.errors
    assert 'value="Другое"' in told(answer)
    assert (Deal.objects.get().title, Event.objects.count()) == (deal.title, before)
    said = {**fields(person, address), "status": "lost", "reason": "Дорого"}
    assert person.post(address, said).status_code == 302
    assert Deal.objects.get().close_reason == "Дорого"


def test_two_people_do_not_overwrite_each_other(browser: Any, deal: Deal, seller: User, executor: User) -> None:
    person, address = browser(seller), url(Deal, "change", deal.pk)
    opened = fields(person, address)
    deals.change_deal(deal_id=deal.pk, values={"description": "Серая"}, actor=executor)
    answer = person.post(address, {**opened, "title": "Другое"})
    assert answer.status_code == 200
    assert answer.context["adminform"].form.non_field_errors()
    assert Deal.objects.get().description == "Серая"


@pytest.mark.parametrize(("who", "status"), [("executor", 302), ("reader_with_role", 403), ("stranger", 302)])
def test_writing_follows_the_place_in_the_deal(
    browser: Any, deal: Deal, who: str, status: int, make_user: Any, request: Any
) -> None:
    """An observer with all roles looks; a stranger is sent away as from an address that is not there."""
    if who == "reader_with_role":
        person = make_user("watcher", "ROLE_SALES_AGENT", "ROLE_EXECUTOR")
        DealMember.objects.create(deal=deal, user=person, role="observer", via="manual")
    else:
        person = request.getfixturevalue(who)
    address = url(Deal, "change", deal.pk)
    sent = {"title": "Другое", "status": "draft", "next_review_at": "2026-04-01", "read_version": deal.version}
    for prefix in ("members", "policies", "calculations"):
        sent |= {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}
    assert browser(person).post(address, sent).status_code == status
    assert (Deal.objects.get().title == "Другое") is (who == "executor")


def test_a_policy_is_made_and_refused(browser: Any, deal: Deal, policy: Policy, seller: User) -> None:
    person = browser(seller)
    sent = {"client": deal.client_id, "deal": deal.pk, "policy_number": "xxx-0123", "status": "draft"}
    taken = person.post(url(Policy, "add"), sent)
    assert taken.status_code == 200
    assert taken.context["adminform"].form.non_field_errors()
    empty = person.post(url(Policy, "add"), {**sent, "policy_number": "№"})
    assert "policy_number" in empty.context["adminform"].form.errors
    assert person.post(url(Policy, "add"), {**sent, "policy_number": "ЯЯЯ 1", "premium": "5"}).status_code == 302
    made = Policy.objects.get(policy_number="ЯЯЯ 1")
    assert Event.objects.get(aggregate_id=made.pk).payload["premium"] == "5.00"
    address = url(Policy, "change", made.pk)
    early = person.post(address, {**fields(person, address), "status": "active"})
    assert "effective_to" in early.context["adminform"].form.errors
    active = {**fields(person, address), "status": "active", "effective_to": "2027-03-19"}
    assert person.post(address, active).status_code == 302
    assert Event.objects.filter(name="policy.status.changed", via="admin").count() == 1


def test_a_calculation_goes_its_way(browser: Any, deal: Deal, policy: Policy, seller: User) -> None:
    person = browser(seller)
    sent = {
        "deal": deal.pk, "insurance_company": "РЕСО", "calculation_date": "2026-03-01", "premium_amount": "24000",
        "valid_from": "2026-03-01", "valid_to": "2026-03-31", "files": "a.pdf\n\n b.pdf ",
    }  # fmt: skip
    backwards = person.post(url(Calculation, "add"), {**sent, "valid_to": "2026-02-01"})
    assert "valid_to" in backwards.context["adminform"].form.errors
    assert person.post(url(Calculation, "add"), sent).status_code == 302
    made = Calculation.objects.get()
    assert (made.files, made.validity_period.upper) == (["a.pdf", "b.pdf"], date(2026, 4, 1))
    address = url(Calculation, "change", made.pk)
    assert fields(person, address)["valid_to"] == "2026-03-31"
    nothing = person.post(address, {**fields(person, address), "premium_amount": "0"})
    assert "premium_amount" in nothing.context["adminform"].form.errors
    early = person.post(address, {**fields(person, address), "move_to": "ready"})
    assert early.context["adminform"].form.non_field_errors()
    assert person.post(address, fields(person, address)).status_code == 302
    assert Calculation.objects.get().version == 1
    ready = {**fields(person, address), "program_name": "КАСКО", "move_to": "ready"}
    assert person.post(address, ready).status_code == 302
    confirmed = {**fields(person, address), "move_to": "confirmed", "bind_policy": policy.pk}
    assert person.post(address, confirmed).status_code == 302
    assert Policy.objects.get().calculation_id == made.pk
    assert "comments" not in fields(person, address)
    assert person.post(address, {**fields(person, address), "move_to": "archived"}).status_code == 302
    assert Calculation.objects.get().status == "archived"


def test_a_catalog_entry(browser: Any, admin: User) -> None:
    person = browser(admin)
    sent = {"name": "РЕСО", "aliases": "Ресо-Гарантия, RESO", "is_active": "on"}
    assert person.post(url(Insurer, "add"), sent).status_code == 302
    made = Insurer.objects.get()
    assert (made.aliases, made.alias_keys) == (["Ресо-Гарантия", "RESO"], ["reso", "ресо-гарантия"])
    again = person.post(url(Insurer, "add"), {"name": "reso"})
    assert again.context["adminform"].form.non_field_errors()
    assert Event.objects.get(name="catalog.created").via == "admin"


# --- Acts on chosen rows ----------------------------------------------------------------------------------------------
def act(person: Browser, model: Any, action: str, rows: list[Any], **more: Any) -> Any:
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows], "index": "0", **more}
    return person.post(url(model) + "?stage=any" * (model is Deal), data, follow=True)


def test_closing_asks_first_and_reports_row_by_row(browser: Any, deal: Deal, deal_of: Any, seller: User) -> None:
    other = deal_of(seller, title="Вольво", status="won")
    person = browser(seller)
    asked = act(person, Deal, "close_lost", [deal, other])
    assert "Вольво" in told(asked)
    assert asked.context["chosen"] == [str(deal.pk), str(other.pk)]
    silent = act(person, Deal, "close_lost", [deal, other], confirmed="1", reason=" ")
    assert silent.context["reason_missing"]
    assert Deal.objects.get(pk=deal.pk).stage == "qualification"
    done = act(person, Deal, "close_lost", [deal, other], confirmed="1", reason="Дорого")
    assert Deal.objects.get(pk=deal.pk).close_reason == "Дорого"
    assert Deal.objects.get(pk=other.pk).stage == "closedWon"
    messages = [str(each) for each in done.context["messages"]]
    assert len(messages) == 2
    assert any(each.startswith("Вольво: ") for each in messages)
    assert Event.objects.get(name="deal.stage.changed").via == "admin"
    act(person, Deal, "reopen", [deal], confirmed="1", reason="Передумал")
    act(person, Deal, "close_won", [deal], confirmed="1")
    assert Deal.objects.get(pk=deal.pk).stage == "closedWon"


def test_deleting_and_restoring(browser: Any, deal: Deal, policy: Policy, seller: User, admin: User) -> None:
    person = browser(seller)
    asked = act(person, Deal, "hide_chosen", [deal])
    assert deal.title in told(asked)
    assert Deal.objects.living().exists()
    act(person, Deal, "hide_chosen", [deal], confirmed="1")
    assert not Deal.objects.living().exists()
    assert not Policy.objects.living().exists()
    assert shown(person.get(url(Deal), {"stage": "any"})) == set()
    assert shown(person.get(url(Deal), {"deleted": "yes"})) == set()
    chief = browser(admin)
    assert shown(chief.get(url(Deal))) == set()
    assert shown(chief.get(url(Deal), {"deleted": "yes"})) == {deal.pk}
    assert chief.get(url(Deal, "change", deal.pk)).status_code == 200
    data = {"action": "restore", "_selected_action": [str(deal.pk)], "index": "0"}
    chief.post(url(Deal) + "?deleted=yes", data)
    assert set(Policy.objects.living()) == {policy}


def test_a_blocked_deletion_names_what_stands_in_the_way(browser: Any, deal: Deal, seller: User) -> None:
    person = browser(seller)
    client = deal.client
    done = act(person, Client, "hide_chosen", [client], confirmed="1")
    [message] = [str(each) for each in done.context["messages"]]
    assert message.startswith(client.name)
    assert deal.title in message
    page = url(Client, "delete", client.pk)
    assert client.name in told(person.get(page))
    answer = person.post(page, {"post": "yes"}, follow=True)
    assert deal.title in " ".join(str(each) for each in answer.context["messages"])
    assert not Client.objects.get().is_deleted


def test_a_single_row_is_deleted_on_its_page(browser: Any, policy: Policy, seller: User) -> None:
    assert browser(seller).post(url(Policy, "delete", policy.pk), {"post": "yes"}).status_code == 302
    assert Policy.objects.get().is_deleted
    assert Event.objects.get(name="policy.deleted").via == "admin"


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_deleted_for_good(everything: dict[Any, Any], model: Any, rf: Any, admin: User) -> None:
    request = rf.get("/")
    request.user = User.objects.with_roles().get(pk=admin.pk)
    assert "delete_selected" not in site.get_model_admin(model).get_actions(request)


def test_the_executor_has_no_closing_acts(browser: Any, deal: Deal, executor: User) -> None:
    act(browser(executor), Deal, "close_won", [deal], confirmed="1")
    assert Deal.objects.get().stage == "qualification"


def test_the_worklist_leaves_closed_deals_out(browser: Any, deal: Deal, deal_of: Any, seller: User) -> None:
    won = deal_of(seller, status="won")
    person = browser(seller)
    assert shown(person.get(url(Deal))) == {deal.pk}
    assert shown(person.get(url(Deal), {"stage": "closedWon"})) == {won.pk}
    assert shown(person.get(url(Deal), {"stage": "any"})) == {deal.pk, won.pk}
    assert shown(person.get(url(Deal), {"owner": "none"})) == set()


def test_the_history_is_of_events(browser: Any, deal: Deal, policy: Policy, seller: User) -> None:
    policies.change_policy(policy_id=policy.pk, values={"premium": 5}, actor=seller)
    members.grant(deal=deal, user=seller, role="executor", via="task", actor=seller)
    page = told(browser(seller).get(url(Deal, "history", deal.pk)))
    for text in ("deal.created", "deal.member.added", "policy.updated", "premium", seller.email):
        assert text in page
