"""The yardstick: a bare ASGI app that answers the same JSON from the same tables, as fast as Python easily can.

uvicorn, psycopg's async pool of 8, prepared statements, orjson; no rights but a WHERE, no rules, no validation. The
header `X-Caller` is the id of a user whose memberships narrow the rows, or `all`.
"""

import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import orjson
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

Scope = dict[str, Any]
Answer = tuple[int, Any]

STAGES = ("qualification", "negotiation", "proposal", "closedWon", "closedLost")
PAGE = 50
SEEN = "id IN (SELECT deal_id FROM crm_dealmember WHERE user_id = %(caller)s)"
DEAL = """SELECT id, client_id, owner_id, title, description, status, stage, next_review_at, version, created_at,
    updated_at, false AS is_deleted FROM crm_deal WHERE deleted_at IS NULL"""
ORDER = f"ORDER BY next_review_at, updated_at, id LIMIT {PAGE + 1}"
SEARCH = "id IN (SELECT id FROM crm_deal WHERE search_text LIKE %(search)s LIMIT 2147483648)"
METRICS = """SELECT stage, sum(deals) AS deals, sum(planned_total) AS planned, sum(cycles) AS cycles,
    sum(cycle_days) AS days
    FROM (SELECT stage, deals, planned_total, cycles, cycle_days FROM crm_stagefigure
          UNION ALL SELECT stage, deals, planned_total, cycles, cycle_days FROM crm_stagefiguredelta) kept
    GROUP BY stage"""
PAYMENTS = """SELECT id, deal_id, policy_id, sequence, status, planned_date, planned_amount, currency, comment,
    actual_date, recorded_by_id, created_by_id, updated_by_id, incomes_total, expenses_total, net_total, version,
    created_at, updated_at, false AS is_deleted FROM payments_payment
    WHERE policy_id = %(policy)s AND deal_id = %(deal)s AND deleted_at IS NULL"""
SEEN_PAYMENTS = "deal_id IN (SELECT deal_id FROM crm_dealmember WHERE user_id = %(caller)s)"
INCOMES = """SELECT id, payment_id, amount, currency, category, posted_at, note, created_by_id, updated_by_id,
    created_at, updated_at, false AS is_deleted FROM payments_income
    WHERE payment_id = ANY(%(ids)s) AND deleted_at IS NULL
    ORDER BY posted_at, created_at, id"""
NEW_DEAL = """INSERT INTO crm_deal (id, client_id, owner_id, title, description, search_text, status, next_review_at,
    close_reason, closed_from, planned_total, version, created_at, updated_at)
    VALUES (%(id)s, %(client_id)s, %(caller)s, %(title)s, %(description)s, %(search_text)s, 'draft', %(review)s,
    '', '', 0, 1, %(now)s, %(now)s)"""
NEW_MEMBER = """INSERT INTO crm_dealmember (deal_id, user_id, role, via, created_at)
    VALUES (%(id)s, %(caller)s, 'seller', 'owner', %(now)s)"""
NEW_EVENT = """INSERT INTO core_event (id, name, aggregate, aggregate_id, version, deal_id, client_id, actor_id, via,
    trace_id, payload, changes, at) VALUES (%(event_id)s, 'deal.created', 'deal', %(id)s, 1, %(id)s, %(client_id)s,
    %(caller)s, 'http', '', %(payload)s, '{}', %(now)s)"""


async def _prepare(connection: Any) -> None:
    connection.prepare_threshold = 0


pool = AsyncConnectionPool(
    os.environ.get("RAW_DATABASE_URL", ""), min_size=8, max_size=8, open=False, configure=_prepare,
    kwargs={"autocommit": True, "row_factory": dict_row, "options": "-c timezone=UTC"},
)  # fmt: skip


