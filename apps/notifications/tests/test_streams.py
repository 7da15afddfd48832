"""What a stream carries, to whom, from where on."""

import asyncio
import json
import logging
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection, transaction

from apps.auth.services import people, service_tokens
from apps.core import services as core_services
from apps.core.events import emit
from apps.core.middleware import SchemaGuardMiddleware
from apps.core.models import Event, RelayHead
from apps.core.relay import number_events
from apps.crm.services import clients, deals, members, policies
from apps.notifications.streams import database, hub, log
from apps.notifications.streams.app import Streams
from apps.notifications.tests.conftest import Office, head, token_of

pytestmark = pytest.mark.django_db
USERS: dict[str, Any] = {}


def rename(deal: Any, actor: Any, title: str = "КАСКО") -> None:
    deals.change_deal(deal_id=deal.pk, values={"title": title}, actor=actor)


def program(*scopes: str) -> str:
    return service_tokens.create_service_token(name="program", scopes=list(scopes), actor=None)[1]


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


class TestResume:
    @pytest.mark.parametrize("by", ["header", "parameter"])
    def test_exactly_what_was_missed_then_what_is_new(self, office, seller, other_seller, deal_of, monkeypatch, by):
        monkeypatch.setattr("apps.notifications.streams.stream.REPLAYED_AT_ONCE", 3)
        mine, other = deal_of(seller), deal_of(other_seller)

        async def go() -> None:
            await office.tell()
            last = head()
            for number in range(10):
                rename(mine, seller, f"Мой {number}")
                rename(other, other_seller, f"Чужой {number}")
            await office.tell()
            given = {"last_event_id": last} if by == "header" else {}
            query = f"last_event_id={last}" if by == "parameter" else ""
            async with office.listen(seller, query=query, **given) as stream:
                assert (await stream.opening()).id == last
                await office.joined()
                rename(mine, seller, "Мой 10")
                await office.tell()
                frames = [await stream.event() for _ in range(11)]
                assert [each.data["title"] for each in frames] == [f"Мой {n}" for n in range(11)]
                assert [each.position for each in frames] == sorted({each.position for each in frames})
                assert stream.frames.empty()

        office.run(go)

    def test_membership_is_todays(self, office, seller, executor, deal):
        async def go() -> None:
            await office.tell()
            last = head()
            rename(deal, seller)
            deal.refresh_from_db()
            members.remove_member(deal=deal, user_id=executor.pk, actor=seller)
            await office.tell()
            async with office.listen(executor, last_event_id=last) as stream:
                await stream.opening()
                await office.joined()
                assert stream.frames.empty()

        office.run(go)

    def test_the_header_counts_before_the_parameter(self, office, seller):
        async def go() -> None:
            async with office.listen(seller, query="last_event_id=junk", last_event_id=head()) as stream:
                assert (await stream.opening()).id == head()
                await office.joined()
                assert stream.frames.empty()

        office.run(go)

    @pytest.mark.parametrize(
        "given",
        ["junk", "test-", "-5", "other-1", "test-99999999", "test-999999999999999999999", "\xff\x00", "x" * 5000, "{}",
         "test-1; DROP TABLE"],
    )  # fmt: skip
    def test_an_unknown_position_is_said_once(self, office, seller, deal, given):
        RelayHead.objects.update(epoch="test")

        async def go() -> None:
            await office.tell()
            async with office.listen(seller, last_event_id=given) as stream:
                assert (await stream.opening()).id == ""
                reset = await stream.next()
                assert (reset.event, reset.id) == ("reset", head())
                assert reset.data == {"position": head(), "reason": "unknown"}
                await office.joined()
                rename(deal, seller)
                await office.tell()
                assert (await stream.event()).event == "deal.updated"

        office.run(go)

    def test_too_old(self, office, seller, deal, monkeypatch):
        monkeypatch.setattr("apps.notifications.streams.stream.KEPT", 1)

        async def go() -> None:
            await office.tell()
            epoch = RelayHead.objects.get().epoch
            async with office.listen(seller, last_event_id=f"{epoch}-0") as stream:
                await stream.opening()
                reset = await stream.next()
                assert reset.data == {"position": head(), "reason": "too_old"}

        office.run(go)

    def test_a_new_epoch_resets_open_streams(self, office, seller):
        async def go() -> None:
            async with office.listen(seller) as stream:
                await stream.opening()
                await office.joined()
                old = head()
                core_services.new_epoch()
                assert head() != old
                await office.tell()
                reset = await stream.event()
                assert reset.data == {"position": head(), "reason": "unknown"}

        office.run(go)

    def test_one_that_falls_behind_reads_for_itself(self, office, seller, deal, monkeypatch):
        monkeypatch.setattr("apps.notifications.streams.stream.MOST_PENDING", 500)

        async def go() -> None:
            await office.tell()
            async with office.listen(seller) as stream:
                await stream.opening()
                await office.joined()
                for number in range(20):
                    rename(deal, seller, f"Имя {number}")
                await office.tell()
                frames = [await stream.event() for _ in range(20)]
                assert [each.data["title"] for each in frames] == [f"Имя {n}" for n in range(20)]
                assert len({each.id for each in frames}) == 20

        office.run(go)


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "status", "code"),
        [
            ("x=1", 400, "invalid_filters"),
            ("types=", 400, "invalid_filters"),
            ("types=a b", 400, "invalid_filters"),
            ("types=*", 400, "invalid_filters"),
            ("types=deal.*.x", 400, "invalid_filters"),
            ("types=a&types=b", 400, "invalid_filters"),
            ("types=" + ",".join(["a"] * 51), 400, "invalid_filters"),
            ("types=%ff%00", 400, "invalid_filters"),
        ],
    )
    def test_parameters(self, office, seller, query, status, code):
        self._is_refused(office, status, code, who=seller, query=query)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
    def test_methods(self, office, seller, method):
        headers = self._is_refused(office, 405, "method_not_allowed", who=seller, method=method)
        assert headers["allow"] == "GET"

    @pytest.mark.parametrize("name", ["deals", "crm", "notifications", "heartbeat"])
    def test_no_credentials(self, office, name):
        headers = self._is_refused(office, 401, "authorization_required", stream=name)
        assert headers["www-authenticate"] == "Bearer"

    def test_bad_credentials(self, office):
        self._is_refused(office, 401, "invalid_token", who="junk")
        self._is_refused(office, 401, "invalid_authorization_header", authorization="Basic x")

    def test_types_of_a_bare_heartbeat(self, office, seller):
        self._is_refused(office, 400, "invalid_filters", who=seller, stream="heartbeat", query="types=a")

    def test_a_host_of_others(self, office, seller):
        self._is_refused(office, 400, "validation_error", who=token_of(seller), x_trace_id="abc", host="evil.example")

    def test_an_old_schema(self, office, seller, monkeypatch):
        token = token_of(seller)
        monkeypatch.setattr(SchemaGuardMiddleware, "current", False)
        monkeypatch.setattr("apps.core.middleware.migrations_pending", lambda: True)
        headers = self._is_refused(office, 503, "migrations_pending", who=token)
        assert headers["retry-after"] == "5"

    def test_no_database(self, office, seller, monkeypatch):
        token = token_of(seller)

        def away() -> None:
            raise OperationalError

        monkeypatch.setattr(log, "head", away)
        headers = self._is_refused(office, 503, "service_unavailable", who=token)
        assert headers["retry-after"] == "2"

    def test_a_program_without_the_scope(self, office):
        async def go() -> None:
            async with office.listen(program("deals.edit")) as stream:
                await stream.next()
                frame = await stream.next()
                assert (frame.event, frame.data) == ("error", {"code": "forbidden"})
                await stream.closed()
                assert stream.complete

        office.run(go)

    def _is_refused(self, office: Office, status: int, code: str, **asked: Any) -> dict[str, str]:
        async def go() -> dict[str, str]:
            async with office.listen(**asked) as stream:
                await stream.closed()
                assert stream.status == status
                assert stream.headers["content-type"] == "application/problem+json"
                body = json.loads(stream.raw)
                assert body["code"] == code
                assert body["trace_id"] == stream.headers["x-trace-id"]
                return stream.headers

        return office.run(go)


