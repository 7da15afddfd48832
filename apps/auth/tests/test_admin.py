"""The administrator's pages: everything goes through the services, refusals are shown, nothing secret is."""

import pytest
from django.test import Client

from apps.auth.models import Role, ServiceToken, Session, User
from apps.auth.services import people, service_tokens
from apps.auth.tests.conftest import PASSWORD
from apps.core.models import Event

BASE = "/admin/accounts"
NEW = "Осенний-ветер-77"


@pytest.fixture
def browser(admin):
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(admin)
    return client


def role_ids(*names):
    return [str(pk) for pk in Role.objects.filter(name__in=names).values_list("pk", flat=True)]


def text(page):
    return page.content.decode()


class TestSignIn:
    def post(self, email, password):
        client = Client(headers={"Accept-Language": "en"}, REMOTE_ADDR="203.0.113.7")
        page = client.post("/admin/login/?next=/admin/", {"username": email, "password": password})
        return client, page

    def test_by_email(self, admin):
        client, page = self.post("Admin@Example.com", PASSWORD)
        assert page.status_code == 302
        assert client.get("/admin/").status_code == 200

    def test_wrong_password(self, admin):
        assert "errornote" in text(self.post(admin.email, "wrong password 1")[1])

    def test_throttled_says_so(self, admin):
        for _ in range(5):
            self.post(admin.email, "wrong password 1")
        page = self.post(admin.email, PASSWORD)[1]
        assert page.status_code == 200
        assert "Too many attempts" in text(page)

    def test_disabled_says_so(self, make_user):
        user = make_user("former", "ROLE_ADMIN", enabled=False)
        assert "disabled" in text(self.post(user.email, PASSWORD)[1])

    def test_reader_does_not_come_in(self, reader):
        assert self.post(reader.email, PASSWORD)[1].status_code == 200

    def test_ends_with_disabling(self, admin, browser):
        User.objects.filter(pk=admin.pk).update(enabled=False)
        assert browser.get("/admin/").status_code == 302

    def test_ends_with_the_password(self, admin, browser):
        people.set_password(user=admin, password=NEW, actor=None)
        assert browser.get("/admin/").status_code == 302


class TestOwnPassword:
    URL = "/admin/password_change/"

    def post(self, browser, old=PASSWORD, new=NEW, again=NEW):
        return browser.post(self.URL, {"old_password": old, "new_password1": new, "new_password2": again})

    def test_ends_the_api_sessions_and_keeps_this_one(self, admin, browser, as_user, sign_in):
        client = as_user(admin)
        assert self.post(browser).status_code == 302
        assert client.get("/api/v1/auth/me").json()["code"] == "session_ended"
        assert browser.get("/admin/").status_code == 200
        assert sign_in(admin.email, NEW).status_code == 200
        assert Event.objects.filter(name="user.password.changed", aggregate_id=admin.pk).exists()

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"old": "wrong password 1"}, "current password is wrong"),
            ({"new": "short", "again": "short"}, "too short"),
            ({"again": "another"}, "match"),
            ({"old": ""}, "required"),
        ],
    )
    def test_refuses_in_words(self, admin, browser, sign_in, fields, said):
        page = self.post(browser, **fields)
        assert page.status_code == 200
        assert said in text(page)
        assert sign_in(admin.email).status_code == 200

    def test_is_throttled(self, browser):
        for _ in range(5):
            self.post(browser, old="wrong password 1")
        assert "Too many attempts" in text(self.post(browser))


