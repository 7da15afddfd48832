"""`manage.py rabbitmq_setup` on a real broker, with its management API and without."""

import amqp
import pytest
from django.core.management import CommandError, call_command

from crm2.management.commands.rabbitmq_setup import Management

PASSWORD = "tR4mP0l1ne77@/:"


@pytest.fixture
def given(broker, settings):
    """The environment of an installation: a virtual host and a user that are not there yet."""
    settings.RABBITMQ_URL = f"amqp://crm2:tR4mP0l1ne77%40%2F%3A@127.0.0.1:{broker.port}/agency"
    settings.RABBITMQ_MANAGEMENT_URL = broker.management_url
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:6379/0"
    return settings


def connect(broker, user: str, password: str, vhost: str) -> amqp.Connection:
    return amqp.Connection(f"127.0.0.1:{broker.port}", user, password, virtual_host=vhost, connect_timeout=5)


@pytest.mark.broker
class TestSetup:
    def test_makes_all_and_again_is_harmless(self, given, broker, capsys):
        for _ in range(2):
            call_command("rabbitmq_setup")
        said = capsys.readouterr().out
        assert "user crm2" in said
        assert "left to the administrator" not in said
        assert "tR4mP" not in said
        with connect(broker, "crm2", PASSWORD, "agency") as link:
            for queue in ("crm.feed", "notifications.events", "notifications.events.dead"):
                assert link.channel().queue_declare(queue, passive=True)
        management = Management(broker.management_url)
        bindings = {
            (row["source"], row["destination"], row["routing_key"])
            for row in management.get("bindings", "agency")
            if row["source"]
        }
        assert bindings == {
            ("crm.events", "crm.feed", "#"),
            ("tasks.events", "crm.feed", "#"),
            ("notifications.exchange", "crm.feed", "#"),
            ("notifications.exchange", "notifications.events", "notifications.*"),
            ("crm.dead", "notifications.events.dead", "notifications.events"),
        }
        assert management.get("policies", "agency", "crm2-dead")["definition"] == {"max-length-bytes": 1024**3}
        (permissions,) = management.get("users", "crm2", "permissions")
        assert (permissions["vhost"], permissions["configure"]) == ("agency", ".*")
        assert management.get("users", "crm2")["tags"] in ([], "")

    def test_a_password_that_was_changed_is_changed_there_too(self, given, broker):
        call_command("rabbitmq_setup")
        given.RABBITMQ_URL = f"amqp://crm2:another@127.0.0.1:{broker.port}/agency"
        call_command("rabbitmq_setup")
        with connect(broker, "crm2", "another", "agency") as link:
            assert link.connected

    def test_the_administrators_own_account_is_left_alone(self, given, broker):
        given.RABBITMQ_URL = f"amqp://guest:guest@127.0.0.1:{broker.port}/agency"
        call_command("rabbitmq_setup")
        assert "administrator" in Management(broker.management_url).get("users", "guest")["tags"]

    def test_without_the_management_api_it_says_what_is_left(self, given, broker, capsys):
        given.RABBITMQ_URL, given.RABBITMQ_MANAGEMENT_URL = broker.url, ""
        call_command("rabbitmq_setup")
        declared, left = capsys.readouterr().out.splitlines()
        assert declared.startswith("exchanges crm.events, notifications.exchange, tasks.events, crm.dead; queues")
        assert left == (
            "left to the administrator, as RABBITMQ_MANAGEMENT_URL is not set:"
            " virtual hosts, users, permissions, policies"
        )

    def test_a_wrong_administrator(self, given, broker):
        given.RABBITMQ_MANAGEMENT_URL = broker.management_url.replace("guest:guest", "guest:wrong")
        with pytest.raises(CommandError, match="RABBITMQ_MANAGEMENT_URL: PUT vhosts answers 401"):
            call_command("rabbitmq_setup")

    def test_a_wrong_user(self, given, broker):
        given.RABBITMQ_URL, given.RABBITMQ_MANAGEMENT_URL = broker.url.replace("guest:guest", "guest:wrong"), ""
        with pytest.raises(CommandError, match=r"RABBITMQ_URL: .*AccessRefused"):
            call_command("rabbitmq_setup")


def test_there_is_no_broker(settings):
    settings.RABBITMQ_URL, settings.RABBITMQ_MANAGEMENT_URL = "amqp://u:p@127.0.0.1:1/", "http://u:p@127.0.0.1:1"
    with pytest.raises(CommandError, match="RABBITMQ_MANAGEMENT_URL does not answer"):
        call_command("rabbitmq_setup")
    settings.RABBITMQ_MANAGEMENT_URL = ""
    with pytest.raises(CommandError, match="RABBITMQ_URL: "):
        call_command("rabbitmq_setup")


def test_there_is_no_bus():
    with pytest.raises(CommandError, match="RABBITMQ_URL is not set"):
        call_command("rabbitmq_setup")
