"""The names of what happens to notifications. (docs/events.md)"""

NOTIFICATION_RECEIVED = "notification.received"
