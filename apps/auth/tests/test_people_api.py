"""`/users`: the administrator's people, and everyone's drop-down."""

import uuid

import pytest
from django.db import IntegrityError, transaction

from apps.auth.models import Role, Session, User
from apps.auth.tests.conftest import PASSWORD
from apps.core.api.problems import as_domain_error
from apps.core.models import Event

URL = "/api/v1/users"
NEW = {"email": "New@Example.com", "password": PASSWORD, "full_name": " Новый  ", "roles": ["executor", "ROLE_USER"]}


def one(user):
    return f"{URL}/{user.pk}"


def names(body):
    return [role["name"] for role in body["roles"]]


def told(user):
    """The user's events, oldest first: (name, version)."""
    return list(Event.objects.filter(aggregate_id=user.pk).order_by("version").values_list("name", "version"))


class TestWhoMay:
    CALLS = [
        ("get", URL, None),
        ("post", URL, NEW),
        ("get", f"{URL}/{{id}}", None),
        ("patch", f"{URL}/{{id}}", {"full_name": "x"}),
        ("post", f"{URL}/{{id}}/roles", {"role_name": "ROLE_EXECUTOR"}),
        ("delete", f"{URL}/{{id}}/roles/ROLE_SALES_AGENT", None),
    ]

    @pytest.mark.parametrize(("method", "path", "body"), CALLS)
    @pytest.mark.parametrize("who", ["admin", "seller", "executor", "reader", None])
    def test_administrators_alone(self, api, seller, request, who, method, path, body):
        caller = request.getfixturevalue(who) if who else None
        answer = getattr(api(caller), method)(path.format(id=seller.pk), body)
        assert answer.status_code == {"admin": answer.status_code, None: 401}.get(who, 403)
        if who == "admin":
            assert answer.status_code in (200, 201)

    @pytest.mark.parametrize("path", [f"{URL}/assignable", "/api/v1/crm/users", "/api/v1/roles"])
    def test_everyone_signed_in(self, api, reader, path):
        assert api(reader).get(path).status_code == 200
        assert api().get(path).status_code == 401


class TestCreate:
    def test_makes_a_user(self, api, admin, sign_in):
        answer = api(admin).post(URL, NEW)
        body = answer.json()
        user = User.objects.get(email="new@example.com")
        assert answer.status_code == 201
        assert answer["ETag"] == '"1"'
        assert list(body) == ["id", "email", "full_name", "enabled", "roles", "version", "created_at", "updated_at"]
        assert body["id"] == str(user.pk)
        assert (body["email"], body["full_name"], body["enabled"]) == ("new@example.com", "Новый", True)
        assert body["roles"][1] == {
            "id": "11111111-1111-1111-1111-111111111111",
            "name": "ROLE_USER",
            "description": "Сотрудник",
        }
        assert names(body) == ["ROLE_EXECUTOR", "ROLE_USER"]
        assert sign_in("new@example.com").status_code == 200

    def test_tells_once_without_the_password(self, api, admin):
        body = api(admin).post(URL, NEW).json()
        [event] = Event.objects.filter(aggregate_id=body["id"])
        assert (event.name, event.aggregate, event.version, event.actor_id) == ("user.created", "user", 1, admin.pk)
        assert event.changes["roles"] == [None, ["ROLE_EXECUTOR", "ROLE_USER"]]
        assert set(event.payload) == {"user_id", "enabled", "roles", "created_at"}
        assert PASSWORD not in str(event.__dict__)
        assert "argon" not in str(event.changes)
        assert "md5" not in str(event.changes)

    @pytest.mark.parametrize(
        ("change", "status", "code", "field"),
        [
            ({"email": "admin@example.com"}, 409, "user_already_exists", None),
            ({"email": " ADMIN@example.com "}, 409, "user_already_exists", None),
            ({"email": "no-at-sign"}, 400, "validation_error", "email"),
            ({"email": ""}, 400, "validation_error", "email"),
            ({"email": "a" * 250 + "@example.com"}, 400, "validation_error", "email"),
            ({"password": "short"}, 400, "validation_error", "password"),
            ({"password": "new@example.com"}, 400, "validation_error", "password"),
            ({"password": None}, 400, "validation_error", "password"),
            ({"roles": ["ROLE_NOBODY"]}, 404, "role_not_found", None),
            ({"roles": "ROLE_USER"}, 400, "validation_error", "roles"),
            ({"roles": [5, {}]}, 400, "validation_error", None),
            ({"full_name": "x" * 256}, 400, "validation_error", "full_name"),
        ],
    )
    def test_refuses(self, api, admin, change, status, code, field):
        answer = api(admin).post(URL, {**NEW, **change})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        if field:
            assert field in {each["field"] for each in answer.json()["errors"]}
        assert not User.objects.filter(email="new@example.com").exists()
        assert not Event.objects.exists()

    def test_both_spellings_and_idempotency(self, api, admin):
        body = {"email": "x@example.com", "password": PASSWORD, "fullName": "Икс"}
        answers = [api(admin).post(URL, body, HTTP_IDEMPOTENCY_KEY="k1") for _ in range(2)]
        assert [each.status_code for each in answers] == [201, 201]
        assert answers[1]["Idempotency-Replayed"] == "true"
        assert User.objects.get(email="x@example.com").full_name == "Икс"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: User.objects.create(email="admin@example.com"), "user_already_exists"),
        (lambda: Role.objects.create(name="ROLE_USER"), "role_already_exists"),
    ],
)
def test_the_loser_of_a_race_hears_the_same_refusal(admin, make, code):
    """The service has looked and found nothing; the database knows better."""
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        make()
    assert as_domain_error(caught.value).code == code


