from apps.core.api.views import route
from apps.notifications.api.streams import StreamViewSet

native_patterns = [
    *route("streams/deals", StreamViewSet, get="deals"),
    *route("streams/crm", StreamViewSet, get="crm"),
    *route("streams/notifications", StreamViewSet, get="notifications"),
    *route("streams/heartbeat", StreamViewSet, get="heartbeat"),
]
