from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PaymentsConfig(AppConfig):
    name = "apps.payments"
    verbose_name = _("Payments")

    def ready(self) -> None:
        from apps.payments.services import guards  # noqa: PLC0415 - models must be loaded first

        guards.register()