class TestRead:
    def test_one(self, api, admin, seller):
        answer = api(admin).get(one(seller))
        assert answer["ETag"] == '"1"'
        assert answer.json()["email"] == seller.email
        assert "password" not in answer.content.decode()

    def test_unknown(self, api, admin):
        answer = api(admin).get(f"{URL}/{uuid.uuid4()}")
        assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")

    def test_list_by_email_in_three_queries_at_most(self, api, admin, make_user, django_assert_max_num_queries):
        for n in range(5):
            make_user(f"u{n}", "ROLE_EXECUTOR")
        client = api(admin)
        client.get(URL)
        with django_assert_max_num_queries(2):
            answer = client.get(URL)
        assert [each["email"] for each in answer.json()] == [
            "admin@example.com",
            *(f"u{n}@example.com" for n in range(5)),
        ]
        assert "ETag" not in answer

    def test_pages(self, api, admin, seller, executor):
        first = api(admin).get(URL, {"limit": 2, "count": "true"})
        assert first["X-Total-Count"] == "3"
        following = first["Link"].split(">")[0].lstrip("<")
        second = api(admin).get(following)
        emails = [each["email"] for each in [*first.json(), *second.json()]]
        assert emails == ["admin@example.com", "executor@example.com", "seller@example.com"]
        assert "Link" not in second

    @pytest.mark.parametrize(("value", "expected"), [("true", 1), ("false", 1)])
    def test_filter(self, api, admin, make_user, value, expected):
        make_user("former", enabled=False)
        assert len(api(admin).get(URL, {"enabled": value}).json()) == expected

    @pytest.mark.parametrize("query", [{"foo": "1"}, {"limit": 201}, {"cursor": "x"}, {"enabled": "maybe"}])
    def test_bad_filter(self, api, admin, query):
        answer = api(admin).get(URL, query)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filters")


class TestPatch:
    def test_changes_name(self, api, admin, seller):
        answer = api(admin).patch(one(seller), {"full_name": "Пётр"})
        assert (answer.status_code, answer["ETag"], answer.json()["full_name"]) == (200, '"2"', "Пётр")
        [event] = Event.objects.all()
        assert (event.name, event.changes) == ("user.updated", {"full_name": ["Seller", "Пётр"]})
        assert event.payload["changed"] == ["full_name"]

    def test_a_name_ends_no_session(self, api, admin, seller, as_user):
        client = as_user(seller)
        api(admin).patch(one(seller), {"full_name": "Пётр"})
        assert client.get("/api/v1/auth/me").json()["fullName"] == "Пётр"

    @pytest.mark.parametrize("body", [{}, {"enabled": True}, {"full_name": "Seller"}, {"roles": ["sales_agent"]}])
    def test_nothing_new_changes_nothing(self, api, admin, seller, as_user, body):
        client = as_user(seller)
        assert api(admin).patch(one(seller), body)["ETag"] == '"1"'
        assert not Event.objects.exists()
        assert client.get("/api/v1/auth/me").status_code == 200

    def test_roles_are_the_whole_list(self, api, admin, seller):
        answer = api(admin).patch(one(seller), {"roles": ["executor", "TEAM_LEAD"]})
        assert names(answer.json()) == ["ROLE_EXECUTOR", "ROLE_TEAM_LEAD", "ROLE_USER"]
        assert answer["ETag"] == '"4"'
        assert told(seller) == [("user.role.removed", 2), ("user.role.added", 3), ("user.role.added", 4)]

    def test_empty_roles_leave_the_default(self, api, admin, seller):
        assert names(api(admin).patch(one(seller), {"roles": []}).json()) == ["ROLE_USER"]

    def test_disabling_ends_all_sessions(self, api, admin, seller, as_user):
        clients = [as_user(seller), as_user(seller)]
        assert api(admin).patch(one(seller), {"enabled": False}).json()["enabled"] is False
        assert [client.get("/api/v1/auth/me").status_code for client in clients] == [401, 401]
        assert set(Session.objects.values_list("end_reason", flat=True)) == {"disabled"}

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"enabled": None}, 400, "validation_error"),
            ({"enabled": "maybe"}, 400, "validation_error"),
            ({"full_name": None}, 400, "validation_error"),
            ({"roles": None}, 400, "validation_error"),
            ({"roles": ["nobody"]}, 404, "role_not_found"),
        ],
    )
    def test_refuses(self, api, admin, seller, body, status, code):
        answer = api(admin).patch(one(seller), body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    def test_unknown(self, api, admin):
        assert api(admin).patch(f"{URL}/{uuid.uuid4()}", {}).json()["code"] == "user_not_found"

    @pytest.mark.parametrize(
        ("tag", "status"), [('"1"', 200), ('W/"1"', 200), ("*", 200), ('"2"', 412), ("1", 412), (None, 200)]
    )
    def test_if_match(self, api, admin, seller, tag, status):
        extra = {} if tag is None else {"HTTP_IF_MATCH": tag}
        answer = api(admin).patch(one(seller), {"full_name": "x"}, **extra)
        assert answer.status_code == status
        assert answer["ETag"] == ('"2"' if status == 200 else '"1"')

    def test_if_match_where_it_is_required(self, api, admin, seller, settings):
        settings.STRICT_IF_MATCH = True
        assert api(admin).patch(one(seller), {"full_name": "x"}).status_code == 428

    def test_email_and_password_are_not_changed_here(self, api, admin, seller, sign_in):
        api(admin).patch(one(seller), {"email": "x@example.com", "password": "Осенний-ветер-77"})
        assert sign_in(seller.email).status_code == 200
