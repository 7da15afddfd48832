"""Sessions that nobody uses any more."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from apps.auth.services import sessions
from apps.core.jobs import periodic


@periodic(every=timedelta(minutes=10))
def end_stale_sessions() -> dict[str, Any]:
    """Ends idle and too old sessions, deletes those that ended 30 days ago."""
    return sessions.end_stale_sessions(now=timezone.now())
