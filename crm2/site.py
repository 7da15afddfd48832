"""Makes `crm2.admin_site` the admin of the project. Apart from it, for it is loaded before any model is."""

from django.contrib.admin.apps import AdminConfig


class CrmAdminConfig(AdminConfig):
    default_site = "crm2.admin_site.CrmAdminSite"
