"""Role names, what config/roles.toml gives them, and the routes of roles."""

import uuid

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.auth import queries, rules
from apps.auth.access import CAPABILITIES, author_of, require
from apps.auth.models import ServiceToken, User
from apps.core.errors import Forbidden
from apps.core.models import Event

URL = "/api/v1/roles"


@pytest.fixture
def table_of(monkeypatch, tmp_path):
    """`table_of(text)`: the role table of a config file with that text."""

    def load(text):
        path = tmp_path / "roles.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(rules, "ROLES_FILE", path)
        return rules.role_table.__wrapped__()

    return load


class TestConfig:
    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ('[ROLE_X]\ncapabilities = ["deals.edti"]', "deals.edti"),
            ('[ROLE_X]\ncapabilites = ["deals.edit"]', "capabilites"),
            ('[ROLE_X]\nsees = "al"', "sees"),
            ('[ROLE_X]\nworks = "everywhere"', "works"),
            ("[ROLE_X]\nadmn = true", "admn"),
        ],
    )
    def test_a_typo_is_refused_by_name(self, table_of, text, named):
        with pytest.raises(ImproperlyConfigured, match=named) as caught:
            table_of(text)
        assert "ROLE_X" in str(caught.value)

    def test_reads_what_is_right(self, table_of):
        table = table_of('[ROLE_X]\nsees = "all"\nworks = "all"\ncapabilities = ["deals.edit"]\n[ROLE_Y]\nadmin = true')
        assert table["ROLE_X"] == rules.Rights(frozenset({"deals.edit"}), frozenset({"deals.edit"}), True, False)
        assert table["ROLE_Y"] == rules.Rights(is_admin=True)

    def test_the_shipped_file_uses_every_capability(self):
        granted = frozenset().union(*(rights.capabilities for rights in rules.role_table().values()))
        assert granted == CAPABILITIES

    @pytest.mark.parametrize(
        ("capability", "roles"),
        [
            ("deals.edit", {"ROLE_SALES_AGENT", "ROLE_EXECUTOR", "ROLE_ADMIN"}),
            ("deals.manage", {"ROLE_SALES_AGENT", "ROLE_ADMIN"}),
            ("deals.assign", {"ROLE_ADMIN"}),
            ("clients.edit", {"ROLE_SALES_AGENT", "ROLE_ADMIN"}),
            ("payments.record", {"ROLE_SALES_AGENT", "ROLE_EXECUTOR", "ROLE_FINANCE_MANAGER", "ROLE_ADMIN"}),
            ("payments.delete", {"ROLE_SALES_AGENT", "ROLE_ADMIN"}),
            ("payments.cancel", {"ROLE_ADMIN"}),
            ("users.manage", {"ROLE_ADMIN"}),
            ("tokens.manage", {"ROLE_ADMIN"}),
        ],
    )
    def test_who_holds_what(self, capability, roles):
        assert {name for name, rights in rules.role_table().items() if capability in rights.capabilities} == roles


class TestRights:
    def test_are_the_union(self, make_user):
        user = make_user("both", "ROLE_EXECUTOR", "ROLE_FINANCE_MANAGER")
        assert user.can("deals.edit")
        assert user.can("payments.correct")
        assert user.sees_all_deals
        assert user.rights.everywhere == {"payments.edit", "payments.record", "payments.correct"}
        assert not user.is_admin

    def test_disabled_has_none(self, make_user):
        user = make_user("former", "ROLE_ADMIN", enabled=False)
        assert user.rights == rules.Rights()
        assert not user.is_admin

    def test_require(self, seller, admin):
        require(admin, "users.manage")
        with pytest.raises(Forbidden):
            require(seller, "users.manage")

    def test_author(self, admin, seller):
        token = ServiceToken(scopes=[])
        assert author_of(seller) == seller
        assert author_of(seller, admin) == seller
        assert author_of(admin, seller) == seller
        assert author_of(token, seller) == seller
        assert author_of(token) is None

    @pytest.mark.parametrize(("who", "staff"), [("admin", True), ("seller", True), ("reader", False)])
    def test_who_opens_the_admin(self, db, request, who, staff):
        assert request.getfixturevalue(who).is_staff is staff

    def test_role_names_come_with_the_user_or_by_a_query(self, seller, django_assert_num_queries):
        with django_assert_num_queries(1):
            read = User.objects.with_roles().get(pk=seller.pk)
            assert read.role_names == {"ROLE_SALES_AGENT", "ROLE_USER"}
        bare = User.objects.get(pk=seller.pk)
        with django_assert_num_queries(1):
            assert bare.role_names == read.role_names


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("manager", "ROLE_MANAGER"),
        (" Role_Manager ", "ROLE_MANAGER"),
        ("ROLE_X", "ROLE_X"),
        ("менеджер", "ROLE_МЕНЕДЖЕР"),
    ],
)
def test_role_name(typed, stored):
    assert rules.role_name(typed) == stored


class TestRoutes:
    def test_list(self, api, reader):
        body = api(reader).get(URL).json()
        assert [role["name"] for role in body] == sorted(rules.role_table())
        assert body[0] == {
            "id": "22222222-2222-2222-2222-222222222222",
            "name": "ROLE_ADMIN",
            "description": "Главный администратор",
        }

    def test_create(self, api, admin):
        answer = api(admin).post(URL, {"name": " courier ", "description": "Курьер"})
        body = answer.json()
        assert answer.status_code == 201
        assert (body["name"], body["description"]) == ("ROLE_COURIER", "Курьер")
        event = Event.objects.get()
        assert (event.name, event.aggregate, str(event.aggregate_id)) == ("role.created", "role", body["id"])

    @pytest.mark.parametrize("name", ["ROLE_ADMIN", "admin", "Role_User"])
    def test_existing(self, api, admin, name):
        answer = api(admin).post(URL, {"name": name})
        assert (answer.status_code, answer.json()["code"]) == (409, "role_already_exists")

    @pytest.mark.parametrize(
        "body", [{}, {"name": ""}, {"name": " "}, {"name": "x" * 60}, {"name": "x", "description": "d" * 256}]
    )
    def test_malformed(self, api, admin, body):
        answer = api(admin).post(URL, body)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")

    @pytest.mark.parametrize("who", ["seller", "reader"])
    def test_others_may_not(self, api, request, who):
        assert api(request.getfixturevalue(who)).post(URL, {"name": "courier"}).status_code == 403


def test_emails_of_people_and_tokens(seller, admin, django_assert_num_queries):
    token = ServiceToken.objects.create(prefix="aaaaaaaa", secret_hash=b"", name="site", created_at=seller.created_at)
    with django_assert_num_queries(2):
        found = queries.emails_of([seller.pk, admin.pk, token.pk, uuid.uuid4(), None])
    assert found == {
        seller.pk: {"id": seller.pk, "email": "seller@example.com"},
        admin.pk: {"id": admin.pk, "email": "admin@example.com"},
        token.pk: {"id": token.pk, "email": "token:site"},
    }
    with django_assert_num_queries(0):
        assert queries.emails_of([None]) == {}
