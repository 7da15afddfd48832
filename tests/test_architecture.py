"""Foreign keys point down, every action names its capability, every route stands in the OpenAPI files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from django.apps import apps
from django.db import models
from django.urls import URLPattern, URLResolver, get_resolver

from apps.auth.rules import CAPABILITIES, role_table
from apps.core.api.permissions import PUBLIC, SIGNED_IN
from apps.core.api.views import ApiViewSet

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["core", "accounts", "crm", "payments", "crm2"]  # by app label, the lowest first
OURS = [model for model in apps.get_models() if model._meta.app_label in LAYERS]


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)
def test_foreign_keys_point_down(model: type[models.Model]) -> None:
    mine = LAYERS.index(model._meta.app_label)
    for field in model._meta.get_fields():
        target = getattr(field, "related_model", None)
        if isinstance(field, models.ForeignKey | models.ManyToManyField) and isinstance(target, type):
            label = target._meta.app_label
            assert label not in LAYERS or LAYERS.index(label) <= mine, f"{model}.{field.name} reaches up to {label}"


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)
def test_constraints_say_whose_they_are(model: type[models.Model]) -> None:
    prefix = f"{model._meta.app_label}_"
    for each in [*model._meta.constraints, *model._meta.indexes]:
        assert each.name.startswith(prefix), each.name


def _api_patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for each in resolver.url_patterns:
        route = prefix + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from _api_patterns(each, route)
        elif route.startswith("api/v1/"):
            yield route, each


API = list(_api_patterns(get_resolver()))


@pytest.mark.parametrize(("route", "pattern"), API, ids=[route for route, _ in API])
def test_every_action_names_its_capability(route: str, pattern: URLPattern) -> None:
    view = pattern.callback.cls  # type: ignore[attr-defined]
    assert issubclass(view, ApiViewSet), f"{route} is not an ApiViewSet"
    for action in pattern.callback.actions.values():  # type: ignore[attr-defined]
        assert view.capabilities.get(action) in {*CAPABILITIES, SIGNED_IN, PUBLIC}, f"{route}: {action} is closed"


def test_every_capability_is_granted_and_used() -> None:
    granted = {name for rights in role_table().values() for name in rights.capabilities}
    assert granted == CAPABILITIES


@pytest.mark.parametrize(
    ("file", "prefixes"), [("openapi", ("api/v1/",)), ("gateway", ("api/v1/crm/", "api/v1/auth/"))]
)
def test_every_route_is_described(file: str, prefixes: tuple[str, ...]) -> None:
    described = yaml.safe_load((ROOT / "docs" / "api" / f"{file}.yaml").read_text(encoding="utf-8"))["paths"]
    count = sum(
        route.startswith(prefixes) and not route.endswith("/") and (file == "gateway" or "api/v1/crm/" not in route)
        for route, _ in API
    )
    assert len(described) == count


def test_no_file_outgrows_its_subject() -> None:
    for path in [*ROOT.glob("apps/**/*.py"), *ROOT.glob("crm2/**/*.py")]:
        if "migrations" not in path.parts:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 700, f"{path.relative_to(ROOT)} has {lines} lines: split it by noun"
