"""Consul: registered while it runs, three settings that follow its store, and nothing that breaks while it is away."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from apps.core import live
from crm2 import discovery, probes
from tests.fake_consul import fake_consul

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def as_it_was():
    level = logging.getLogger().level
    yield
    live._values.clear()
    live._refused.clear()
    logging.getLogger().setLevel(level)


@pytest.fixture
def consul(settings):
    with fake_consul() as (server, address):
        settings.CONSUL_ENABLED = True
        settings.CONSUL_HTTP_ADDR = address
        settings.CONSUL_HTTP_TIMEOUT = 1000
        settings.CONSUL_SERVICE_ADDRESS = "10.1.2.3"
        yield server


@pytest.fixture
def away(settings):
    settings.CONSUL_ENABLED = True
    settings.CONSUL_HTTP_ADDR = "http://127.0.0.1:1"


def put(consul, **values):
    consul.kv = {f"crm2/settings/{name}": value.encode() for name, value in values.items()}


class TestCatalog:
    def test_registered_with_a_check_of_its_readiness(self, consul):
        assert discovery.register()
        (entry,) = consul.services.values()
        entry = {name.lower(): value for name, value in entry.items()}
        assert (entry["id"], entry["name"], entry["address"], entry["port"]) == (
            "crm2-10.1.2.3-8080",
            "crm2",
            "10.1.2.3",
            8080,
        )
        (check,) = entry["checks"]
        check = {name.lower(): value for name, value in check.items()}
        assert check["http"] == "http://10.1.2.3:8080/readyz"
        assert (check["interval"], check["deregistercriticalserviceafter"]) == ("10s", "10m")

    def test_again_only_where_it_was_forgotten(self, consul):
        for _ in range(3):
            assert discovery.register()
        assert consul.asked.count("PUT /v1/agent/service/register") == 1
        consul.services.clear()
        assert discovery.register()
        assert len(consul.services) == 1

    def test_an_address_of_ipv6(self, consul, settings):
        settings.CONSUL_SERVICE_ADDRESS = "2001:db8::1"
        discovery.register()
        (entry,) = consul.services.values()
        assert "http://[2001:db8::1]:8080/readyz" in str(entry)

    def test_deregistered(self, consul):
        discovery.register()
        discovery.deregister()
        assert consul.services == {}
        discovery.deregister()  # somebody was quicker

    def test_a_token_is_sent_and_a_wrong_one_is_no_error_of_ours(self, consul, settings):
        consul.token = "right"
        assert not discovery.register()
        settings.CONSUL_HTTP_TOKEN = "right"
        assert discovery.register()

    def test_away(self, away):
        assert not discovery.register()
        discovery.deregister()

    def test_the_command_registers_again_and_takes_out(self, consul, settings, tmp_path):
        environment = {
            **os.environ, "CONSUL_ENABLED": "true", "CONSUL_HTTP_ADDR": settings.CONSUL_HTTP_ADDR,
            "DJANGO_SETTINGS_MODULE": "crm2.settings.base", "CRM_ENV": "development", "CRM_LOCAL_DIR": str(tmp_path),
        }  # fmt: skip
        program = subprocess.Popen(
            [sys.executable, "manage.py", "consul"], cwd=ROOT, env=environment, stdout=subprocess.PIPE
        )
        try:
            assert program.stdout.readline() == b"Registered as crm2-127.0.0.1-8080.\n"
            assert list(consul.services) == ["crm2-127.0.0.1-8080"]
            program.send_signal(signal.SIGTERM)
            assert program.wait(10) == 0
        finally:
            program.kill()
            program.wait()
            program.stdout.close()
        assert consul.services == {}
        assert "GET /v1/kv/crm2/settings/" in consul.asked  # it follows the settings, as every process does

    def test_the_command_where_there_is_none(self, settings):
        settings.CONSUL_ENABLED = False
        with pytest.raises(CommandError, match="CONSUL_ENABLED"):
            call_command("consul")


class TestSettings:
    def test_three_values(self, consul):
        assert (live.heartbeat_seconds(), live.maintenance_message()) == (15, "")
        put(consul, log_level="WARNING", stream_heartbeat="10", maintenance_message="Сегодня в 22:00 обновление")
        discovery.read_settings()
        assert logging.getLogger().level == logging.WARNING
        assert live.heartbeat_seconds() == 10
        assert live.maintenance_message() == "Сегодня в 22:00 обновление"

    def test_a_key_that_was_deleted_is_the_default_again(self, consul, settings):
        put(consul, log_level="DEBUG", stream_heartbeat="10")
        discovery.read_settings()
        put(consul)
        discovery.read_settings()
        assert logging.getLogger().level == getattr(logging, settings.LOG_LEVEL)
        assert live.heartbeat_seconds() == 15

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("log_level", "verbose"), ("log_level", "debug"), ("log_level", ""), ("log_level", "10"),
            ("stream_heartbeat", "0"), ("stream_heartbeat", "61"), ("stream_heartbeat", "-5"),
            ("stream_heartbeat", "٧"), ("stream_heartbeat", "7.5"), ("stream_heartbeat", "9" * 5000),
            ("stream_heartbeat", ""),
            ("maintenance_message", "а" * 501), ("maintenance_message", "two\nlines"), ("maintenance_message", "\0"),
            ("SECRET_KEY", "x"), ("log_level/deeper", "DEBUG"),
        ],
    )  # fmt: skip
    def test_a_bad_value_changes_nothing_and_is_logged_once(self, consul, caplog, name, value):
        put(consul, log_level="ERROR", stream_heartbeat="20", maintenance_message="Скоро")
        discovery.read_settings()
        caplog.set_level(logging.WARNING, "apps.core.live")
        consul.kv[f"crm2/settings/{name}"] = value.encode()
        before = (logging.getLogger().level, live.heartbeat_seconds(), live.maintenance_message())
        for _ in range(2):
            discovery.read_settings()
        assert (logging.getLogger().level, live.heartbeat_seconds(), live.maintenance_message()) == before
        refused = [each for each in caplog.records if each.message == "live setting refused"]
        assert [each.code for each in refused] == [name]
        assert len(refused[0].reason) < 60

    def test_bytes_that_are_no_text(self, consul):
        consul.kv["crm2/settings/maintenance_message"] = b"\xff\xfe"
        discovery.read_settings()
        assert live.maintenance_message() == ""

    @pytest.mark.parametrize(
        "broken", [(500, b"no leader"), (200, b"<html>"), (200, b"[1]"), (200, b'{"a":1}'), (403, b"")]
    )
    def test_away_or_out_of_its_mind_the_last_values_stay(self, consul, broken):
        put(consul, stream_heartbeat="20")
        discovery.read_settings()
        consul.broken = broken
        discovery.read_settings()
        assert live.heartbeat_seconds() == 20

    def test_followed_in_a_thread(self, consul, monkeypatch):
        monkeypatch.setattr(discovery, "EVERY_SECONDS", 0.05)
        discovery._start()
        put(consul, stream_heartbeat="33")
        deadline = time.monotonic() + 5
        while live.heartbeat_seconds() != 33 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert live.heartbeat_seconds() == 33
        monkeypatch.setattr(discovery, "EVERY_SECONDS", 3600)
        time.sleep(0.1)


class TestHealth:
    def test_up(self, consul):
        assert probes.consul()["consul"] == probes.Found(up=True)

    def test_disabled_counts_as_up(self, settings):
        settings.CONSUL_ENABLED = False
        assert probes.consul()["consul"] == probes.DISABLED

    def test_no_leader(self, consul):
        consul.leader = ""
        assert not probes.consul()["consul"].up

    def test_away(self, away):
        with pytest.raises(discovery.ERRORS):
            probes.consul()


@pytest.mark.django_db
class TestNotice:
    TEXT = "Сегодня <b>в 22:00</b> обновление"

    def test_in_the_admin_escaped(self, admin):
        live.apply({"maintenance_message": self.TEXT})
        browser = Client()
        browser.force_login(admin)
        page = browser.get("/admin/").content.decode()
        assert "Сегодня &lt;b&gt;в 22:00&lt;/b&gt; обновление" in page
        live.apply({})
        assert "обновление" not in browser.get("/admin/").content.decode()

    def test_before_signing_in_too(self):
        live.apply({"maintenance_message": self.TEXT})
        assert "Сегодня &lt;b&gt;" in Client().get("/admin/login/").content.decode()

    def test_in_health(self, api, monkeypatch):
        monkeypatch.setattr(
            probes.lookout, "look", lambda: dict.fromkeys(("database", "migrations"), probes.Found(up=True))
        )
        assert "maintenance" not in api().get("/api/v1/health").data
        live.apply({"maintenance_message": self.TEXT})
        assert api().get("/api/v1/health").data["maintenance"] == self.TEXT
