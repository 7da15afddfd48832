"""What a stream carries, and to whom."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from apps.auth.services import people
from apps.core.events import emit
from apps.core.models import Event, RelayHead
from apps.crm.services import clients, deals, members, policies
from apps.notifications.tests.conftest import Office, head, program, rename

pytestmark = pytest.mark.django_db
USERS: dict[str, Any] = {}


def inbound(recipients: Any, type_: str = "deal.overdue") -> Event:
    message = uuid4()
    data = {"title": "Просрочено", **({"recipients": recipients} if recipients is not None else {})}
    with transaction.atomic():
        return emit(
            "notification.received", None, actor=None, aggregate="notification", aggregate_id=message, version=1,
            payload={"id": str(message), "source": "crm.tasks", "type": type_, "time": "2026-11-01T00:00:00Z",
                     "data": data},
        )  # fmt: skip


class TestFrames:
    def test_the_first_frames(self, office, seller):
        async def go() -> None:
            async with office.listen(seller) as stream:
                retry = await stream.next()
                assert 3000 <= retry.retry <= 3600
                beat = await stream.next()
                assert beat.event == "heartbeat"
                assert beat.id == head()
                assert beat.data.keys() == {"upstream", "ts"}
                assert beat.data["upstream"] == "crm"
                assert stream.status == 200
                assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
                assert stream.headers["cache-control"] == "no-cache, no-transform"
                assert stream.headers["x-accel-buffering"] == "no"
                assert len(stream.headers["x-trace-id"]) == 32

        office.run(go)

    def test_an_event_verbatim(self, office, seller, deal):
        async def go() -> None:
            await office.tell()
            deal.refresh_from_db()
            async with office.listen(seller, "crm/") as stream:
                await stream.opening()
                members.remove_member(deal=deal, user_id=deal.members.get(role="executor").user_id, actor=seller)
                await office.tell()
                frame = await stream.event()
                event = Event.objects.get(name="deal.member.removed")
                told = b"id: %s\nevent: deal.member.removed\ndata: " % head().encode()
                assert told in stream.raw
                assert frame.data == event.payload
                assert b"\ndata: " + json.dumps(frame.data, separators=(",", ":")).encode() + b"\n\n" in stream.raw

        office.run(go)

    def test_heartbeats_bear_the_position_served(self, office, seller, other_seller, deal_of, settings):
        settings.STREAM_HEARTBEAT = 0.1

        async def go() -> None:
            async with office.listen(seller) as stream:
                first = await stream.opening()
                deal_of(other_seller)  # nothing for the seller
                await office.tell()
                async with asyncio.timeout(2):
                    while (beat := await stream.next()).id != head():
                        assert beat.event == "heartbeat"
                assert beat.position > first.position

        office.run(go)

    def test_the_bare_heartbeat(self, office, reader, settings):
        settings.STREAM_HEARTBEAT = 0.1

        async def go() -> None:
            async with office.listen(reader, "heartbeat") as stream:
                await stream.next()
                frames = [await stream.next() for _ in range(3)]
                assert [each.data for each in frames] == [{"type": "heartbeat", "sequence": n} for n in range(3)]
                assert not any(each.id or each.event for each in frames)

        office.run(go)


class TestWhoSeesWhat:
    def _received(self, office: Office, people: dict[str, Any], act: Any, query: str = "") -> dict[str, list[str]]:
        """The names of the events that each gets, in order, after all have opened their streams."""
        got: dict[str, list[str]] = {}

        async def one(name: str, who: Any, opened: asyncio.Barrier) -> None:
            async with office.listen(who, query=query) as stream:
                await stream.opening()
                await opened.wait()
                await opened.wait()
                async with asyncio.timeout(2):
                    while office.app.hub.position < RelayHead.objects.get().position:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.02)
                got[name] = [f.event for f in [stream.frames.get_nowait() for _ in range(stream.frames.qsize())]]

        async def go() -> None:
            await office.tell()  # what the cast has cost
            opened = asyncio.Barrier(len(people) + 1)
            tasks = [asyncio.create_task(one(name, who, opened)) for name, who in people.items()]
            await opened.wait()
            act()
            await office.tell()
            await opened.wait()
            await asyncio.gather(*tasks)

        office.run(go)
        return got

    def test_of_a_deal(self, office, deal, admin, seller, executor, other_seller, reader, make_user):
        observer = make_user("observer")
        members.add_member(deal=deal, user_id=observer.pk, role="observer", actor=seller)
        lead = make_user("lead", "ROLE_TEAM_LEAD")
        cast = {
            "admin": admin, "seller": seller, "executor": executor, "observer": observer, "lead": lead,
            "program": program("events.view"), "other_seller": other_seller, "reader": reader,
        }  # fmt: skip

        def act() -> None:
            rename(deal, seller)
            policies.create_policy(
                values={"client_id": deal.client_id, "deal_id": deal.pk, "policy_number": "A 1"}, actor=seller
            )

        got = self._received(office, cast, act)
        seeing = {"admin", "seller", "executor", "observer", "lead", "program"}
        assert got == {name: ["deal.updated", "policy.created"] if name in seeing else [] for name in cast}

    def test_of_a_client_and_a_policy_without_a_deal(self, office, admin, seller, other_seller, client_of):
        client = client_of(seller)

        def act() -> None:
            clients.change_client(client_id=client.pk, values={"name": "Другое имя"}, actor=seller)
            policies.create_policy(values={"client_id": client.pk, "policy_number": "A 2"}, actor=seller)

        got = self._received(office, {"admin": admin, "seller": seller, "other": other_seller}, act)
        both = ["client.updated", "policy.created"]
        assert got == {"admin": both, "seller": both, "other": []}

    def test_of_a_deleted_deal(self, office, deal, seller, executor):
        got = self._received(office, {"executor": executor}, lambda: deals.delete_deal(deal_id=deal.pk, actor=seller))
        assert got == {"executor": ["deal.deleted"]}

    def test_what_is_no_business_of_the_office_is_not_shown(self, office, admin, make_user):
        got = self._received(
            office,
            {"admin": admin},
            lambda: people.create_user(email="new@example.com", password="Зимний-лес-2027", actor=admin),
        )
        assert got == {"admin": []}

    @pytest.mark.parametrize(
        ("types", "shown"),
        [
            ("deal.updated", ["deal.updated"]),
            ("policy.created,deal.updated", ["deal.updated", "policy.created"]),
            ("policy.*", ["policy.created"]),
            ("deal.payment.*", []),
            ("deal.*, policy.created", ["deal.updated", "policy.created"]),
        ],
    )
    def test_types(self, office, deal, seller, types, shown):
        def act() -> None:
            rename(deal, seller)
            policies.create_policy(
                values={"client_id": deal.client_id, "deal_id": deal.pk, "policy_number": "A 1"}, actor=seller
            )

        assert self._received(office, {"seller": seller}, act, f"types={types}") == {"seller": shown}


class TestNotifications:
    def _shown(self, office: Office, who: Any) -> list[Any]:
        async def go() -> list[Any]:
            before = head()
            inbound([{"userId": str(USERS["seller"])}, {"userId": "junk"}, 7])
            inbound([], "office.closed")
            inbound(None, "line\nbreak")
            await office.tell()
            async with office.listen(who, "notifications", last_event_id=before) as stream:
                beat = await stream.opening()
                assert beat.data["upstream"] == "notifications"
                await office.joined()
                return [stream.frames.get_nowait() for _ in range(stream.frames.qsize())]

        return office.run(go)

    @pytest.fixture(autouse=True)
    def _users(self, seller):
        USERS["seller"] = seller.pk

    def test_to_those_it_is_addressed_to(self, office, seller, other_seller):
        (frame,) = self._shown(office, seller)
        assert frame.event == "deal.overdue"
        assert frame.data.keys() == {"eventType", "payload"}
        assert frame.data["eventType"] == "deal.overdue"
        assert frame.data["payload"]["title"] == "Просрочено"
        assert self._shown(office, other_seller) == []

    def test_to_admins_what_is_addressed_to_nobody(self, office, admin):
        frames = self._shown(office, admin)
        assert [each.event for each in frames] == ["office.closed", "line break"]

    def test_to_programs_all(self, office):
        assert len(self._shown(office, program("events.view"))) == 3
