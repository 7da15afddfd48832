"""The names of what happens to clients, deals, calculations and policies. (docs/events.md)"""

CLIENT_CREATED = "client.created"
CLIENT_UPDATED = "client.updated"
CLIENT_DELETED = "client.deleted"
CLIENT_RESTORED = "client.restored"

DEAL_CREATED = "deal.created"
DEAL_UPDATED = "deal.updated"
DEAL_STAGE_CHANGED = "deal.stage.changed"
DEAL_DELETED = "deal.deleted"
DEAL_RESTORED = "deal.restored"
DEAL_MEMBER_ADDED = "deal.member.added"
DEAL_MEMBER_REMOVED = "deal.member.removed"
DEAL_JOURNAL_APPENDED = "deal.journal.appended"

CALCULATION_CREATED = "deal.calculation.created"
CALCULATION_UPDATED = "deal.calculation.updated"
CALCULATION_DELETED = "deal.calculation.deleted"
CALCULATION_STATUS = "deal.calculation.status"  # + .ready, .confirmed, .archived

POLICY_CREATED = "policy.created"
POLICY_UPDATED = "policy.updated"
POLICY_STATUS_CHANGED = "policy.status.changed"
POLICY_DELETED = "policy.deleted"
POLICY_RESTORED = "policy.restored"

CATALOG_CREATED = "catalog.created"
CATALOG_UPDATED = "catalog.updated"
