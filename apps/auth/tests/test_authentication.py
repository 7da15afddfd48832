"""Which credentials open the API, and what is said about those that do not."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from apps.auth import queries
from apps.auth.models import ServiceToken, Session
from apps.auth.services import people, service_tokens
from apps.auth.tests.conftest import PASSWORD

ME = "/api/v1/auth/me"
ROLES = "/api/v1/roles"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "authorization_required"),
        ("", "invalid_authorization_header"),
        ("Bearer", "invalid_authorization_header"),
        ("Bearer ", "invalid_authorization_header"),
        ("Bearer a b", "invalid_authorization_header"),
        ("Bearer токен", "invalid_authorization_header"),
        ("Basic YTpi", "invalid_authorization_header"),
        ("Token abc", "invalid_authorization_header"),
        ("abc.def.ghi", "invalid_authorization_header"),
        ("Bearer abc", "invalid_token"),
        ("Bearer abc.def.ghi", "invalid_token"),
        ("Bearer crm_st_", "invalid_token"),
        ("Bearer crm_st_00000000_" + "a" * 43, "invalid_token"),
    ],
)
def test_what_is_refused(db, header, code):
    extra = {} if header is None else {"HTTP_AUTHORIZATION": header}
    answer = APIClient().get(ME, **extra)
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer["WWW-Authenticate"] == "Bearer"
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_scheme_in_any_case(admin, pair_of, scheme):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{scheme} {pair_of(admin)['accessToken']}")
    assert client.get(ME).json()["email"] == admin.email


def test_no_cookie_carries_a_token(admin, pair_of):
    client = APIClient()
    client.cookies["crm_access_token"] = pair_of(admin)["accessToken"]
    assert client.get(ME).json()["code"] == "authorization_required"


def test_user_roles_and_session_come_in_one_query(admin, as_user, django_assert_num_queries):
    client = as_user(admin)
    client.get("/api/v1/nothing-here")  # the schema guard's own first look
    client.get(ROLES)
    with django_assert_num_queries(2):  # the caller, the list
        assert client.get(ROLES).status_code == 200


def test_password_hash_is_not_read_with_the_caller(admin, pair_of):
    pair_of(admin)
    session = Session.objects.get()
    user = queries.user_of_session(session_id=session.pk, user_id=admin.pk, now=session.created_at)
    assert user.get_deferred_fields() == {"password", "last_login"}
    assert user.role_names == {"ROLE_ADMIN", "ROLE_USER"}


class TestAtOnce:
    """Dismissal and a change of rights do not wait for the token to expire."""

    def test_disabled(self, admin, seller, as_user):
        client = as_user(seller)
        people.change_user(user=seller, enabled=False, actor=admin)
        answer = client.get(ME)
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")

    def test_enabled_again_needs_a_new_sign_in(self, admin, seller, as_user):
        client = as_user(seller)
        people.change_user(user=seller, enabled=False, actor=admin)
        people.change_user(user=seller, enabled=True, actor=admin)
        assert client.get(ME).status_code == 401
        assert as_user(seller).get(ME).status_code == 200

    def test_disabled_in_the_database_alone(self, seller, as_user):
        client = as_user(seller)
        type(seller).objects.filter(pk=seller.pk).update(enabled=False)
        assert client.get(ME).json()["code"] == "session_ended"

    def test_deleted(self, seller, as_user):
        client = as_user(seller)
        seller.delete()
        assert client.get(ME).json()["code"] == "session_ended"

    @pytest.mark.parametrize("change", ["give", "take"])
    def test_role(self, admin, seller, as_user, change):
        client = as_user(seller)
        if change == "give":
            people.assign_role(user=seller, role="executor", actor=admin)
        else:
            people.remove_role(user=seller, role="sales_agent", actor=admin)
        assert client.get(ME).json()["code"] == "session_ended"

    def test_password_by_the_administrator(self, admin, seller, as_user):
        client = as_user(seller)
        people.set_password(user=seller, password="Осенний-ветер-77", actor=admin)
        assert client.get(ME).json()["code"] == "session_ended"

    def test_password_past_the_services(self, seller, as_user):
        """`manage.py changepassword` does this."""
        client = as_user(seller)
        seller.set_password("Осенний-ветер-77")
        seller.save()
        assert client.get(ME).json()["code"] == "session_ended"

    def test_others_go_on(self, admin, seller, as_user):
        client = as_user(admin)
        people.change_user(user=seller, enabled=False, actor=admin)
        assert client.get(ME).status_code == 200


class TestAdminSession:
    """Django's own session opens the API too, with CSRF on unsafe methods."""

    @pytest.fixture
    def browser(self, admin):
        client = APIClient(enforce_csrf_checks=True)
        client.force_login(admin)
        return client

    def test_reads(self, browser, admin):
        assert browser.get(ME).json()["email"] == admin.email

    def test_writes_need_the_csrf_token(self, browser):
        answer = browser.post(ROLES, {"name": "courier"})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    def test_writes_with_the_csrf_token(self, browser):
        browser.get("/admin/login/")
        page = browser.get("/admin/password_change/")
        token = page.context["csrf_token"]
        assert browser.post(ROLES, {"name": "courier"}, HTTP_X_CSRFTOKEN=str(token)).status_code == 201

    def test_bad_bearer_does_not_fall_back(self, browser):
        answer = browser.get(ME, HTTP_AUTHORIZATION="Bearer abc")
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")

    def test_bearer_wins_over_the_session(self, browser, seller, pair_of):
        token = pair_of(seller)["accessToken"]
        assert browser.get(ME, HTTP_AUTHORIZATION=f"Bearer {token}").json()["email"] == seller.email

    def test_disabled_is_nobody(self, browser, admin):
        type(admin).objects.filter(pk=admin.pk).update(enabled=False)
        assert browser.get(ME).json()["code"] == "authorization_required"

    def test_ends_with_the_password(self, browser, admin):
        people.set_password(user=admin, password="Осенний-ветер-77", actor=None)
        assert browser.get(ME).json()["code"] == "authorization_required"

    def test_rights_follow_the_roles(self, browser, admin, make_user):
        make_user("second", "ROLE_ADMIN")
        people.remove_role(user=admin, role="ROLE_ADMIN", actor=None)
        assert browser.get("/api/v1/users").status_code == 403

    def test_logout(self, admin):
        client = APIClient()
        client.force_login(admin)
        assert client.post("/api/v1/auth/logout").status_code == 204
        assert client.get(ME).status_code == 401


