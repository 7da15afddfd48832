"""Every page of the admin opens, for everyone who may open the admin."""

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client as Browser
from django.urls import reverse

from apps.auth.models import Role, User

pytestmark = pytest.mark.django_db

PAGES = sorted(f"{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry)


def page(name: str, kind: str) -> str:
    return reverse(f"admin:{name}_{kind}")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("who", ["admin", "seller", "executor"])
def test_lists_and_forms_open_or_are_forbidden(name: str, who: str, request: Any) -> None:
    browser = Browser()
    browser.force_login(request.getfixturevalue(who))
    allowed = {200} if who == "admin" else {200, 403}
    assert browser.get(page(name, "changelist")).status_code in allowed
    assert browser.get(page(name, "changelist"), {"q": "а"}).status_code in allowed
    assert browser.get(page(name, "add")).status_code in {200, 403}


@pytest.mark.parametrize("who", ["admin", "seller", "executor"])
def test_the_home_page_opens(who: str, request: Any) -> None:
    browser = Browser()
    browser.force_login(request.getfixturevalue(who))
    assert browser.get(reverse("admin:index")).status_code == 200


def test_the_page_of_live_events(admin: User, seller: User) -> None:
    browser = Browser()
    browser.force_login(admin)
    address = reverse("admin:live")
    assert address in browser.get(reverse("admin:index")).content.decode()
    answer = browser.get(address)
    assert answer.status_code == 200
    assert "deal.payment.income.created" in answer.content.decode()
    browser.force_login(seller)
    assert browser.get(address).status_code == 403
    assert address not in browser.get(reverse("admin:index")).content.decode()


def test_a_refusal_is_a_message_where_the_form_is_a_plain_one(admin: User) -> None:
    browser = Browser()
    browser.force_login(admin)
    sent = {"email": admin.email, "full_name": "", "new_password": "Зимний-лес-2026", "roles": []}
    answer = browser.post(page("accounts_user", "add"), sent, follow=True)
    assert answer.status_code == 200
    assert User.objects.count() == 1
    sent = {"name": "ROLE_ADMIN", "description": ""}
    assert browser.post(page("accounts_role", "add"), sent, follow=True).status_code == 200
    assert Role.objects.filter(name="ROLE_ADMIN").count() == 1
