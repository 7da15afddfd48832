"""When a stream ends: its caller may listen no longer, has too many, or does not read."""

import asyncio
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import OperationalError
from django.utils import timezone

from apps.auth import credentials
from apps.auth.models import ServiceToken, Session, User, UserRole
from apps.auth.services import people, service_tokens
from apps.core.models import RelayHead
from apps.crm.services import deals
from apps.notifications.streams import stream as streams
from apps.notifications.streams.census import COUNTED, MOST_STREAMS, Census
from apps.notifications.tests.conftest import Listener, Office, token_of

pytestmark = pytest.mark.django_db


async def ends_with(stream: Listener, code: str) -> None:
    frame = await stream.event()
    assert (frame.event, frame.data) == ("error", {"code": code})
    await stream.closed()
    assert stream.complete


def admin_cookie(user: User) -> str:
    """The session of a sign-in to the admin."""
    store = import_module(django_settings.SESSION_ENGINE).SessionStore()
    store[SESSION_KEY], store[BACKEND_SESSION_KEY] = str(user.pk), "apps.auth.backends.EmailBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    return str(store.session_key)


def cookie(key: str) -> dict[str, str]:
    return {"cookie": f"{django_settings.SESSION_COOKIE_NAME}={key}"}


def sign_out(user: User) -> None:
    Session.objects.filter(user=user).update(ended_at=timezone.now(), end_reason=Session.SIGNED_OUT)


class TestTheRightIsLost:
    @pytest.mark.parametrize(
        "act",
        [
            sign_out,
            lambda user: people.change_user(user=user, actor=None, enabled=False),
            lambda user: people.set_password(user=user, password="Летний-сад-2026", actor=None),
            lambda user: people.assign_role(user=user, role="ROLE_EXECUTOR", actor=None),
        ],
        ids=["sign-out", "disabling", "password", "role"],
    )
    @pytest.mark.parametrize("name", ["deals", "heartbeat"])
    def test_of_a_session(self, office, seller, reader, act, name):
        async def go() -> None:
            async with office.listen(seller, name) as stream, office.listen(reader, name) as another:
                await stream.opening()
                act(seller)
                await stream_ends(stream)
                assert not another.complete

        async def stream_ends(stream: Listener) -> None:
            async with asyncio.timeout(2):
                while not (frame := await stream.next()).event:
                    pass
            assert (frame.event, frame.data) == ("error", {"code": "session_ended"})
            await stream.closed()

        office.run(go)

    def test_at_the_end_of_the_token(self, office, seller, settings):
        settings.AUTH_ACCESS_TOKEN_TTL = 1

        async def go() -> None:
            async with office.listen(seller) as stream:
                await stream.opening()
                await ends_with(stream, "session_ended")

        office.run(go)

    @pytest.mark.parametrize("how", ["revoked", "expired"])
    def test_of_a_program(self, office, how):
        async def go() -> None:
            token, text = service_tokens.create_service_token(name="p", scopes=["events.view"], actor=None)
            async with office.listen(text) as stream:
                await stream.opening()
                if how == "revoked":
                    service_tokens.revoke_service_token(token_id=token.pk, actor=None)
                else:
                    ServiceToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
                await ends_with(stream, "session_ended")

        office.run(go)

    @pytest.mark.parametrize(
        "act",
        [
            lambda user, store: store.flush(),
            lambda user, store: people.change_user(user=user, actor=None, enabled=False),
            lambda user, store: people.set_password(user=user, password="Летний-сад-2026", actor=None),
        ],
        ids=["sign-out", "disabling", "password"],
    )
    def test_of_a_sign_in_to_the_admin(self, office, admin, make_user, act):
        user = make_user("second", "ROLE_ADMIN")

        async def go() -> None:
            key = admin_cookie(user)
            async with office.listen(**cookie(key)) as stream:
                await stream.opening()
                act(user, import_module(django_settings.SESSION_ENGINE).SessionStore(key))
                await ends_with(stream, "session_ended")

        office.run(go)

    def test_without_any_role(self, office, seller):
        async def go() -> None:
            async with office.listen(seller) as stream:
                await stream.opening()
                UserRole.objects.filter(user=seller).delete()
                await ends_with(stream, "forbidden")
            async with office.listen(seller) as stream:
                await stream.next()
                await ends_with(stream, "forbidden")

        office.run(go)

    def test_a_role_that_shows_less_shows_less(self, office, admin, seller, deal, make_user):
        lead = make_user("lead", "ROLE_TEAM_LEAD")

        async def go() -> None:
            await office.tell()
            async with office.listen(**cookie(admin_cookie(lead))) as stream:
                await stream.opening()
                await office.joined()
                UserRole.objects.filter(user=lead, role__name="ROLE_TEAM_LEAD").delete()
                (opened,) = office.app.hub.streams
                async with asyncio.timeout(2):
                    while len(opened.keys) > 1:
                        await asyncio.sleep(0.01)
                deals.change_deal(deal_id=deal.pk, values={"title": "Новое"}, actor=seller)
                await office.tell()
                async with asyncio.timeout(2):
                    while office.app.hub.position < RelayHead.objects.get().position:
                        await asyncio.sleep(0.01)
                assert stream.frames.empty()
                assert not stream.complete

        office.run(go)

    def test_nobody_is_sent_away_because_the_database_is(self, office, seller, monkeypatch):
        def away(*_: Any, **__: Any) -> None:
            raise OperationalError

        async def go() -> None:
            async with office.listen(seller) as stream:
                await stream.opening()
                with monkeypatch.context() as patch:
                    patch.setattr(credentials, "standing", away)
                    await asyncio.sleep(0.2)
                    assert not stream.complete
                sign_out(seller)
                await ends_with(stream, "session_ended")

        office.run(go)


