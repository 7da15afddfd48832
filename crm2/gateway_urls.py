"""`/api/v1/crm/...`: the same views for the clients that exist; answers in camelCase."""

from apps.auth.api.urls import gateway_patterns as auth_patterns
from apps.crm.api.urls import patterns as crm_patterns
from apps.payments.api.urls import patterns as payments_patterns

urlpatterns = [
    *crm_patterns,
    *payments_patterns,
    *auth_patterns,
]
