"""`/api/v1/...`: the native face."""

from apps.auth.api.urls import native_patterns as auth_patterns
from apps.crm.api.urls import patterns as crm_patterns
from apps.payments.api.urls import patterns as payments_patterns
from crm2 import health

urlpatterns = [
    *health.patterns,
    *auth_patterns,
    *crm_patterns,
    *payments_patterns,
]
