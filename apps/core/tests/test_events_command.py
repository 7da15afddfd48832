"""`manage.py events`: the log and its readers at the terminal."""

import json

import pytest
from django.core.management import CommandError, call_command

from apps.core import relay
from apps.core.events import on
from apps.core.management.commands import events as command
from apps.core.models import Parked, RelayHead, Subscription

pytestmark = pytest.mark.django_db


@pytest.fixture
def say(capsys):
    def run(*arguments: str) -> list[str]:
        call_command("events", *arguments)
        return capsys.readouterr().out.splitlines()

    return run


class TestTail:
    @pytest.fixture
    def pauses(self, monkeypatch):
        """What happens in each pause between two looks; after the last, Ctrl-C."""
        acts: list = []

        def rest(_seconds: float) -> None:
            if not acts:
                raise KeyboardInterrupt
            acts.pop(0)()
            relay.drain()

        monkeypatch.setattr(command.time, "sleep", rest)
        return acts

    def test_follows_from_the_head(self, handlers, happen, say, pauses):
        happen("deal.old")
        relay.drain()
        made = []
        pauses += [lambda: made.append(happen("deal.new")), lambda: made.append(happen("deal.newer"))]
        lines = say("tail")
        assert [line.split()[2] for line in lines] == ["deal.new", "deal.newer"]
        assert lines[0] == (
            f"2 {made[0].at.isoformat(timespec='milliseconds')} deal.new thing {made[0].aggregate_id} v1 command"
        )

    @pytest.mark.parametrize(
        ("types", "shown"),
        [("", "deal.a deal.b user.c"), ("deal.*", "deal.a deal.b"), ("deal.b, user.c", "deal.b user.c"), ("x", "")],
    )
    def test_begins_where_told_and_chooses(self, handlers, happen, say, pauses, types, shown):
        for name in ("deal.before", "deal.a", "deal.b", "user.c"):
            happen(name)
        relay.drain()
        assert " ".join(line.split()[2] for line in say("tail", "--from", "2", "--types", types)) == shown

    def test_more_than_one_look_takes(self, handlers, happen, say, pauses, monkeypatch):
        monkeypatch.setattr(command, "LINES_AT_ONCE", 2)
        for _ in range(5):
            happen()
        relay.drain()
        assert [line.split()[0] for line in say("tail", "--from", "1")] == ["1", "2", "3", "4", "5"]

    def test_refuses_a_position_that_cannot_be(self, say):
        with pytest.raises(CommandError):
            say("tail", "--from", "0")


class TestShow:
    @pytest.mark.parametrize("what", ["pk", "position"])
    def test_one_event_with_its_changes(self, handlers, happen, say, what):
        made = happen("deal.a", changes={"title": ("before", "after")})
        relay.drain()
        made.refresh_from_db()
        shown = json.loads("\n".join(say("show", str(getattr(made, what)))))
        assert (shown["id"], shown["position"], shown["changes"]) == (str(made.pk), 1, {"title": ["before", "after"]})

    @pytest.mark.parametrize("text", ["7", "11111111-1111-4111-8111-111111111111", "x", "9" * 30])
    def test_what_is_not_there(self, say, text):
        with pytest.raises(CommandError):
            say("show", text)


def test_parked(handlers, happen, say):
    @on("*", subscription="s")
    def fail(event) -> None:
        raise ValueError("no such luck")

    happen("deal.a")
    relay.drain()
    (row,) = Parked.objects.all()
    then = row.next_try_at.isoformat(timespec="seconds")
    assert say("parked") == [f"{row.pk} s @1 deal.a tries=1 next {then} ValueError: no such luck"]
    Parked.objects.update(next_try_at=None)
    assert say("parked") == [f"{row.pk} s @1 deal.a tries=1 no next try ValueError: no such luck"]


class TestStatusOfTheBus:
    @pytest.fixture
    def row(self, handlers, happen, settings):
        settings.RABBITMQ_URL = "amqp://u:p@127.0.0.1:1/"
        for name in ("deal.a", "user.b", "deal.c"):
            happen(name)
        relay.drain()
        return Subscription.objects.create(name="rabbitmq", position=1)

    def test_well(self, row, say):
        assert say("status") == [f"head {RelayHead.objects.get()}", "rabbitmq @1 parked=0 unpublished=1"]

    def test_standing_still(self, row, say):
        Subscription.objects.update(error="blocked", failing_since="2026-03-10T09:00:00+00:00")
        assert say("status")[1] == "rabbitmq @1 parked=0 unpublished=1 blocked since 2026-03-10T09:00:00+00:00"

    def test_off(self, row, say, settings):
        settings.RABBITMQ_URL = ""
        assert say("status")[1] == "rabbitmq @1 parked=0 off"
