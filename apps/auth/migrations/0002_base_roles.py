"""The roles that config/roles.toml gives rights to, with their fixed ids."""

from django.db import migrations

ROLES = {
    "ROLE_USER": ("11111111-1111-1111-1111-111111111111", "Сотрудник"),
    "ROLE_ADMIN": ("22222222-2222-2222-2222-222222222222", "Главный администратор"),
    "ROLE_SALES_AGENT": ("33333333-3333-3333-3333-333333333333", "Продавец"),
    "ROLE_EXECUTOR": ("44444444-4444-4444-4444-444444444444", "Исполнитель"),
    "ROLE_FINANCE_MANAGER": ("55555555-5555-5555-5555-555555555555", "Финансовый менеджер"),
    "ROLE_TEAM_LEAD": ("66666666-6666-6666-6666-666666666666", "Руководитель группы"),
}


def make_roles(apps, schema_editor):
    role = apps.get_model("accounts", "Role")
    for name, (id_, description) in ROLES.items():
        role.objects.get_or_create(name=name, defaults={"id": id_, "description": description})


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
