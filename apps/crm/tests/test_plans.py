"""The lists of deals walk their indexes: 100,000 deals, the planner's own choice."""

import json
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.auth.models import User
from apps.crm import queries

pytestmark = pytest.mark.django_db

MANY = 100_000
SHARE = 50  # every fiftieth deal is the seller's
BY_SEARCH, BY_OWNER, WORKLIST = "crm_deal_search", "crm_deal_of_owner_by_stage", "crm_deal_worklist"

# Foreign keys are checked at once, for a table with checks to come cannot be altered.
FILL = """
SET CONSTRAINTS ALL IMMEDIATE;
INSERT INTO crm_client (id, version, created_at, updated_at, name, name_key, status, search_text)
VALUES ('00000000-0000-4000-8000-000000000001', 1, now(), now(), 'К', 'к', 'active', 'к');
INSERT INTO accounts_user (id, version, created_at, updated_at, email, full_name, enabled, password)
SELECT md5('user' || n)::uuid, 1, now(), now(), 'm' || n || '@example.com', '', true, '!' FROM generate_series(1, 49) n;
ALTER TABLE crm_deal DISABLE TRIGGER crm_deal_figures;
INSERT INTO crm_deal (id, version, created_at, updated_at, client_id, owner_id, title, status, next_review_at,
                      close_reason, closed_from, planned_total, search_text)
SELECT md5('deal' || n)::uuid, 1, now(), now() + n * interval '1 second', '00000000-0000-4000-8000-000000000001',
       CASE WHEN n %% {share} = 0 THEN %(seller)s::uuid ELSE md5('user' || (n %% {share}))::uuid END,
       'Сделка ' || n, (ARRAY['draft', 'in_progress', 'proposal', 'won', 'lost'])[1 + (n / {share}) %% 5],
       date '2026-01-01' + (n * 7919) %% 700, '', '', 0, 'n' || n
FROM generate_series(1, {many}) n;
ALTER TABLE crm_deal ENABLE TRIGGER crm_deal_figures;
INSERT INTO crm_dealmember (deal_id, user_id, role, via, created_at)
SELECT id, owner_id, 'seller', 'owner', now() FROM crm_deal;
INSERT INTO crm_dealmember (deal_id, user_id, role, via, created_at)
SELECT md5('deal' || n)::uuid, %(seller)s, 'executor', 'manual', now() FROM generate_series(1, {many}, 100) n;
"""


@pytest.fixture
def table(admin: User, seller: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(FILL.format(many=MANY, share=SHARE), {"seller": seller.pk})
        for name in ("crm_deal", "crm_dealmember", "accounts_user"):
            cursor.execute(f"ANALYZE {name}")


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def plan_of(who: User, **filters: Any) -> list[dict[str, Any]]:
    """The nodes of the plan of the list's first page."""
    rows = queries.deals(who, filters, timezone.localdate()).order_by("next_review_at", "updated_at", "id")
    [text] = [rows.values_list("id", "title")[:51].explain(format="json")]
    return nodes(json.loads(text)[0]["Plan"])


def test_lists_use_their_indexes(table: None, admin: User, seller: User) -> None:
    """In one test: filling the table is what takes the time."""
    own: dict[str, Any] = {"stage": "negotiation", "manager": [seller.pk]}
    cases: list[tuple[User, dict[str, Any], set[str]]] = [
        (admin, {}, {WORKLIST}),
        (admin, own, {BY_OWNER}),
        (admin, {"stage": "closedWon"}, {"crm_deal_by_stage"}),
        (admin, {"search": "54321"}, {BY_SEARCH}),
        (seller, {}, {"crm_dealmember_of_user", "crm_dealmember_once_per_reason"}),
        (seller, own, {BY_OWNER, "crm_dealmember_of_user"}),
        (seller, {"search": "54321"}, {BY_SEARCH}),
    ]
    for who, filters, wanted in cases:
        found = plan_of(who, **filters)
        used = {node["Index Name"] for node in found if "Index Name" in node}
        scanned = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
        assert used & wanted, (who.email, filters, used)
        assert "crm_deal" not in scanned, (who.email, filters)
    for filters in ({}, own):
        kinds = {node["Node Type"] for node in plan_of(admin, **filters)}
        assert not kinds & {"Sort", "Incremental Sort"}, (filters, kinds)
