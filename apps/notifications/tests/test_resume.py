"""From where on a stream goes: where its client was, whatever happens meanwhile."""

import asyncio
import logging
from typing import Any

import pytest
from django.db import OperationalError, connection

from apps.core import services as core_services
from apps.core.models import RelayHead
from apps.core.relay import number_events
from apps.crm.services import members
from apps.notifications.streams import database, hub
from apps.notifications.streams.app import Streams
from apps.notifications.tests.conftest import head, rename

pytestmark = pytest.mark.django_db


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
