from django.apps import AppConfig


class Crm2Config(AppConfig):
    """The project itself, as an app: the commands that join the parts."""

    name = "crm2"
    label = "crm2"
