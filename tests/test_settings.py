"""Production refuses to start with a bad environment: it names the setting and never shows its value."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from crm2.settings import env as environment

ROOT = Path(__file__).resolve().parents[1]
KEY = "Wq3v8Zk1TnY6rLx0PbD5mHc9sGf2JuEa7iRtVoXyNzQwKlMhBd4p"
JWT = "a9Xc4Vb7Nm1Qw5Er8Ty2Ui6Op3As0Df-Gh_JkLzZxCvBnMqWeRtYu"
OLD = "p0Lm5Ok9Nj4Ib8Hu3Gv7Yc2Ft6Xd1Rz-Es_AwQqWzSxEdCrFvTgBy"
GOOD = {
    "CRM_ENV": "production",
    "SECRET_KEY": KEY,
    "AUTH_JWT_SECRET": JWT,
    "DATABASE_URL": "postgresql://crm2:tR4mP0l1ne77@db.internal:5432/crm2",
    "REDIS_URL": "redis://:v3Rb0se88x@cache.internal:6379/0",
    "ALLOWED_HOSTS": "crm.agency.example",
    "CSRF_TRUSTED_ORIGINS": "https://crm.agency.example",
}

# (what is changed; None takes it away, the setting that the refusal names)
BAD = [
    ({"SECRET_KEY": None}, "SECRET_KEY"),
    ({"SECRET_KEY": "   "}, "SECRET_KEY"),
    ({"SECRET_KEY": KEY[:49]}, "SECRET_KEY"),
    ({"SECRET_KEY": "change_me" + KEY}, "SECRET_KEY"),
    ({"SECRET_KEY": "django-insecure-" + KEY}, "SECRET_KEY"),
    ({"SECRET_KEY": "ab" * 40}, "SECRET_KEY"),
    ({"SECRET_KEY_FILE": "/nowhere/to/be/found", "SECRET_KEY": None}, "SECRET_KEY_FILE"),
    ({"AUTH_JWT_SECRET": None}, "AUTH_JWT_SECRET"),
    ({"AUTH_JWT_SECRET": "shortJwtSecret0123"}, "AUTH_JWT_SECRET"),
    ({"AUTH_JWT_SECRET": "x" * 60}, "AUTH_JWT_SECRET"),
    ({"AUTH_JWT_SECRET": "placeholder-" + JWT}, "AUTH_JWT_SECRET"),
    ({"AUTH_JWT_SECRET": KEY}, "AUTH_JWT_SECRET"),
    ({"AUTH_JWT_SECRET_PREVIOUS": "tinyPrevious77"}, "AUTH_JWT_SECRET_PREVIOUS"),
    ({"AUTH_JWT_SECRET_PREVIOUS": "changeme" + OLD}, "AUTH_JWT_SECRET_PREVIOUS"),
    ({"DATABASE_URL": None}, "DATABASE_URL"),
    ({"DATABASE_URL": "sqlite:////var/lib/agency.sqlite3"}, "DATABASE_URL"),
    ({"DATABASE_URL": "mysql://crm2:tR4mP0l1ne77@db.internal/crm2"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://crm2:postgres@db.internal/crm2"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://agencyuser:agencyuser@db.internal/crm2"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://crm2:change_me_77@db.internal/crm2"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://crm2:tR4mP0l1ne77@db.internal:port/crm2"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://crm2:%70assword@db.internal/crm2"}, "DATABASE_URL"),
    ({"REDIS_URL": None}, "REDIS_URL"),
    ({"REDIS_URL": "http://cache.internal:6379/0"}, "REDIS_URL"),
    ({"REDIS_URL": "redis://:redis@cache.internal:6379/0"}, "REDIS_URL"),
    ({"RABBITMQ_URL": "http://mq.internal:5672/"}, "RABBITMQ_URL"),
    ({"RABBITMQ_URL": "amqp://guest:guest@mq.internal:5672/crm2"}, "RABBITMQ_URL"),
    ({"RABBITMQ_URL": "amqp://mq.internal:5672/crm2"}, "RABBITMQ_URL"),
    ({"RABBITMQ_URL": "amqp://crm2:change-me@mq.internal:5672/crm2"}, "RABBITMQ_URL"),
    ({"RABBITMQ_MANAGEMENT_URL": "http://admin:admin@mq.internal:15672"}, "RABBITMQ_MANAGEMENT_URL"),
    ({"RABBITMQ_URL_FILE": "/nowhere/to/be/found"}, "RABBITMQ_URL_FILE"),
    ({"ALLOWED_HOSTS": None}, "ALLOWED_HOSTS"),
    ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
    ({"ALLOWED_HOSTS": "crm.agency.example,*.agency.example"}, "ALLOWED_HOSTS"),
    ({"RABBITMQ_URL": "amqp://crm2:guest@bus.internal:5672/crm2"}, "RABBITMQ_URL"),
    ({"RABBITMQ_URL": "http://bus.internal:15672"}, "RABBITMQ_URL"),
    ({"CONSUL_ENABLED": "true", "CONSUL_HTTP_ADDR": "ftp://consul.internal"}, "CONSUL_HTTP_ADDR"),
    ({"CONSUL_ENABLED": "true", "CONSUL_HTTP_ADDR": "consul.internal:port"}, "CONSUL_HTTP_ADDR"),
    ({"CONSUL_ENABLED": "true", "CONSUL_HTTP_TIMEOUT": "0"}, "CONSUL_HTTP_TIMEOUT"),
    ({"CSRF_TRUSTED_ORIGINS": "http://crm.agency.example"}, "CSRF_TRUSTED_ORIGINS"),
    ({"CSRF_TRUSTED_ORIGINS": "https://crm.agency.example,crm.agency.example"}, "CSRF_TRUSTED_ORIGINS"),
    ({"CSRF_TRUSTED_ORIGINS": "https://*.agency.example"}, "CSRF_TRUSTED_ORIGINS"),
    ({"CORS_ORIGINS": "http://localhost:3000"}, "CORS_ORIGINS"),
    ({"CORS_ORIGINS": "https://crm.agency.example,*"}, "CORS_ORIGINS"),
    ({"CORS_ORIGINS": "https://crm.agency.example/app"}, "CORS_ORIGINS"),
    ({"DEBUG": "true"}, "DEBUG"),
    ({"CRM_ENV": "staging"}, "CRM_ENV"),
    ({"AUTH_ACCESS_TOKEN_TTL": "15min"}, "AUTH_ACCESS_TOKEN_TTL"),
    ({"AUTH_REFRESH_TOKEN_TTL": "P0D"}, "AUTH_REFRESH_TOKEN_TTL"),
    ({"AUTH_SESSION_TTL": "-P30D"}, "AUTH_SESSION_TTL"),
]

# Reads the settings once per environment and says what each refusal was: a process each would take minutes.
DRIVER = """
import json, os, sys, time
from django.core.exceptions import ImproperlyConfigured
base = dict(os.environ)
answers = []
for case in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(base, **case)
    for name in [each for each in sys.modules if each.startswith("crm2.settings")]:
        del sys.modules[name]
    started = time.monotonic()
    try:
        import crm2.settings.base
        answers.append(["started", "", 0])
    except ImproperlyConfigured as error:
        answers.append(["refused", str(error), time.monotonic() - started])
    except Exception as error:
        answers.append([type(error).__name__, str(error), 0])
