"""One's own account, the drop-down of people, and registration where it is open."""

import pytest
import time_machine
from rest_framework.test import APIClient

from apps.auth.tests.conftest import PASSWORD

URL = "/api/v1/users"


def names(body):
    return [role["name"] for role in body["roles"]]


class TestAssignable:
    def test_native(self, api, seller, make_user):
        make_user("former", "ROLE_EXECUTOR", enabled=False)
        assert api(seller).get(f"{URL}/assignable").json() == [
            {
                "id": str(seller.pk),
                "email": "seller@example.com",
                "full_name": "Seller",
                "roles": ["ROLE_SALES_AGENT", "ROLE_USER"],
            }
        ]

    def test_gateway_answers_camel_case(self, api, seller):
        [row] = api(seller).get("/api/v1/crm/users").json()
        assert row["fullName"] == "Seller"

    def test_pages(self, api, seller, executor):
        first = api(seller).get(f"{URL}/assignable", {"limit": 1})
        second = api(seller).get(first["Link"].split(">")[0].lstrip("<"))
        assert [first.json()[0]["email"], second.json()[0]["email"]] == ["executor@example.com", "seller@example.com"]

    @pytest.mark.parametrize("path", ["/api/v1/crm/roles", "/api/v1/crm/auth/token", "/api/v1/crm/service-tokens"])
    def test_the_rest_is_native_only(self, api, admin, path):
        assert api(admin).get(path).status_code == 404


class TestMe:
    def test_in_camel_case(self, seller, as_user):
        answer = as_user(seller).get("/api/v1/auth/me")
        assert list(answer.json()) == [
            "id",
            "email",
            "fullName",
            "enabled",
            "roles",
            "version",
            "createdAt",
            "updatedAt",
        ]
        assert answer["ETag"] == '"1"'


class TestRegister:
    BODY = {"email": "New@Example.com", "password": PASSWORD}
    URL = "/api/v1/auth/register"

    def test_closed_unless_opened(self, db):
        answer = APIClient().post(self.URL, {})
        assert (answer.status_code, answer.json()["code"]) == (403, "registration_closed")

    def test_open(self, db, settings, sign_in):
        settings.AUTH_REGISTRATION_OPEN = True
        with time_machine.travel("2026-03-02T09:00:00Z", tick=False):
            answer = APIClient().post(self.URL, self.BODY)
        assert answer.status_code == 201
        assert (answer.json()["email"], names(answer.json())) == ("new@example.com", ["ROLE_USER"])
        assert answer.json()["createdAt"] == "2026-03-02T09:00:00+00:00"
        assert sign_in("new@example.com").status_code == 200

    @pytest.mark.parametrize("extra", [{"roles": ["ROLE_ADMIN"]}, {"enabled": True, "role": "ROLE_ADMIN"}])
    def test_gives_no_other_role(self, db, settings, extra):
        settings.AUTH_REGISTRATION_OPEN = True
        assert names(APIClient().post(self.URL, {**self.BODY, **extra}).json()) == ["ROLE_USER"]

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            ({"email": "seller@example.com"}, 409, "user_already_exists"),
            ({"password": "short"}, 400, "validation_error"),
            ({"email": "x"}, 400, "validation_error"),
        ],
    )
    def test_refuses(self, seller, settings, change, status, code):
        settings.AUTH_REGISTRATION_OPEN = True
        answer = APIClient().post(self.URL, {**self.BODY, **change})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
