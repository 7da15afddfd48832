"""`/api/v1/...`: the native face."""

from apps.auth.api.urls import native_patterns as auth_patterns
from apps.crm.api.urls import patterns as crm_patterns
from apps.notifications.api.urls import native_patterns as notifications_patterns
from apps.payments.api.urls import patterns as payments_patterns
from crm2 import health

urlpatterns = [
    *crm_patterns,  # the most asked first: patterns are tried in turn
    *payments_patterns,
    *auth_patterns,
    *notifications_patterns,
    *health.patterns,
]
