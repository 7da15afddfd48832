"""Policies: numbers however they are typed, the machine of statuses, moves between deals, deletion."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from apps.auth.models import User
from apps.core.models import Event
from apps.crm.models import Calculation, Client, Deal, InsuranceType, Insurer, Policy, SalesChannel
from apps.crm.rules import POLICY_MOVES
from apps.crm.services import calculations, catalogs, deals, policies

pytestmark = pytest.mark.django_db

URL = "/api/v1/policies"


def body_of(deal: Deal, number: str = "ХХХ 0123", **more: Any) -> dict[str, Any]:
    return {"client_id": str(deal.client_id), "deal_id": str(deal.pk), "policy_number": number, **more}


def one(policy: Policy, *rest: str) -> str:
    return "/".join([URL, str(policy.pk), *rest])


def test_created(api: Any, deal: Deal, executor: User, seller: User) -> None:
    sent = body_of(
        deal, "  ххх 0123 ", premium=24000, effective_from="2026-03-20T10:00:00+03:00", effective_to="2027-03-19",
        owner_id=str(seller.pk),
    )  # fmt: skip
    answer = api(executor).post(URL, sent)
    assert (answer.status_code, answer["ETag"]) == (201, '"1"')
    made = answer.json()
    assert (made["policy_number"], made["policy_number_key"]) == ("ххх 0123", "XXX0123")
    assert (made["status"], made["premium"], made["owner_id"]) == ("draft", "24000.00", str(executor.pk))
    assert (made["effective_from"], made["effective_to"]) == ("2026-03-20", "2027-03-19")
    assert (made["calculation_id"], made["is_deleted"]) == (None, False)
    assert api(seller).get(f"{URL}/{made['id']}").json() == made


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("ХХХ 0123", "XXX0123"),
        ("xxx0123", "XXX0123"),
        (" х-Х_x №0123/", "XXX0123"),
        ("АВЕКМНОРСТУХ", "ABEKMHOPCTYX"),
        ("авекмнорстух", "ABEKMHOPCTYX"),
        ("ЯЖ-1", "ЯЖ1"),
        ("ＸＸＸ０１２３", "XXX0123"),
    ],
)
def test_the_number_is_compared_by_its_key(api: Any, deal: Deal, seller: User, typed: str, key: str) -> None:
    made = api(seller).post(URL, body_of(deal, typed)).json()
    assert (made["policy_number"], made["policy_number_key"]) == (typed.strip(), key)


@pytest.mark.parametrize("again", ["ХХХ 0123", "ххх0123", "XXX0123", "x x x 0 1 2 3", "ХXХ-0123"])
def test_a_number_lives_once(api: Any, deal: Deal, policy: Policy, seller: User, again: str) -> None:
    answer = api(seller).post(URL, body_of(deal, again))
    assert (answer.status_code, answer.json()["code"]) == (409, "policy_number_exists")
    assert answer.json()["policy_id"] == str(policy.pk)


def test_a_taken_number_names_only_a_visible_policy(
    api: Any, policy: Policy, other_seller: User, deal_of: Callable[..., Deal]
) -> None:
    answer = api(other_seller).post(URL, body_of(deal_of(other_seller), "xxx0123"))
    assert (answer.status_code, answer.json()["code"]) == (409, "policy_number_exists")
    assert "policy_id" not in answer.json()
    assert str(policy.pk) not in answer.content.decode()


def test_renumbering(api: Any, deal: Deal, policy: Policy, seller: User) -> None:
    other = api(seller).post(URL, body_of(deal, "ЯЯЯ 1")).json()
    taken = api(seller).patch(f"{URL}/{other['id']}", {"policy_number": "xxx 0123"})
    assert (taken.status_code, taken.json()["policy_id"]) == (409, str(policy.pk))
    respelt = api(seller).patch(one(policy), {"policy_number": "XXX0123"})
    assert (respelt.status_code, respelt.json()["policy_number"]) == (200, "XXX0123")
    assert api(seller).patch(one(policy), {"policy_number": "ЮЮЮ 5"}).json()["policy_number_key"] == "ЮЮЮ5"


@pytest.mark.parametrize(
    ("sent", "field", "code"),
    [
        ({"policy_number": ""}, "policy_number", "blank"),
        ({"policy_number": "x" * 65}, "policy_number", "max_length"),
        ({"policy_number": "№ - /"}, "policy_number", "no_letters_or_digits"),
        ({"premium": "-0.01"}, "premium", "must_be_positive"),
        ({"premium": "много"}, "premium", "invalid"),
        ({"premium": "1e20"}, "premium", "max_digits"),
        ({"status": "frozen"}, "status", "unknown_status"),
        ({"status": None}, "status", "null"),
        ({"effective_from": "завтра"}, "effective_from", "invalid"),
        ({"effective_to": "2101-01-01"}, "effective_to", "out_of_range"),
        ({"effective_from": "2026-03-02", "effective_to": "2026-03-01"}, "effective_to", "end_before_start"),
        ({"status": "active"}, "effective_to", "effective_to_required"),
        ({"client_id": None}, "client_id", "null"),
        ({"deal_id": "1"}, "deal_id", "invalid"),
        ({"insurer_id": "1"}, "insurer_id", "invalid"),
    ],
)
def test_bad_fields_are_named(
    api: Any, deal: Deal, policy: Policy, seller: User, sent: dict[str, Any], field: str, code: str
) -> None:
    for answer in (api(seller).post(URL, {**body_of(deal, "ЯЯЯ 1"), **sent}), api(seller).patch(one(policy), sent)):
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
        assert [(each["field"], each["code"]) for each in answer.json()["errors"]] == [(field, code)]
    assert Policy.objects.count() == 1
    assert Policy.objects.get().version == policy.version


def test_premium_may_be_nothing(api: Any, deal: Deal, seller: User) -> None:
    assert api(seller).post(URL, body_of(deal, "А 1", premium="0")).json()["premium"] == "0.00"
    assert api(seller).post(URL, body_of(deal, "А 2", premium=None)).json()["premium"] is None


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("draft", "draft"),
        ("issued", "active"),
        (" ACTIVE ", "active"),
        ("pending", "pending_renewal"),
        ("pendingRenewal", "pending_renewal"),
        ("Pending-Renewal", "pending_renewal"),
        ("expired", "closed"),
        ("cancelled", "closed"),
        ("inactive", "closed"),
    ],
)
def test_words_of_old(api: Any, deal: Deal, seller: User, word: str, status: str) -> None:
    answer = api(seller).post(URL, body_of(deal, status=word, effective_to="2027-03-19"))
    assert (answer.status_code, answer.json()["status"]) == (201, status)


@pytest.mark.parametrize("before", sorted(POLICY_MOVES))
@pytest.mark.parametrize("after", sorted(POLICY_MOVES))
def test_the_machine(api: Any, deal: Deal, seller: User, before: str, after: str) -> None:
    made = api(seller).post(URL, body_of(deal, status=before, effective_to="2027-03-19")).json()
    answer = api(seller).patch(f"{URL}/{made['id']}", {"status": after})
    allowed = {
        ("draft", "active"), ("active", "pending_renewal"), ("active", "closed"), ("pending_renewal", "active"),
        ("pending_renewal", "closed"),
    }  # fmt: skip
    if before == after or (before, after) in allowed:
        assert (answer.status_code, answer.json()["status"]) == (200, after)
        assert answer.json()["version"] == (1 if before == after else 2)
    else:
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_status_transition")


def test_activation_needs_an_end(api: Any, policy: Policy, seller: User) -> None:
    bare = api(seller).patch(one(policy), {"status": "issued"})
    assert [each["code"] for each in bare.json()["errors"]] == ["effective_to_required"]
    assert api(seller).patch(one(policy), {"status": "issued", "effective_to": "2027-03-19"}).status_code == 200
    cleared = api(seller).patch(one(policy), {"effective_to": None})
    assert [each["code"] for each in cleared.json()["errors"]] == ["effective_to_required"]


def test_dates_are_compared_with_the_stored_ones(api: Any, policy: Policy, seller: User) -> None:
    api(seller).patch(one(policy), {"effective_from": "2026-03-20", "effective_to": "2027-03-19"})
    answer = api(seller).patch(one(policy), {"effective_to": "2026-03-19"})
    assert [each["code"] for each in answer.json()["errors"]] == ["end_before_start"]
    assert api(seller).patch(one(policy), {"effective_to": "2026-03-20"}).status_code == 200


def test_a_change_and_a_status_are_two_events(api: Any, policy: Policy, seller: User) -> None:
    answer = api(seller).patch(one(policy), {"status": "active", "effective_to": "2027-03-19"})
    assert answer.json()["version"] == 3
    told = Event.objects.filter(aggregate="policy").order_by("version").values_list("name", flat=True)
    assert list(told) == ["policy.created", "policy.updated", "policy.status.changed"]
    again = api(seller).patch(one(policy), {"status": "issued", "effective_to": "2027-03-19"})
    assert again.json()["version"] == 3


def test_stale_version(api: Any, policy: Policy, seller: User) -> None:
    api(seller).patch(one(policy), {"premium": "5"})
    for verb in ("patch", "delete"):
        answer = getattr(api(seller), verb)(one(policy), {"premium": "6"}, headers={"If-Match": 'W/"1"'})
        assert (answer.status_code, answer["ETag"]) == (412, '"2"')


def test_moves_to_another_deal_and_leaves_its_calculation(
    api: Any, deal: Deal, policy: Policy, calculation: Calculation, seller: User, executor: User, deal_of: Any
) -> None:
    Calculation.objects.filter(pk=calculation.pk).update(status="ready")
    calculations.change_status(
        deal_id=deal.pk, calculation_id=calculation.pk, status="confirmed", policy_id=policy.pk, actor=seller
    )
    other = deal_of(seller)
    answer = api(seller).patch(one(policy), {"deal_id": str(other.pk)})
    assert (answer.status_code, answer.json()["deal_id"]) == (200, str(other.pk))
    assert answer.json()["calculation_id"] is None
    assert api(executor).get(one(policy)).status_code == 404
    assert [p["id"] for p in api(seller).get(URL, {"deal_id": str(other.pk)}).json()] == [str(policy.pk)]
    told = Event.objects.get(name="policy.updated", payload__deal_id=str(other.pk))
    assert told.changes["deal_id"] == [str(deal.pk), str(other.pk)]
    assert told.changes["calculation_id"] == [str(calculation.pk), None]
    left = Event.objects.get(name="deal.calculation.updated")
    assert left.changes == {"linked_policy_id": [str(policy.pk), None]}


@pytest.mark.parametrize("who", ["stranger_deal", "observed", "unknown"])
def test_moves_only_where_the_caller_works(
    api: Any, policy: Policy, seller: User, other_seller: User, deal_of: Any, who: str
) -> None:
    other = deal_of(other_seller)
    if who == "observed":
        other.members.create(user=seller, role="observer", via="manual")
    target = uuid4() if who == "unknown" else other.pk
    answer = api(seller).patch(one(policy), {"deal_id": str(target)})
    expected = (403, "forbidden") if who == "observed" else (404, "deal_not_found")
    assert (answer.status_code, answer.json()["code"]) == expected


def test_without_a_deal(
    api: Any, admin: User, seller: User, executor: User, other_seller: User, client_of: Any
) -> None:
    mine, foreign = client_of(seller), client_of(other_seller)
    made = api(seller).post(URL, {"client_id": str(mine.pk), "policy_number": "А 1"})
    assert (made.status_code, made.json()["deal_id"]) == (201, None)
    hidden = api(seller).post(URL, {"client_id": str(foreign.pk), "policy_number": "А 2"})
    assert (hidden.status_code, hidden.json()["code"]) == (404, "client_not_found")
    address = f"{URL}/{made.json()['id']}"
    for who, status in ((seller, 200), (admin, 200), (executor, 404), (other_seller, 404)):
        assert api(who).patch(address, {"premium": "5"}).status_code == status
    assert "deal_id" not in Event.objects.get(name="policy.created").payload


def test_a_visible_client_of_another_gets_no_loose_policy(api: Any, deal: Deal, executor: User) -> None:
    answer = api(executor).post(URL, {"client_id": str(deal.client_id), "policy_number": "А 1"})
    assert answer.status_code == 403


def test_left_without_a_deal_and_taken_into_one(api: Any, deal: Deal, policy: Policy, seller: User) -> None:
    assert api(seller).patch(one(policy), {"deal_id": None}).json()["deal_id"] is None
    assert api(seller).get(URL, {"deal_id": str(deal.pk)}).json() == []
    assert api(seller).patch(one(policy), {"deal_id": str(deal.pk)}).json()["deal_id"] == str(deal.pk)


def test_another_holder(api: Any, policy: Policy, seller: User, other_seller: User, client_of: Any) -> None:
    wife, foreign = client_of(seller, "Ёлкин Пётр"), client_of(other_seller)
    assert api(seller).patch(one(policy), {"client_id": str(wife.pk)}).json()["client_id"] == str(wife.pk)
    for client_id in (foreign.pk, uuid4()):
        answer = api(seller).patch(one(policy), {"client_id": str(client_id)})
        assert (answer.status_code, answer.json()["code"]) == (404, "client_not_found")


@pytest.mark.parametrize("name", ["insurer_id", "insurance_type_id", "sales_channel_id"])
def test_catalog_links(api: Any, policy: Policy, seller: User, admin: User, name: str) -> None:
    model = {"insurer_id": Insurer, "insurance_type_id": InsuranceType, "sales_channel_id": SalesChannel}[name]
    entry = catalogs.create_entry(model, values={"name": "А"}, actor=admin)
    assert api(seller).patch(one(policy), {name: str(entry.pk)}).json()[name] == str(entry.pk)
    unknown = api(seller).patch(one(policy), {name: str(uuid4())})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "catalog_entry_not_found")
    assert api(seller).patch(one(policy), {name: None}).json()[name] is None


@pytest.mark.parametrize("verb", ["DELETE", "PATCH"])
def test_deleted_and_restored(api: Any, policy: Policy, seller: User, verb: str) -> None:
    if verb == "DELETE":
        assert api(seller).delete(one(policy)).status_code == 204
    else:
        assert api(seller).patch(one(policy), {"is_deleted": True}).json()["is_deleted"] is True
    assert api(seller).get(URL).json() == []
    for answer in (api(seller).get(one(policy)), api(seller).delete(one(policy)), api(seller).patch(one(policy), {})):
        assert (answer.status_code, answer.json()["code"]) == (404, "policy_not_found")
    restored = api(seller).post(one(policy, "restore"))
    assert (restored.status_code, restored.json()["is_deleted"]) == (200, False)
    assert api(seller).post(one(policy, "restore")).json()["version"] == restored.json()["version"]


def test_a_deleted_number_is_free_and_its_restoration_explained(
    api: Any, deal: Deal, policy: Policy, seller: User
) -> None:
    api(seller).delete(one(policy))
    twin = api(seller).post(URL, body_of(deal, "xxx-0123")).json()
    answer = api(seller).post(one(policy, "restore"))
    assert (answer.status_code, answer.json()["code"]) == (409, "policy_number_exists")
    assert answer.json()["policy_id"] == twin["id"]
    api(seller).delete(f"{URL}/{twin['id']}")
    assert api(seller).post(one(policy, "restore")).status_code == 200


@pytest.mark.parametrize(
    ("who", "status"), [("admin", 200), ("seller", 200), ("other_seller", 403), ("stranger", 404), ("executor", 403)]
)
def test_restoring_is_for_owner_and_admin(api: Any, deal: Deal, policy: Policy, who: str, status: int, request: Any):
    """`other_seller` is a seller of the deal, but the policy is another's."""
    deal.members.create(user=request.getfixturevalue("other_seller"), role="seller", via="manual")
    policies.delete_policy(policy_id=policy.pk, actor=request.getfixturevalue("seller"))
    assert api(request.getfixturevalue(who)).post(one(policy, "restore")).status_code == status


