from django.apps import AppConfig
from django.conf import settings


class Crm2Config(AppConfig):
    """The project itself, as an app: the commands that join the parts."""

    name = "crm2"
    label = "crm2"

    def ready(self) -> None:
        if settings.CONSUL_ENABLED:
            from crm2 import discovery  # noqa: PLC0415 - its client is loaded where there is a Consul

            discovery.follow()