json.dump(answers, sys.stdout)
"""


def clean():
    """An environment with nothing of ours in it."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CRM_DOTENV": os.devnull, "LANG": "C.UTF-8"}


def changed(changes):
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not None}


@pytest.fixture(scope="module")
def answers():
    """What production said to the good environment and to every bad one."""
    cases = [GOOD, *(changed(changes) for changes, _ in BAD)]
    run = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(cases), env=clean(), capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_good_environment_starts(answers):
    assert answers[0] == ["started", "", 0]


@pytest.mark.parametrize("index", range(len(BAD)), ids=[f"{name}-{n}" for n, (_, name) in enumerate(BAD)])
def test_a_bad_environment_is_refused_by_name(answers, index):
    changes, name = BAD[index]
    outcome, message, seconds = answers[index + 1]
    assert outcome == "refused"
    assert name in message
    assert seconds < 5
    for setting, value in changed(changes).items():
        if len(value) > 8 and setting != "CRM_ENV":
            assert value not in message


@pytest.mark.parametrize(("changes", "name"), [BAD[3], BAD[11], BAD[26]])
def test_the_process_ends_with_an_error(changes, name):
    started = time.monotonic()
    run = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env={**clean(), **changed(changes)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    said = run.stdout + run.stderr
    assert run.returncode != 0
    assert name in said
    assert KEY not in said
    assert JWT not in said
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT15M", 900),
        ("PT20M", 1200),
        (" PT20M ", 1200),
        ("P7D", 604800),
        ("PT7D", 604800),
        ("P1W", 604800),
        ("PT90S", 90),
        ("PT1H30M", 5400),
        ("P1DT12H", 129600),
        ("", 900),
        ("   ", 900),
    ],
)
def test_duration(monkeypatch, text, seconds):
    monkeypatch.setenv("SOME_TTL", text)
    assert environment.duration("SOME_TTL", "PT15M") == seconds


@pytest.mark.parametrize(
    "text", ["15", "15m", "P", "PT", "PT15", "PTM", "PT0M", "P-7D", "7D", "PT1.5H", "P1H", "PT15M15M", "P1Y", "P７D!"]
)
def test_bad_duration_names_the_setting(monkeypatch, text):
    monkeypatch.setenv("SOME_TTL", text)
    with pytest.raises(ImproperlyConfigured, match="SOME_TTL") as caught:
        environment.duration("SOME_TTL", "PT15M")
    assert f" {text} " not in str(caught.value)


def test_secret_from_a_file(tmp_path):
    path = tmp_path / "jwt"
    path.write_text(f"{JWT}\n", encoding="utf-8")
    case = {**GOOD, "AUTH_JWT_SECRET_FILE": str(path)}
    del case["AUTH_JWT_SECRET"]
    script = "import crm2.settings.base as s; print(s.AUTH_JWT_SECRET)"
    run = subprocess.run(
        [sys.executable, "-c", script], env={**clean(), **case}, capture_output=True, text=True, timeout=30
    )
    assert run.stdout.strip() == JWT, run.stderr