class TestTrouble:
    def test_without_wake_ups_the_hub_looks_for_itself(self, office, seller, deal, settings, monkeypatch):
        settings.CHANNEL_LAYERS = {
            "default": {
                "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
                "CONFIG": {"hosts": ["redis://127.0.0.1:1"]},
            }
        }
        monkeypatch.setattr(hub, "POLL_SECONDS", 0.1)

        async def go() -> None:
            async with office.listen(seller) as stream:
                await stream.opening()
                await office.joined()
                rename(deal, seller)
                with connection.cursor() as cursor:
                    number_events(cursor)
                names = [(await stream.event()).event for _ in range(4)]
                assert names[-1] == "deal.updated"

        office.run(go)

    def test_a_database_that_was_away(self, office, seller, deal, monkeypatch):
        monkeypatch.setattr(hub, "POLL_SECONDS", 0.05)
        well = database.ask
        away = True

        async def ask(function: Any, /, *arguments: Any, **named: Any) -> Any:
            if away and function is not None and arguments == ():
                raise OperationalError
            return await well(function, *arguments, **named)

        async def go() -> None:
            nonlocal away
            await office.tell()
            async with office.listen(seller) as stream:
                await stream.opening()
                await office.joined()
                monkeypatch.setattr(database, "ask", ask)
                rename(deal, seller)
                await office.tell()
                await asyncio.sleep(0.2)
                assert not stream.complete
                away = False
                assert (await stream.event()).event == "deal.updated"

        office.run(go)

    def test_one_line_when_it_is_over_without_the_query(self, office, seller, caplog):
        caplog.set_level(logging.INFO, logger="crm2.access")

        async def go() -> None:
            async with office.listen(seller, query="types=deal.updated", x_trace_id="abc") as stream:
                await stream.opening()
                assert stream.headers["x-trace-id"] == "abc"

        office.run(go)
        (record,) = [each for each in caplog.records if each.name == "crm2.access"]
        assert (record.method, record.route, record.status) == ("GET", "/api/v1/streams/deals", 200)
        assert (record.actor_id, record.reason, record.count) == (seller.pk, "left", 0)
        assert "types" not in str(record.__dict__)

    def test_nothing_is_left_behind(self, office, seller, executor):
        async def go() -> None:
            for _ in range(3):
                async with office.listen(seller) as stream, office.listen(executor):
                    await stream.opening()
            hub_ = office.app.hub
            assert not hub_.streams
            assert not hub_._live
            assert not hub_._joined
            assert not hub_._tasks
            await asyncio.sleep(0.05)
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert left == []

        office.run(go)

    def test_other_addresses_are_left_to_the_site(self, office):
        seen = []

        async def inner(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["path"])

        async def go() -> None:
            for path in ("/api/v1/streams/", "/api/v1/streams/deals/x", "/api/v1/deals", "/streams/deals"):
                await Streams(inner)({"type": "http", "path": path}, None, None)

        office.run(go)
        assert len(seen) == 4