class TestPeople:
    URL = f"{BASE}/user/"

    def form(self, **changed):
        form = {"email": "New@Example.com", "full_name": "Новый", "roles": role_ids("ROLE_EXECUTOR")}
        return {**form, "new_password": NEW, **changed}

    def change(self, browser, user, **changed):
        held = [str(pk) for pk in user.roles.values_list("pk", flat=True)]
        form = {"full_name": user.full_name, "enabled": "on", "roles": held, "new_password": ""}
        form = {name: value for name, value in {**form, **changed}.items() if value is not None}
        return browser.post(f"{self.URL}{user.pk}/change/", form, follow=True)

    def test_add(self, browser, admin, sign_in):
        page = browser.post(f"{self.URL}add/", self.form(), follow=True)
        assert page.status_code == 200
        user = User.objects.with_roles().get(email="new@example.com")
        assert user.role_names == {"ROLE_EXECUTOR", "ROLE_USER"}
        assert sign_in(user.email, NEW).status_code == 200
        event = Event.objects.get(aggregate_id=user.pk)
        assert (event.name, event.via, event.actor_id) == ("user.created", "admin", admin.pk)

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"new_password": "short"}, "too short"),
            ({"new_password": ""}, "required"),
            ({"email": "admin@example.com"}, "already"),
            ({"email": "ADMIN@example.com"}, "already"),
            ({"email": "x"}, "valid email"),
        ],
    )
    def test_add_refuses_in_words(self, browser, changed, said):
        page = browser.post(f"{self.URL}add/", self.form(**changed), follow=True)
        assert page.status_code == 200
        assert said in text(page)
        assert User.objects.count() == 1

    def test_page_shows_no_hash(self, browser, seller):
        page = browser.get(f"{self.URL}{seller.pk}/change/")
        assert page.status_code == 200
        assert seller.email in text(page)
        assert seller.password not in text(page)
        assert "md5" not in text(page)

    def test_change_name_alone(self, browser, seller, as_user):
        client = as_user(seller)
        self.change(browser, seller, full_name="Пётр")
        seller.refresh_from_db()
        assert (seller.full_name, seller.version) == ("Пётр", 2)
        assert client.get("/api/v1/auth/me").status_code == 200

    def test_disable(self, browser, seller, as_user):
        client = as_user(seller)
        self.change(browser, seller, enabled=None)
        seller.refresh_from_db()
        assert not seller.enabled
        assert client.get("/api/v1/auth/me").status_code == 401

    def test_roles(self, browser, seller):
        self.change(browser, seller, roles=role_ids("ROLE_EXECUTOR"))
        assert User.objects.with_roles().get(pk=seller.pk).role_names == {"ROLE_EXECUTOR", "ROLE_USER"}
        names = Event.objects.filter(aggregate_id=seller.pk).order_by("version").values_list("name", flat=True)
        assert list(names) == ["user.role.removed", "user.role.added"]

    def test_new_password(self, browser, seller, as_user, sign_in):
        client = as_user(seller)
        self.change(browser, seller, new_password=NEW)
        assert client.get("/api/v1/auth/me").status_code == 401
        assert sign_in(seller.email, NEW).status_code == 200

    def test_weak_new_password(self, browser, seller, sign_in):
        assert "too short" in text(self.change(browser, seller, new_password="short"))
        assert sign_in(seller.email).status_code == 200

    def test_last_admin_is_a_message(self, browser, admin):
        page = self.change(browser, admin, enabled=None, full_name="Changed")
        assert page.status_code == 200
        assert "last enabled administrator" in text(page)
        admin.refresh_from_db()
        assert (admin.enabled, admin.full_name) == (True, "Admin")

    def test_nothing_is_deleted(self, browser, seller):
        assert browser.post(f"{self.URL}{seller.pk}/delete/", {"post": "yes"}).status_code == 403

    def test_list_costs_the_same_for_many(self, browser, make_user, django_assert_max_num_queries):
        for n in range(20):
            make_user(f"u{n}", "ROLE_EXECUTOR")
        browser.get(self.URL)
        with django_assert_max_num_queries(9):
            page = browser.get(self.URL)
        assert "ROLE_EXECUTOR, ROLE_USER" in text(page)

    @pytest.mark.parametrize(("query", "count"), [("q=seller", 1), ("q=SELLER", 1), ("enabled__exact=0", 0)])
    def test_search_and_filter(self, browser, seller, query, count):
        page = browser.get(f"{self.URL}?{query}")
        assert page.context["cl"].result_count == count


class TestRoles:
    def test_add(self, browser):
        browser.post(f"{BASE}/role/add/", {"name": "courier", "description": ""}, follow=True)
        role = Role.objects.get(name="ROLE_COURIER")
        assert Event.objects.get(name="role.created").aggregate_id == role.pk

    def test_existing_is_a_message(self, browser):
        page = browser.post(f"{BASE}/role/add/", {"name": "admin", "description": ""}, follow=True)
        assert page.status_code == 200
        assert "already" in text(page)


class TestSessions:
    def test_end(self, browser, seller, as_user):
        client, other = as_user(seller), as_user(seller)
        session = Session.objects.earliest("created_at")
        page = browser.post(f"{BASE}/session/", {"action": "end", "_selected_action": [str(session.pk)]}, follow=True)
        assert "1 session has ended" in text(page)
        assert client.get("/api/v1/auth/me").json()["code"] == "session_ended"
        assert other.get("/api/v1/auth/me").status_code == 200
        session.refresh_from_db()
        assert session.end_reason == "by_admin"

    def test_list_and_page(self, browser, seller, admin, as_user, django_assert_max_num_queries):
        for user in (seller, admin) * 3:
            as_user(user)
        session = Session.objects.first()
        browser.get(f"{BASE}/session/")
        with django_assert_max_num_queries(8):
            assert browser.get(f"{BASE}/session/?open=yes").context["cl"].result_count == 6
        assert browser.get(f"{BASE}/session/?open=no").context["cl"].result_count == 0
        page = browser.get(f"{BASE}/session/{session.pk}/change/")
        assert page.status_code == 200
        assert "hash" not in text(page)
        assert browser.get(f"{BASE}/session/add/").status_code == 403


class TestServiceTokens:
    def test_revoke(self, browser, admin, bearer):
        token, secret = service_tokens.create_service_token(name="site", scopes=["deals.edit"], actor=admin)
        page = browser.get(f"{BASE}/servicetoken/")
        assert "deals.edit" in text(page)
        chosen = {"action": "revoke", "_selected_action": [str(token.pk)]}
        browser.post(f"{BASE}/servicetoken/", chosen, follow=True)
        assert bearer(secret).get("/api/v1/roles").status_code == 401
        assert ServiceToken.objects.get().revoked_at is not None
        assert browser.get(f"{BASE}/servicetoken/{token.pk}/change/").status_code == 200
        assert browser.get(f"{BASE}/servicetoken/?good=yes").context["cl"].result_count == 0


@pytest.mark.parametrize("page", ["user", "role", "session", "servicetoken"])
def test_administrators_alone(page, seller):
    client = Client()
    client.force_login(seller)
    assert client.get("/admin/").status_code == 200
    assert client.get(f"{BASE}/{page}/").status_code == 403