def test_a_policy_of_a_deleted_deal_waits_for_the_deal(
    api: Any, deal: Deal, policy: Policy, seller: User, stranger: User
) -> None:
    deals.delete_deal(deal_id=deal.pk, actor=seller)
    answer = api(seller).post(one(policy, "restore"))
    assert (answer.status_code, answer.json()["code"]) == (404, "deal_not_found")
    hidden = api(stranger).post(one(policy, "restore"))
    assert (hidden.status_code, hidden.json()["code"]) == (404, "policy_not_found")


@pytest.mark.parametrize(
    ("who", "changes", "deletes"),
    [("admin", 200, 204), ("seller", 200, 204), ("executor", 200, 403), ("stranger", 404, 404), ("reader", 403, 403)],
)
def test_who_may(api: Any, policy: Policy, who: str, changes: int, deletes: int, request: Any) -> None:
    person = request.getfixturevalue(who)
    assert api(person).patch(one(policy), {"premium": "5"}).status_code == changes
    assert api(person).delete(one(policy)).status_code == deletes


def test_filters(api: Any, deal: Deal, policy: Policy, seller: User, deal_of: Any) -> None:
    other = deal_of(seller)
    second = api(seller).post(URL, body_of(other, "РЕ 77-1", status="active", effective_to="2027-01-01")).json()["id"]

    def found(**query: str) -> list[str]:
        answer = api(seller).get(URL, query)
        assert answer.status_code == 200, answer.json()
        return [each["id"] for each in answer.json()]

    first = str(policy.pk)
    assert found() == [second, first]
    assert found(deal_id=str(deal.pk)) == [first]
    assert found(client_id=str(other.client_id)) == [second]
    assert found(status="issued") == [second]
    assert found(search="xx 012") == [first]
    assert found(search="771") == [second]
    assert found(search="/") == []
    assert found(search="") == [second, first]
    assert api(seller).get(URL, {"status": "frozen"}).json()["code"] == "invalid_filters"


def test_a_client_without_deals_is_held_while_a_policy_is_made(seller: User, client_of: Callable[..., Client]) -> None:
    """A client deleted meanwhile is not there any more."""
    gone = client_of(seller)
    Client.objects.filter(pk=gone.pk).update(deleted_at="2026-01-01T00:00:00Z")
    with pytest.raises(policies.NotFound):
        policies.create_policy(values={"client_id": gone.pk, "policy_number": "А 1"}, actor=seller)
