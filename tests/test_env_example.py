"""env.example lists exactly the variables that the code reads, and its secrets are refused in production."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from crm2.settings import env as environment

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "env.example").read_text(encoding="utf-8")
LISTED = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", TEXT, re.MULTILINE)
GIVEN = dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", TEXT, re.MULTILINE))
NOT_OURS = {"PATH", "DJANGO_SETTINGS_MODULE"}  # the system's and Django's
READERS = {"str", "int", "bool", "float", "list", "json", "url", "path", "duration", "getenv", "get"}


def _read_by(path: Path) -> Iterator[str]:
    """Names in `env.str("NAME")`, `environment.duration("NAME")`, `os.environ.get("NAME")` and `os.environ["NAME"]`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READERS:
            if ast.unparse(node.func.value) in ("env", "environment", "os.environ", "os") and node.args:
                yield from _text(node.args[0])
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _is_environ(node.value):
            yield from _text(node.slice)


def _is_environ(node: ast.expr) -> bool:
    return ast.unparse(node) == "os.environ"


def _text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def _sources() -> Iterator[Path]:
    yield ROOT / "manage.py"
    for folder in ("crm2", "apps"):
        for path in (ROOT / folder).rglob("*.py"):
            if "tests" not in path.parts and path.name != "test.py":  # the settings of the tests
                yield path


def test_it_lists_what_the_code_reads() -> None:
    read = {name for path in _sources() for name in _read_by(path)} - NOT_OURS
    assert set(LISTED) == read


def test_each_name_stands_once() -> None:
    assert sorted(LISTED) == sorted(set(LISTED))


def test_it_names_the_secrets_that_may_stand_in_files() -> None:
    head = TEXT.split("# ---")[0]
    assert all(name in head for name in environment.SECRETS)


@pytest.mark.parametrize("name", ["SECRET_KEY", "AUTH_JWT_SECRET"])
def test_production_refuses_the_secrets(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        environment.refuse_weak_secret(name, GIVEN[name])


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_production_refuses_the_passwords(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        environment.refuse_weak_password(name, GIVEN[name])