class TestFiveStreams:
    def test_the_oldest_is_closed(self, office, seller, reader):
        token = token_of(seller)

        async def go() -> None:
            async with (
                office.listen(reader) as another,
                office.listen(token) as oldest,
                office.listen(token) as second,
                office.listen(token),
                office.listen(token),
                office.listen(token, "notifications"),
            ):
                await oldest.opening()
                await asyncio.sleep(0.05)
                assert not oldest.complete
                async with office.listen(token, "heartbeat"):
                    await ends_with(oldest, "too_many_streams")
                    assert not second.complete
                assert not another.complete

        office.run(go)

    def test_over_all_processes(self, office, seller):
        """Two applications on one channel layer stand for two processes."""
        token = token_of(seller)

        async def go() -> None:
            other = Office()
            other.app = type(office.app)(None)
            async with office.listen(token) as oldest, office.listen(token) as second:
                await oldest.opening()
                await second.opening()
                async with other.listen(token), other.listen(token), other.listen(token):
                    await asyncio.sleep(0.1)
                    assert not oldest.complete
                    async with other.listen(token):
                        await ends_with(oldest, "too_many_streams")
                        await asyncio.sleep(0.1)
                        assert not second.complete

        office.run(go)

    def test_the_census_forgets_processes_that_are_gone(self, monkeypatch):
        user, streams_ = _ids(1)[0], _ids(6)
        mine, other = Census("a"), Census("b")
        mine.opened(user, streams_[0], 1.0)
        for number, each in enumerate(streams_[1:]):
            other.opened(user, each, 2.0 + number)
        assert list(mine.hear(other.news())) == [user]
        assert mine.surplus(user) == {streams_[0]}
        assert other.surplus(user) == set()
        assert len(streams_) == MOST_STREAMS + 1
        other.closed(user, streams_[3])
        mine.hear(other.news())
        assert mine.surplus(user) == set()
        mine.hear({"type": COUNTED, "process": "a", "whole": True, "users": {}})  # its own echo
        assert mine.surplus(user) == set()
        other.opened(user, streams_[3], 9.0)
        mine.hear(other.news())
        monkeypatch.setattr("apps.notifications.streams.census.FORGOTTEN_SECONDS", -1.0)
        assert mine.surplus(user) == set()


def _ids(count: int) -> list[UUID]:
    return [uuid4() for _ in range(count)]


class TestSlowReaders:
    def test_one_whose_sends_do_not_end(self, office, seller, executor, deal, monkeypatch):
        monkeypatch.setattr(streams, "SLOW_SECONDS", 0.2)

        async def go() -> None:
            await office.tell()
            async with office.listen(seller) as slow, office.listen(executor) as quick:
                await slow.opening()
                await quick.opening()
                await office.joined(2)
                slow.flowing.clear()
                deals.change_deal(deal_id=deal.pk, values={"title": "Новое"}, actor=seller)
                await office.tell()
                await slow.closed()
                assert not slow.complete
                assert len(office.app.hub.streams) == 1
                assert (await quick.event()).event == "deal.updated"

        office.run(go)

    def test_one_who_takes_no_last_words(self, office, seller, monkeypatch):
        monkeypatch.setattr(streams, "LAST_WORDS_SECONDS", 0.1)

        async def go() -> None:
            async with office.listen(seller) as stream:
                await stream.opening()
                await office.joined()
                stream.flowing.clear()
                sign_out(seller)
                await stream.closed()
                assert not office.app.hub.streams

        office.run(go)

    def test_what_was_sent_must_come_through(self):
        """Bytes that lie undelivered, though `send` takes more and more."""

        class Wire:
            waiting = 0

            def undelivered(self) -> int:
                return self.waiting

        wire, cut = Wire(), []
        made = streams.Stream(
            kind="crm", asked=None, user_id=None, keys=frozenset(), credential=None, hub=None, send=None, wire=wire,
            cut=lambda: cut.append(1),
        )  # fmt: skip
        start = made._mark_at
        made._sent = 1000
        made.watch(start + 1)  # all came through
        made._sent, wire.waiting = 5000, 4000
        made.watch(start + 2)
        made._sent, wire.waiting = 9000, 6000  # what was sent at 2 is not through
        made.watch(start + 15)
        assert not cut
        made._sent, wire.waiting = 12000, 6500  # it is now: another 15 seconds for the rest
        made.watch(start + 16)
        made.watch(start + 30)
        assert not cut
        made.watch(start + 32)
        assert cut
