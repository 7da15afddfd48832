"""The database refuses what no service would write, whoever writes it."""

from typing import Any
from uuid import uuid4

import pytest
from django.db import DataError, IntegrityError, connection, transaction

from apps.auth.models import User
from apps.core.api.problems import as_domain_error
from apps.crm.models import Calculation, Catalog, Deal, InsuranceType, Insurer, Policy, SalesChannel
from apps.crm.services import catalogs, policies

pytestmark = pytest.mark.django_db


@transaction.atomic
def execute_now(sql: str, *parameters: Any) -> None:
    """Executes a statement and checks what is usually checked at commit."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def refused_by(sql: str, *parameters: Any) -> str:
    """The name of the constraint that a statement breaks."""
    with pytest.raises((IntegrityError, DataError)) as caught:
        execute_now(sql, *parameters)
    return str(caught.value.__cause__.diag.constraint_name)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("table", "change", "name"),
    [
        ("client", "status = 'gone'", "crm_client_status_known"),
        ("client", "name = ''", "crm_client_name_given"),
        ("deal", "status = 'closedWon'", "crm_deal_status_known"),
        ("deal", "title = ''", "crm_deal_title_given"),
        ("deal", "next_review_at = '1999-12-31'", "crm_deal_review_in_reason"),
        ("deal", "next_review_at = '2101-01-01'", "crm_deal_review_in_reason"),
        ("dealmember", "role = 'owner'", "crm_dealmember_role_known"),
        ("calculation", "premium_amount = 0", "crm_calculation_premium_positive"),
        ("calculation", "coverage_sum = -1", "crm_calculation_sum_positive"),
        ("calculation", "calculation_date = '1999-12-31'", "crm_calculation_date_in_reason"),
        ("calculation", "status = 'confirmed'", "crm_calculation_move_allowed"),
        ("calculation", "status = 'archived'", "crm_calculation_move_allowed"),
        ("policy", "premium = -0.01", "crm_policy_premium_not_negative"),
        ("policy", "effective_from = '2026-03-02', effective_to = '2026-03-01'", "crm_policy_ends_after_start"),
        ("policy", "status = 'active'", "crm_policy_active_has_an_end"),
        ("policy", "effective_from = '1999-12-31'", "crm_policy_dates_in_reason"),
        ("policy", "effective_to = '2101-01-01'", "crm_policy_dates_in_reason"),
        ("policy", "status = 'closed'", "crm_policy_move_allowed"),
        ("policy", "status = 'pending_renewal', effective_to = '2027-01-01'", "crm_policy_move_allowed"),
    ],
)
def test_values(deal: Deal, calculation: Calculation, policy: Policy, table: str, change: str, name: str) -> None:
    assert refused_by(f"UPDATE crm_{table} SET {change}") == name


@pytest.mark.parametrize("table", ["calculation", "policy"])
def test_unknown_statuses(calculation: Calculation, policy: Policy, table: str) -> None:
    values = f'{{"id": "{uuid4()}", "status": "frozen", "policy_number_key": "Z", "effective_to": "2027-01-01"}}'
    insert = f"INSERT INTO crm_{table} SELECT (jsonb_populate_record(t, %s)).* FROM crm_{table} t"
    assert refused_by(insert, values) == f"crm_{table}_status_known"


@pytest.mark.parametrize("column", ["client_id", "owner_id"])
def test_a_deal_refers_to_what_is_there(deal: Deal, column: str) -> None:
    assert refused_by(f"UPDATE crm_deal SET {column} = %s", uuid4()).startswith(f"crm_deal_{column}")


@pytest.mark.parametrize("table", ["client", "deal", "calculation", "accounts_user"])
def test_what_others_refer_to_is_not_deleted(
    deal: Deal, calculation: Calculation, policy: Policy, seller: User, table: str
) -> None:
    Policy.objects.update(calculation=calculation)
    assert refused_by(f"DELETE FROM {table if '_' in table else f'crm_{table}'}")


def test_the_stage_is_the_databases(deal: Deal) -> None:
    with pytest.raises(Exception, match="stage") as caught, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE crm_deal SET stage = 'proposal'")
    assert caught.value.__cause__.sqlstate == "428C9"  # type: ignore[union-attr]


def test_one_owner_and_one_place_per_reason(deal: Deal, seller: User, executor: User) -> None:
    insert = "INSERT INTO crm_dealmember (deal_id, user_id, role, via, created_at) VALUES (%s, %s, 'seller', %s, now())"
    assert refused_by(insert, deal.pk, executor.pk, "owner") == "crm_dealmember_one_owner"
    assert refused_by(insert, deal.pk, executor.pk, "manual") == "crm_dealmember_once_per_reason"


def test_a_number_lives_once(deal: Deal, policy: Policy, seller: User) -> None:
    values = {"client_id": deal.client_id, "deal_id": deal.pk, "policy_number": "Другой"}
    other = policies.create_policy(values=values, actor=seller)
    update = "UPDATE crm_policy SET policy_number_key = 'XXX0123' WHERE id = %s"
    assert refused_by(update, other.pk) == "crm_policy_number_once_among_living"
    policies.delete_policy(policy_id=policy.pk, actor=seller)
    with connection.cursor() as cursor:
        cursor.execute(update, [other.pk])
    assert refused_by("UPDATE crm_policy SET deleted_at = NULL") == "crm_policy_number_once_among_living"


def test_a_policy_comes_of_one_calculation(deal: Deal, calculation: Calculation, policy: Policy, seller: User) -> None:
    values = {"client_id": deal.client_id, "deal_id": deal.pk, "policy_number": "Другой"}
    policies.create_policy(values=values, actor=seller)
    assert refused_by("UPDATE crm_policy SET calculation_id = %s", calculation.pk) == "crm_policy_calculation_id_key"


@pytest.mark.parametrize("model", [Insurer, InsuranceType, SalesChannel])
def test_a_catalog_name_is_taken_once(admin: User, model: type[Catalog]) -> None:
    for name in ("А", "Б"):
        catalogs.create_entry(model, values={"name": name}, actor=admin)
    table = model._meta.db_table
    assert refused_by(f"UPDATE {table} SET name_key = 'а'") == f"{table}_name_key_key"


def test_one_figure_per_owner_and_stage_nobody_counts_as_one(db: None) -> None:
    insert = (
        "INSERT INTO crm_stagefigure (owner_id, stage, deals, planned_total, cycles, cycle_days)"
        " VALUES (NULL, 'proposal', 0, 0, 0, 0), (NULL, 'proposal', 0, 0, 0, 0)"
    )
    assert refused_by(insert) == "crm_stagefigure_one_per_owner_and_stage"


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("UPDATE crm_policy SET status = 'closed'", "invalid_status_transition", 409),
        ("UPDATE crm_calculation SET status = 'archived'", "invalid_status_transition", 400),
        ("UPDATE crm_policy SET premium = -1", "validation_error", 400),
        ("UPDATE crm_deal SET planned_total = 1e20", "validation_error", 400),
    ],
)
def test_the_last_guard_speaks_like_the_first(
    calculation: Calculation, policy: Policy, sql: str, code: str, status: int
) -> None:
    with pytest.raises((IntegrityError, DataError)) as caught, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
    refusal = as_domain_error(caught.value)
    assert refusal is not None
    assert (refusal.code, refusal.status) == (code, status)
