"""The kept figures of the stages equal the sums over the deals, after every kind of change, folded or not."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.auth.models import User
from apps.core.models import JobRun
from apps.crm import queries
from apps.crm.jobs import fold_stage_figures, recount_stage_figures
from apps.crm.models import Deal, StageFigure, StageFigureDelta
from apps.crm.services import deals

pytestmark = pytest.mark.django_db

LATER = timezone.now() + timedelta(days=3)


def fold() -> None:
    JobRun.objects.all().delete()  # the next slot
    fold_stage_figures()


def outcome(job: Any) -> dict[str, Any]:
    JobRun.objects.all().delete()
    job()
    return JobRun.objects.get().outcome


def kept(owner_id: Any, stage: str) -> tuple[int, Decimal]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(deals), 0), coalesce(sum(planned_total), 0) FROM ("
            " SELECT owner_id, stage, deals, planned_total FROM crm_stagefigure UNION ALL"
            " SELECT owner_id, stage, deals, planned_total FROM crm_stagefiguredelta) f"
            " WHERE owner_id IS NOT DISTINCT FROM %s AND stage = %s",
            [owner_id, stage],
        )
        return cursor.fetchone()


def rows(**fields: Any) -> Callable[[Deal], None]:
    return lambda deal: Deal.objects.filter(pk=deal.pk).update(**fields) and None


CHANGES: dict[str, Callable[[Deal], Any]] = {
    "nothing": lambda deal: None,
    "title": rows(title="Другое"),
    "stage": rows(status="proposal"),
    "status of the same stage": rows(status="qualification"),
    "closed": rows(status="won"),
    "planned": rows(planned_total=Decimal("1000.50")),
    "planned down": lambda deal: (rows(planned_total=5)(deal), rows(planned_total=2)(deal)),
    "worked on": rows(updated_at=LATER),
    "clock went back": rows(updated_at=timezone.now() - timedelta(days=30)),
    "created earlier": rows(created_at=timezone.now() - timedelta(days=30)),
    "deleted": rows(deleted_at=LATER),
    "deleted and changed": lambda deal: (rows(deleted_at=LATER)(deal), rows(status="won", planned_total=5)(deal)),
    "deleted and restored": lambda deal: (rows(deleted_at=LATER)(deal), rows(deleted_at=None)(deal)),
    "all at once": rows(status="lost", planned_total=7, updated_at=LATER, owner=None),
    "unowned": rows(owner=None),
    "gone from the table": lambda deal: (deal.members.all().delete(), Deal.objects.filter(pk=deal.pk).delete()),
}


@pytest.mark.parametrize("fold_when", ["never", "before", "between", "after"])
@pytest.mark.parametrize("name", list(CHANGES))
def test_equal_to_live_sums(deal_of: Any, seller: User, other_seller: User, name: str, fold_when: str) -> None:
    deal, _neighbour = deal_of(seller), deal_of(other_seller)
    if fold_when != "never":
        fold()
    CHANGES[name](deal)
    if fold_when == "between":
        fold()
        rows(planned_total=11, status="in_progress")(deal)
    if fold_when == "after":
        fold()
        assert not StageFigureDelta.objects.exists()
    assert queries.differing_stage_figures() == 0


def test_the_service_moves_the_figures(deal_of: Any, seller: User, other_seller: User, admin: User) -> None:
    deal = deal_of(seller)
    rows(planned_total=100)(deal)
    assert kept(seller.pk, "qualification") == (1, Decimal(100))
    deals.change_stage(deal_id=deal.pk, stage="proposal", actor=seller)
    assert (kept(seller.pk, "qualification"), kept(seller.pk, "proposal")) == ((0, 0), (1, Decimal(100)))
    deals.change_deal(deal_id=deal.pk, values={"owner_id": other_seller.pk}, actor=admin)
    assert (kept(seller.pk, "proposal"), kept(other_seller.pk, "proposal")) == ((0, 0), (1, Decimal(100)))
    deals.delete_deal(deal_id=deal.pk, actor=other_seller)
    assert kept(other_seller.pk, "proposal") == (0, 0)
    deals.restore_deal(deal_id=deal.pk, actor=other_seller)
    assert kept(other_seller.pk, "proposal") == (1, Decimal(100))


def test_folding_keeps_what_people_read(api: Any, deal_of: Any, admin: User, seller: User) -> None:
    first = deal_of(seller)
    rows(planned_total=Decimal("12.30"), updated_at=first.created_at + timedelta(days=2))(first)
    unowned = deal_of(seller)
    rows(owner=None, planned_total=5)(unowned)

    def read() -> list[Any]:
        url = "/api/v1/deals/stage-metrics"
        queries_ = ({}, {"manager": str(seller.pk)}, {"manager": "__NO_MANAGER__"})
        return [api(admin).get(url, query).json() for query in queries_]

    before = read()
    assert before[0][0]["total_value"] == "17.30"
    assert before[1][0]["avg_cycle_duration_days"] == 2.0
    assert outcome(fold_stage_figures)["deltas"] > 0
    assert read() == before
    assert outcome(fold_stage_figures) == {"deltas": 0}
    rows(planned_total=6)(unowned)
    fold()
    assert read()[2][0]["total_value"] == "6.00"
    assert StageFigure.objects.filter(owner_id=None, stage="qualification").count() == 1


def test_kept_figures_equal_live_ones(api: Any, deal_of: Any, seller: User, admin: User) -> None:
    """`status` is answered from the rows, its absence from the kept figures."""
    for days in (1, 2, 6):
        deal = deal_of(seller)
        rows(planned_total=days, updated_at=deal.created_at + timedelta(days=days))(deal)
    for who in (seller, admin):
        kept_row = api(who).get("/api/v1/deals/stage-metrics").json()[0]
        live_row = api(who).get("/api/v1/deals/stage-metrics", {"status": "draft"}).json()[0]
        assert kept_row == live_row
        assert kept_row["avg_cycle_duration_days"] == 3.0


def test_the_recount_says_what_differs(deal_of: Any, seller: User, caplog: pytest.LogCaptureFixture) -> None:
    deal_of(seller)
    assert outcome(recount_stage_figures) == {"differences": 0}
    assert not caplog.records
    StageFigureDelta.objects.create(
        owner_id=seller.pk, stage="proposal", deals=1, planned_total=0, cycles=0, cycle_days=0
    )
    assert outcome(recount_stage_figures) == {"differences": 1}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert StageFigureDelta.objects.filter(stage="proposal").exists()
