from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CrmConfig(AppConfig):
    name = "apps.crm"
    verbose_name = _("Clients and deals")

    def ready(self) -> None:
        from apps.crm.services import guards  # noqa: PLC0415 - models must be loaded first

        guards.register()
