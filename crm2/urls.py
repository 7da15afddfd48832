"""Every address of the site: the admin, health, the API on its two faces, its documentation."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from crm2 import openapi

urlpatterns = [
    path("api/v1/crm/", include("crm2.gateway_urls")),
    path("api/v1/", include("crm2.native_urls")),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    *openapi.urlpatterns,
]

handler400 = "apps.core.api.problems.bad_request"
handler403 = "apps.core.api.problems.permission_denied"
handler404 = "apps.core.api.problems.not_found"
handler500 = "apps.core.api.problems.server_error"