class TestServiceToken:
    @pytest.fixture
    def made(self, admin):
        return service_tokens.create_service_token(name="site", scopes=["catalogs.edit"], actor=admin)

    def test_opens_with_its_scopes_only(self, made, bearer):
        client = bearer(made[1])
        assert client.get(ROLES).status_code == 200
        assert client.get("/api/v1/users").status_code == 403

    @pytest.mark.parametrize("path", ["me", "logout", "password"])
    def test_has_no_account(self, made, bearer, path):
        client = bearer(made[1])
        answer = client.get(ME) if path == "me" else client.post(f"/api/v1/auth/{path}", {})
        assert answer.status_code == 403

    def test_one_query_once_its_use_is_remembered(self, made, bearer, django_assert_num_queries):
        client = bearer(made[1])
        client.get(ROLES)
        assert ServiceToken.objects.get().last_used_at is not None
        with django_assert_num_queries(2):
            client.get(ROLES)

    def test_revoked(self, made, bearer, admin):
        service_tokens.revoke_service_token(token_id=made[0].pk, actor=admin)
        assert bearer(made[1]).get(ROLES).json()["code"] == "invalid_token"

    def test_expired(self, made, bearer):
        ServiceToken.objects.update(expires_at="2020-01-01T00:00:00Z")
        assert bearer(made[1]).get(ROLES).json()["code"] == "invalid_token"

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
            lambda text: text[:-1],
            lambda text: text + "A",
            lambda text: text.upper(),
            lambda text: text.replace("crm_st_", "crm_st-"),
            lambda text: text[:16] + "A" * 43,
        ],
    )
    def test_spoilt(self, made, bearer, spoil):
        assert bearer(spoil(made[1])).get(ROLES).json()["code"] == "invalid_token"


def test_stale_credentials_do_not_bar_the_way_in(admin):
    answer = APIClient().post(
        "/api/v1/auth/token", {"email": admin.email, "password": PASSWORD}, HTTP_AUTHORIZATION="Bearer stale"
    )
    assert answer.status_code == 200


def test_the_admin_asks_for_its_own_sign_in(admin, pair_of):
    """A bearer token opens the API alone."""
    answer = Client().get("/admin/", headers={"Authorization": f"Bearer {pair_of(admin)['accessToken']}"})
    assert answer.status_code == 302
