"""Roles come and go; somebody is always left who can let the others in."""

import threading
import time
import uuid

import pytest
from django.db import connection

from apps.auth.models import Role, User
from apps.auth.services import people
from apps.core.errors import DomainError
from apps.core.models import Event

URL = "/api/v1/users"


def one(user):
    return f"{URL}/{user.pk}"


def names(body):
    return [role["name"] for role in body["roles"]]


class TestLastAdmin:
    @pytest.fixture(params=["disable", "patch", "delete"])
    def lose(self, request, api, admin):
        def act(user):
            client = api(admin)
            if request.param == "disable":
                return client.patch(one(user), {"enabled": False})
            if request.param == "patch":
                return client.patch(one(user), {"roles": ["sales_agent"]})
            return client.delete(f"{one(user)}/roles/ROLE_ADMIN")

        return act

    def test_stays(self, lose, admin, make_user):
        make_user("disabled_admin", "ROLE_ADMIN", enabled=False)
        answer = lose(admin)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
        assert User.objects.with_roles().get(pk=admin.pk).is_admin
        assert not Event.objects.exists()

    def test_goes_when_there_is_another(self, lose, admin, make_user):
        make_user("second", "ROLE_ADMIN")
        assert lose(admin).status_code == 200

    def test_a_disabled_admin_may_lose_the_role(self, admin, make_user):
        other = make_user("disabled_admin", "ROLE_ADMIN", enabled=False)
        people.remove_role(user=other, role="admin", actor=admin)
        assert not other.roles.filter(name="ROLE_ADMIN").exists()


def test_two_administrators_cannot_disable_each_other_at_once(committed, make_user, monkeypatch):
    differing = people.core_changes.differing

    def slowly(*args):  # between the look at who is left and the write
        time.sleep(0.5)
        return differing(*args)

    monkeypatch.setattr(people.core_changes, "differing", slowly)
    pair = [make_user("first", "ROLE_ADMIN"), make_user("second", "ROLE_ADMIN")]
    outcomes, start = [], threading.Barrier(2)

    def disable(user, actor):
        start.wait()
        try:
            people.change_user(user=user, enabled=False, actor=actor)
            outcomes.append("ok")
        except DomainError as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=disable, args=each) for each in (pair, pair[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["last_admin", "ok"]


class TestRolesOfUser:
    @pytest.mark.parametrize("key", ["roleName", "role_name"])
    @pytest.mark.parametrize("spelled", ["ROLE_EXECUTOR", "executor", " Role_Executor "])
    def test_gives(self, api, admin, seller, key, spelled):
        answer = api(admin).post(f"{one(seller)}/roles", {key: spelled})
        assert answer.status_code == 200
        assert names(answer.json()) == ["ROLE_EXECUTOR", "ROLE_SALES_AGENT", "ROLE_USER"]
        assert answer["ETag"] == '"2"'
        [event] = Event.objects.all()
        assert (event.name, event.changes) == ("user.role.added", {"role": [None, "ROLE_EXECUTOR"]})

    def test_giving_again_changes_nothing(self, api, admin, seller, as_user):
        client = as_user(seller)
        answer = api(admin).post(f"{one(seller)}/roles", {"role_name": "ROLE_SALES_AGENT"})
        assert (answer.status_code, answer["ETag"]) == (200, '"1"')
        assert client.get("/api/v1/auth/me").status_code == 200
        assert not Event.objects.exists()

    def test_unknown_role_is_not_made(self, api, admin, seller):
        answer = api(admin).post(f"{one(seller)}/roles", {"role_name": "courier"})
        assert (answer.status_code, answer.json()["code"]) == (404, "role_not_found")
        assert not Role.objects.filter(name="ROLE_COURIER").exists()

    def test_a_made_role_can_be_given_and_grants_nothing(self, api, admin, reader):
        api(admin).post("/api/v1/roles", {"name": "courier"})
        assert api(admin).post(f"{one(reader)}/roles", {"role_name": "courier"}).status_code == 200
        assert User.objects.with_roles().get(pk=reader.pk).rights.capabilities == frozenset()

    @pytest.mark.parametrize("spelled", ["ROLE_SALES_AGENT", "role_sales_agent", "sales_agent"])
    def test_takes(self, api, admin, seller, spelled):
        answer = api(admin).delete(f"{one(seller)}/roles/{spelled}")
        assert (answer.status_code, names(answer.json())) == (200, ["ROLE_USER"])
        assert Event.objects.values_list("name", "version").get() == ("user.role.removed", 2)

    @pytest.mark.parametrize(
        ("role", "status", "code"),
        [
            ("ROLE_USER", 400, "default_role"),
            ("user", 400, "default_role"),
            ("ROLE_EXECUTOR", 404, "role_not_found"),
            ("ROLE_NOBODY", 404, "role_not_found"),
        ],
    )
    def test_does_not_take(self, api, admin, seller, role, status, code):
        answer = api(admin).delete(f"{one(seller)}/roles/{role}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    @pytest.mark.parametrize("body", [{}, {"role_name": ""}, {"role_name": "  "}, {"role_name": "x" * 65}])
    def test_malformed(self, api, admin, seller, body):
        answer = api(admin).post(f"{one(seller)}/roles", body)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")

    def test_unknown_user(self, api, admin):
        answer = api(admin).post(f"{URL}/{uuid.uuid4()}/roles", {"role_name": "executor"})
        assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
