"""`manage.py ensure_admin`: the first administrator, as AUTH_BOOTSTRAP_* say."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError

from apps.auth.models import Role, User
from apps.auth.services import people
from apps.core.models import Event

PASSWORD = "Первый-вход-2026"


@pytest.fixture
def run(db, settings):
    """`run(**settings)`: what the command said."""
    settings.AUTH_BOOTSTRAP_ENABLED = True
    settings.AUTH_BOOTSTRAP_EMAIL = " Chief@Example.com "
    settings.AUTH_BOOTSTRAP_PASSWORD = PASSWORD
    settings.AUTH_BOOTSTRAP_ROLES = ["ROLE_ADMIN"]

    def call(**changed):
        for name, value in changed.items():
            setattr(settings, f"AUTH_BOOTSTRAP_{name}", value)
        out = StringIO()
        call_command("ensure_admin", stdout=out)
        return out.getvalue()

    return call


def chief():
    return User.objects.with_roles().get(email="chief@example.com")


def test_makes_an_administrator(run, sign_in):
    run()
    assert chief().role_names == {"ROLE_ADMIN", "ROLE_USER"}
    assert sign_in("chief@example.com", PASSWORD).status_code == 200


def test_repeating_changes_nothing(run, sign_in):
    run()
    before, events = chief(), Event.objects.count()
    run(PASSWORD="Другой-пароль-2026")
    assert (chief().version, chief().password) == (before.version, before.password)
    assert Event.objects.count() == events


@pytest.mark.parametrize(
    "changed",
    [
        {"ENABLED": False},
        {"EMAIL": "  "},
        {"PASSWORD": ""},
        {"PASSWORD": "short"},
        {"EMAIL": "no-at-sign"},
        {"ROLES": ["x" * 70]},
    ],
)
def test_makes_nobody_and_does_not_fail(run, changed):
    run(**changed)
    assert not User.objects.exists()
    assert not Event.objects.exists()


@pytest.mark.parametrize("roles", [[], ["", " "]])
def test_no_roles_mean_administrator(run, roles):
    run(ROLES=roles)
    assert chief().is_admin


def test_unknown_roles_are_made_and_given(run):
    run(ROLES=[" admin", "courier "])
    assert Role.objects.filter(name="ROLE_COURIER").exists()
    assert chief().role_names == {"ROLE_ADMIN", "ROLE_COURIER", "ROLE_USER"}


def test_an_existing_user_gets_the_role_and_keeps_the_password(run, seller, sign_in):
    run(EMAIL=seller.email)
    assert User.objects.with_roles().get(pk=seller.pk).is_admin
    assert sign_in(seller.email).status_code == 200


def test_failure_is_logged_without_the_password(run, caplog):
    with caplog.at_level("INFO"):
        run(PASSWORD="short-77")
    assert any("bootstrap" in record.message for record in caplog.records)
    assert "short-77" not in str([record.__dict__ for record in caplog.records])


def test_two_starts_at_once_do_not_fail(run, monkeypatch):
    def taken(**fields):
        raise IntegrityError

    monkeypatch.setattr(people, "create_user", taken)
    assert "No administrator was made" in run()