class TestOtherOrigins:
    """A browser program of another origin listens as it reads the rest of the API: by token."""

    ORIGIN = "https://app.example.org"

    @pytest.fixture(autouse=True)
    def listed(self, settings):
        settings.CORS_ALLOW_ALL_ORIGINS = False
        settings.CORS_ALLOWED_ORIGINS = [self.ORIGIN]

    def test_it_asks_first_and_listens(self, office, seller):
        async def go() -> None:
            asked = {"access_control_request_method": "GET", "access_control_request_headers": "last-event-id"}
            async with office.listen(method="OPTIONS", origin=self.ORIGIN, **asked) as stream:
                assert stream.status == 200
                assert stream.headers["access-control-allow-origin"] == self.ORIGIN
                assert "last-event-id" in stream.headers["access-control-allow-headers"]
                assert stream.raw == b""
            async with office.listen(seller, origin=self.ORIGIN) as stream:
                await stream.opening()
                assert stream.headers["access-control-allow-origin"] == self.ORIGIN
                assert stream.headers["content-type"].startswith("text/event-stream")
            async with office.listen(origin=self.ORIGIN) as stream:
                assert (stream.status, stream.headers["access-control-allow-origin"]) == (401, self.ORIGIN)

        office.run(go)

    def test_any_other_is_told_nothing(self, office, seller):
        async def go() -> None:
            async with office.listen(seller, origin="https://evil.example") as stream:
                await stream.opening()
                assert "access-control-allow-origin" not in stream.headers

        office.run(go)
