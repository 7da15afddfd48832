"""The kernel in the admin: to look at, for those who may see events; a parked event can be tried again."""

from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.core import relay, work
from apps.core.events import on
from apps.core.models import CrashedJob, JobRun, Parked, Subscription

pytestmark = pytest.mark.django_db
MODELS = ["event", "subscription", "parked", "jobrun", "unpublishedevent", "crashedjob"]


@pytest.fixture
def browser():
    def signed(user) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return signed


@pytest.fixture
def parked(handlers, happen) -> Parked:
    @on("*", subscription="s")
    def fail(event) -> None:
        raise ValueError("no such luck")

    happen("deal.created", deal_id=uuid4())
    relay.drain()
    return Parked.objects.get()


def url(model: str, page: str = "changelist", *args: object) -> str:
    return reverse(f"admin:core_{model}_{page}", args=args)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("who", "status"), [("admin", 200), ("seller", 403), ("reader", 302)])
def test_who_may_look(browser, request, parked, model, who, status):
    assert browser(request.getfixturevalue(who)).get(url(model)).status_code == status


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_added(browser, admin, model):
    assert browser(admin).get(url(model, "add")).status_code == 403


def test_an_event_is_shown_and_not_changed(browser, admin, parked):
    page = browser(admin).get(url("event", "change", parked.event_id))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert browser(admin).post(url("event", "change", parked.event_id), {"name": "x"}).status_code == 403
    assert browser(admin).post(url("event", "delete", parked.event_id), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("what", ["pk", "deal_id", "aggregate_id", "trace_id", "name", "position"])
def test_events_are_found(browser, admin, happen, what):
    wanted = happen("deal.found", deal_id=uuid4())
    happen("deal.other", deal_id=uuid4())
    type(wanted).objects.filter(pk=wanted.pk).update(position=777)
    wanted.refresh_from_db()
    term = str(getattr(wanted, what)) or "nothing"
    found = browser(admin).get(url("event"), {"q": term})
    expected = [] if what == "trace_id" else [wanted]
    assert list(found.context["cl"].result_list) == expected


@pytest.mark.parametrize("term", ["9" * 40, "%", "' OR 1=1", "٣"])
def test_a_strange_search_finds_nothing(browser, admin, happen, term):
    happen()
    page = browser(admin).get(url("event"), {"q": term})
    assert (page.status_code, list(page.context["cl"].result_list)) == (200, [])


@pytest.mark.parametrize(
    ("filters", "count"), [({"name": "a"}, 1), ({"via": "command"}, 2), ({"via": "http"}, 0), ({}, 2)]
)
def test_events_are_narrowed(browser, admin, happen, filters, count):
    happen("a")
    happen("b")
    assert len(browser(admin).get(url("event"), filters).context["cl"].result_list) == count


def test_retry_wakes_the_parked_event(browser, admin, parked):
    Parked.objects.update(tries=5, next_try_at=None)
    answer = browser(admin).post(url("parked"), {"action": "retry", "_selected_action": [parked.pk]}, follow=True)
    assert answer.status_code == 200
    parked.refresh_from_db()
    assert parked.tries == 0
    assert parked.next_try_at is not None


def test_subscriptions_show_what_is_parked(browser, admin, parked):
    (row,) = browser(admin).get(url("subscription")).context["cl"].result_list
    assert (row.pk, row.parked_events) == ("s", 1)
    assert Subscription.objects.get().position == 1


def test_a_list_counts_no_further_than_it_must(browser, admin, monkeypatch):
    monkeypatch.setattr("apps.core.admin_base.MOST_COUNTED", 3)
    for number in range(5):
        JobRun.objects.create(job=str(number), slot="2026-01-01T00:00:00Z")
    assert browser(admin).get(url("jobrun")).context["cl"].result_count == 3


class TestTheBus:
    @pytest.fixture
    def waiting(self, happen, settings):
        """Two events that are to leave, one that is not, one that has left."""
        settings.RABBITMQ_URL = "amqp://u:p@127.0.0.1:1/"
        made = [happen(name) for name in ("deal.left", "deal.first", "user.created", "client.unnumbered")]
        relay.drain()
        Subscription.objects.create(
            name="rabbitmq", position=1, error="unroutable", failing_since="2026-03-10T09:00:00+00:00"
        )
        return [made[1], made[3]]

    def test_what_waits_is_listed_under_the_reason(self, browser, admin, waiting):
        page = browser(admin).get(url("unpublishedevent"), headers={"accept-language": "en"})
        assert [row.pk for row in page.context["cl"].result_list] == [each.pk for each in waiting]
        text = page.content.decode()
        assert "No queue is bound to the exchange. Since March 10, 2026, noon." in text

    def test_a_retry_rings_the_relay(self, browser, admin, waiting, committed_ring):
        chosen = {"action": "retry", "_selected_action": [str(waiting[0].pk)]}
        answer = browser(admin).post(url("unpublishedevent"), chosen, follow=True)
        assert answer.status_code == 200
        assert committed_ring == ["apps.core.services"]

    def test_subscriptions_show_lag_and_alarm(self, browser, admin, waiting):
        text = browser(admin).get(url("subscription"), headers={"accept-language": "en"}).content.decode()
        assert "No queue is bound to the exchange." in text
        assert ">3<" in text

    def test_more_subscriptions_cost_no_more_queries(self, browser, admin, waiting):
        page, counts = browser(admin), []
        page.get(url("subscription"))  # what is asked once per process
        for more in (0, 5):
            Subscription.objects.bulk_create(Subscription(name=f"more.{number}") for number in range(more))
            with CaptureQueriesContext(connection) as asked:
                page.get(url("subscription"))
            counts.append(len(asked))
        assert counts[0] == counts[1]

    def test_without_a_bus_nothing_is_behind(self, browser, admin, waiting, settings):
        settings.RABBITMQ_URL = ""
        text = browser(admin).get(url("subscription"), headers={"accept-language": "en"}).content.decode()
        assert ">off<" in text
        page = browser(admin).get(url("unpublishedevent"), headers={"accept-language": "en"})
        assert list(page.context["cl"].result_list) == []
        assert "There is no bus" in page.content.decode()

    @pytest.fixture
    def committed_ring(self, monkeypatch):
        """Who rang; that a ring ends the publisher's pause is test_publisher's."""
        rung: list[str] = []
        monkeypatch.setattr("apps.core.services.retry_publishing", lambda: rung.append("apps.core.services"))
        return rung


class TestJobs:
    def test_every_periodic_job_with_its_last_run_and_failure(self, browser, admin):
        job = "apps.core.jobs.purge_idempotency_keys"
        for hour, error in ((1, "ValueError: no room"), (2, "")):
            JobRun.objects.create(
                job=job, slot=f"2026-01-01T0{hour}:00:00Z", finished_at="2026-01-01T02:00:00Z", error=error,
                outcome={} if error else {"keys": 7},
            )  # fmt: skip
        page = browser(admin).get(url("jobrun"))
        standing = next(each for each in page.context["standings"] if each.job == job)
        assert (standing.last.outcome, standing.failed.error, standing.overdue) == (
            {"keys": 7},
            "ValueError: no room",
            True,
        )
        text = page.content.decode()
        assert "apps.payments.jobs.recount" in text  # known though it never ran
        assert "ValueError: no room" in text

    @pytest.mark.parametrize(("end", "count"), [("failed", 1), ("unfinished", 1), ("", 3)])
    def test_runs_by_their_end(self, browser, admin, end, count):
        JobRun.objects.create(job="a", slot="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:00Z")
        JobRun.objects.create(job="b", slot="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:00Z", error="x")
        JobRun.objects.create(job="c", slot="2026-01-01T00:00:00Z")
        page = browser(admin).get(url("jobrun"), {"end": end} if end else {})
        assert page.context["cl"].result_count == count

    def test_a_job_that_was_put_aside_is_run_again_and_one_that_is_tried_is_not(self, browser, admin, monkeypatch):
        started = []
        monkeypatch.setattr(work, "run_again", lambda *, pk: started.append(pk))
        dead = CrashedJob.objects.create(id=uuid4(), job="a", runs=6, dead_at="2026-01-01T00:00:00Z")
        tried = CrashedJob.objects.create(id=uuid4(), job="a", runs=2)
        sent = {"action": "run_again", "_selected_action": [str(dead.pk), str(tried.pk)]}
        assert browser(admin).post(url("crashedjob"), sent, follow=True).status_code == 200
        assert started == [dead.pk]

    def test_a_broker_that_is_away_is_told(self, browser, admin, monkeypatch):
        def away(*, pk):
            raise work.BrokerAway

        monkeypatch.setattr(work, "run_again", away)
        dead = CrashedJob.objects.create(id=uuid4(), job="a", runs=6, dead_at="2026-01-01T00:00:00Z")
        sent = {"action": "run_again", "_selected_action": [str(dead.pk)]}
        page = browser(admin).post(url("crashedjob"), sent, follow=True)
        assert str(work.BrokerAway()) in page.content.decode()
        assert CrashedJob.objects.exists()
