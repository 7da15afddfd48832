from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from apps.auth import rules


class AuthConfig(AppConfig):
    """People and rights. The label is `accounts`: `auth` is Django's own."""

    name = "apps.auth"
    label = "accounts"
    verbose_name = _("People and rights")

    def ready(self) -> None:
        rules.role_table()  # a typo in config/roles.toml refuses to start
