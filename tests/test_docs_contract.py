"""docs/contract.md keeps up with the code: the sections it is asked for, every error code, who may do what."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import apps
import crm2
from apps.auth import authentication
from apps.auth.rules import CAPABILITIES, role_table
from apps.core.errors import DomainError
from apps.crm.services.calculations import CalculationRefused

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
SOURCES = [path for folder in ("apps", "crm2") for path in (ROOT / folder).rglob("*.py") if "tests" not in path.parts]
NOT_ALONE = ("tests", "migrations", "commands", "settings", "asgi", "wsgi", "celery")  # entry points, and no refusals


def _section(name: str) -> str:
    return PAGE.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def _rows(section: str, columns: int) -> Iterator[list[str]]:
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) == columns:
            yield cells


def _refusals() -> Iterator[type[DomainError]]:
    for package in (apps, crm2):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not set(module.name.split(".")) & set(NOT_ALONE):
                importlib.import_module(module.name)
    waiting = [DomainError]
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        if error.__module__.startswith(("apps.", "crm2.")) and ".tests" not in error.__module__:
            yield error


def _codes_of_calculations() -> Iterator[str]:
    """Texts that `CalculationRefused` is raised with, directly or as the second of (missing, code, message)."""
    source = (ROOT / "apps" / "crm" / "services" / "calculations.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        first = None
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "CalculationRefused":
            first = node.args[0]
        elif isinstance(node, ast.Tuple) and len(node.elts) == 3:
            first = node.elts[1]
        if isinstance(first, ast.Constant):
            yield str(first.value)


def test_the_sections_that_the_code_names_are_there() -> None:
    named = {name for path in SOURCES for name in re.findall(r'docs/contract\.md, "([^"]+)"', path.read_text("utf-8"))}
    assert named
    assert named <= set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE))


def test_every_error_code_stands_in_the_table_and_no_other() -> None:
    raised = {(error.code, error.status) for error in _refusals() if error is not CalculationRefused}
    raised |= {(code, CalculationRefused.status) for code in _codes_of_calculations()}
    raised |= {(code, 401) for code in authentication._MESSAGES}
    listed = [(code.strip("`"), int(status)) for code, status, _ in _rows(_section("Errors"), 3)]
    assert set(listed) == raised
    assert len(listed) == len(set(listed))


CELLS = {row[0].strip("`"): row[2:] for row in _rows(_section("Who may"), 6)}
ROLES = ["ROLE_SALES_AGENT", "ROLE_EXECUTOR", "ROLE_FINANCE_MANAGER", "ROLE_ADMIN"]


def test_every_capability_stands_in_the_table() -> None:
    assert set(CELLS) == CAPABILITIES


@pytest.mark.parametrize(("column", "role"), list(enumerate(ROLES)))
def test_the_table_says_what_the_roles_grant(column: int, role: str) -> None:
    granted = {name for name, cells in CELLS.items() if cells[column] == "yes"}
    assert granted == role_table()[role].capabilities


def test_the_roles_that_the_table_leaves_out_grant_nothing() -> None:
    assert {name for name, rights in role_table().items() if rights.capabilities} == set(ROLES)