async def rows(statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(statement, values, binary=True)
        return await cursor.fetchall()


def _and(statement: str, caller: str, seen: str = SEEN) -> str:
    return statement if caller == "all" else f"{statement} AND {seen}"


async def deal_list(caller: str, query: dict[str, list[str]]) -> Answer:
    statement, values = _and(DEAL, caller), {"caller": caller}
    if "stage" in query:
        statement += " AND stage = %(stage)s AND owner_id = %(manager)s"
        values |= {"stage": query["stage"][0], "manager": query["manager"][0]}
    if "search" in query:
        statement += f" AND {SEARCH}"
        values["search"] = f"%{query['search'][0].lower()}%"
    found = await rows(f"{statement} {ORDER}", values)
    return 200, found[:PAGE]


async def deal_detail(caller: str, deal_id: str) -> Answer:
    found = await rows(_and(f"{DEAL} AND id = %(id)s", caller), {"caller": caller, "id": deal_id})
    return (200, found[0]) if found else (404, {"code": "deal_not_found"})


async def stage_metrics() -> Answer:
    kept = {row["stage"]: row for row in await rows(METRICS, {})}
    total = sum(int(row["deals"]) for row in kept.values())
    answer = []
    for stage in STAGES:
        row = kept.get(stage) or {"deals": 0, "planned": Decimal("0.00"), "cycles": 0, "days": Decimal(0)}
        deals, cycles = int(row["deals"]), int(row["cycles"])
        answer.append(
            {
                "stage": stage,
                "count": deals,
                "total_value": f"{row['planned']:.2f}",
                "conversion_rate": deals / total if total else 0,
                "avg_cycle_duration_days": float(row["days"] / cycles) if cycles else None,
            }
        )
    return 200, answer


async def payments(caller: str, deal_id: str, policy_id: str) -> Answer:
    values = {"caller": caller, "deal": deal_id, "policy": policy_id}
    found = await rows(f"{_and(PAYMENTS, caller, SEEN_PAYMENTS)} ORDER BY sequence LIMIT {PAGE + 1}", values)
    today = date.today()
    by_id = {}
    for row in found:
        open_ = row["status"] in ("scheduled", "partially_paid")
        row["is_overdue"] = open_ and row["planned_date"] is not None and row["planned_date"] < today
        row["incomes"], row["expenses"] = [], []
        by_id[row["id"]] = row
    for income in await rows(INCOMES, {"ids": list(by_id)}):
        by_id[income["payment_id"]]["incomes"].append(income)
    return 200, {"items": found, "total": len(found)}


async def create_deal(caller: str, body: dict[str, Any]) -> Answer:
    now, deal_id = datetime.now(UTC), uuid.uuid4()
    deal = {
        "id": deal_id, "client_id": body["client_id"], "owner_id": caller, "title": body["title"],
        "description": body["description"], "status": "draft", "stage": "qualification",
        "next_review_at": body["next_review_at"], "version": 1, "created_at": now, "updated_at": now,
        "is_deleted": False,
    }  # fmt: skip
    payload = orjson.dumps({**deal, "deal_id": deal_id, "sales_agent_id": caller}).decode()
    values = {
        "id": deal_id, "client_id": body["client_id"], "caller": caller, "title": body["title"],
        "description": body["description"], "review": body["next_review_at"], "now": now, "event_id": uuid.uuid4(),
        "payload": payload, "search_text": body["title"].lower(),
    }  # fmt: skip
    async with pool.connection() as connection, connection.transaction():
        for statement in (NEW_DEAL, NEW_MEMBER, NEW_EVENT):
            await connection.execute(statement, values)
    return 201, deal


async def answer(scope: Scope, receive: Callable[[], Awaitable[dict[str, Any]]]) -> Answer:
    path: Sequence[str] = scope["path"].strip("/").split("/")
    if path == ["healthz"]:
        return 200, {"status": "ok"}
    caller = next((value.decode() for name, value in scope["headers"] if name == b"x-caller"), "all")
    match path:
        case ["api", "v1", "deals"] if scope["method"] == "POST":
            return await create_deal(caller, orjson.loads(await _body(receive)))
        case ["api", "v1", "deals"]:
            return await deal_list(caller, parse_qs(scope["query_string"].decode()))
        case ["api", "v1", "deals", "stage-metrics"]:
            return await stage_metrics()
        case ["api", "v1", "deals", deal_id]:
            return await deal_detail(caller, deal_id)
        case ["api", "v1", "deals", deal_id, "policies", policy_id, "payments"]:
            return await payments(caller, deal_id, policy_id)
    return 404, {"code": "not_found"}


async def _body(receive: Callable[[], Awaitable[dict[str, Any]]]) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def app(scope: Scope, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await pool.open(wait=True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await pool.close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    status, data = await answer(scope, receive)
    content = orjson.dumps(data, default=str)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
