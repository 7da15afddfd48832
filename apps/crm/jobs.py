"""Periodic work of crm: the kept figures of the stages are folded together, and checked against their rows."""

import logging
from datetime import timedelta
from typing import Any

from django.db import connection

from apps.core.jobs import periodic
from apps.crm import queries

log = logging.getLogger(__name__)

# One statement: readers add the figures and the deltas in one snapshot, so they see either all of it or nothing.
_FOLD = """
    WITH gone AS (
        DELETE FROM crm_stagefiguredelta RETURNING owner_id, stage, deals, planned_total, cycles, cycle_days
    ), folded AS (
        INSERT INTO crm_stagefigure AS kept (owner_id, stage, deals, planned_total, cycles, cycle_days)
        SELECT owner_id, stage, sum(deals), sum(planned_total), sum(cycles), sum(cycle_days)
        FROM gone GROUP BY owner_id, stage ORDER BY owner_id, stage
        ON CONFLICT (owner_id, stage) DO UPDATE SET
            deals = kept.deals + excluded.deals,
            planned_total = kept.planned_total + excluded.planned_total,
            cycles = kept.cycles + excluded.cycles,
            cycle_days = kept.cycle_days + excluded.cycle_days
    )
    SELECT count(*) FROM gone
"""


@periodic(every=timedelta(seconds=60))
def fold_stage_figures() -> dict[str, Any]:
    """Adds the deltas that the triggers wrote to the kept figures, and forgets them."""
    with connection.cursor() as cursor:
        cursor.execute(_FOLD)
        return {"deltas": int(cursor.fetchone()[0])}


@periodic(every=timedelta(hours=24))
def recount_stage_figures() -> dict[str, Any]:
    """Compares the kept figures with fresh sums; mends nothing, for a difference is a bug that someone must see."""
    differences = queries.differing_stage_figures()
    if differences:
        log.error("kept figures of the stages differ from their deals", extra={"count": differences})
    return {"differences": differences}
