"""Who gets what answer: one row per operation of the OpenAPI file, one cell per person and object.

People: `anonymous`, `disabled` (once signed in), `seller` (owns OURS), `other_seller` (owns THEIRS), `executor`
(a member of OURS), `observer` (of OURS; by roles a seller and an executor), `reader` (ROLE_USER alone, in no deal),
`admin`. Objects: OURS, THEIRS, DELETED (was the seller's), ABSENT. OK stands for the operation's own success.
"""

OK = -1
OBJECTS = ("ours", "theirs", "deleted", "absent")
NOBODY = {"anonymous": (401,) * 4, "disabled": (401,) * 4}
Pattern = dict[str, tuple[int, ...]]

# Reading what hangs from a deal: its team, and those who see every deal.
READ: Pattern = {
    "seller": (OK, 404, 404, 404),
    "other_seller": (404, OK, 404, 404),
    "executor": (OK, 404, 404, 404),
    "observer": (OK, 404, 404, 404),
    "reader": (404, 404, 404, 404),
    "admin": (OK, OK, 404, 404),
}
# Writing in a deal, open to sellers and executors who work in it.
WRITE: Pattern = {
    **READ,
    "observer": (403, 404, 404, 404),
    "reader": (403, 403, 403, 403),
}
# Writing that needs a seller's role: an executor may not, whatever he sees.
SELL: Pattern = {**WRITE, "executor": (403, 403, 403, 403)}
# His own entry only: the executor did not make it.
CORRECT: Pattern = {**WRITE, "executor": (403, 404, 404, 404)}
# What a restore finds is deleted; it is for the owner and admins.
RESTORE: Pattern = {
    **SELL,
    "seller": (OK, 404, OK, 404),
    "admin": (OK, OK, OK, 404),
}
ANYONE: Pattern = dict.fromkeys(READ, (OK, OK, OK, 404))  # catalogs
MINE: Pattern = dict.fromkeys(READ, (OK, OK, OK, OK))  # lists narrowed to what one sees
ADMIN: Pattern = dict.fromkeys(READ, (403, 403, 403, 403)) | {"admin": (OK, OK, OK, 404)}
ADMIN_LIST: Pattern = {**ADMIN, "admin": (OK, OK, OK, OK)}
SELLER_LIST: Pattern = {**MINE, "executor": (403,) * 4, "reader": (403,) * 4}
HEALTH: Pattern = {**MINE, "anonymous": (OK, OK, OK, OK)}
PUBLIC: Pattern = {**HEALTH, "disabled": (OK, OK, OK, OK)}  # credentials are not looked at

# operation: (pattern, the status of success, body)
TABLE: dict[str, tuple[Pattern, int, dict[str, object] | None]] = {
    "health": (HEALTH, 503, None),  # no relay, worker and beat run beside the tests
    "auth_register": (PUBLIC, 403, {"email": "new@example.com", "password": "Зимний-лес-2027"}),  # closed
    "auth_token": (PUBLIC, 401, {"email": "{someone}", "password": "wrong"}),
    "auth_refresh": (PUBLIC, 401, {"refreshToken": "A" * 43}),
    "auth_me": (MINE, 200, None),
    "auth_logout": (MINE, 204, None),
    "auth_password": (MINE, 400, {"currentPassword": "wrong", "newPassword": "Зимний-лес-2027"}),
    "clients_list": (MINE, 200, None),
    "clients_create": (SELLER_LIST, 201, {"name": "Новый клиент"}),
    "clients_retrieve": (READ, 200, None),
    "clients_partial_update": (SELL, 200, {"name": "Другое имя"}),
    "clients_destroy": (SELL, 409, None),  # living deals
    "clients_restore": (RESTORE, 200, None),
    "clients_history": (READ, 200, None),
    "deals_list": (MINE, 200, None),
    "deals_stage_metrics": (MINE, 200, None),
    "deals_create": (
        {**SELLER_LIST, "seller": (OK, 404, 404, 404), "other_seller": (404, OK, 404, 404),
         "observer": (OK, 404, 404, 404), "admin": (OK, OK, 404, 404)},
        201,
        {"client_id": "{client}", "title": "Новая", "next_review_at": "2026-05-01"},
    ),
    "deals_retrieve": (READ, 200, None),
    "deals_partial_update": (WRITE, 200, {"title": "Другое имя"}),
    "deals_destroy": (SELL, 409, None),  # money
    "deals_restore": (RESTORE, 200, None),
    "deals_history": (READ, 200, None),
    "deals_stage_change_stage": (WRITE, 200, {"stage": "proposal"}),
    "deals_reopen": (SELL, 409, {"reason": "x"}),  # open
    "deals_members_list": (READ, 200, None),
    "deals_members_create": (SELL, 201, {"user_id": "{colleague}", "role": "observer"}),
    "deals_members_partial_update": (SELL, 200, {"role": "observer"}),
    "deals_members_destroy": (SELL, 204, None),
    "deals_journal_list": (READ, 200, None),
    "deals_journal_create": (WRITE, 201, {"body": "Позвонить"}),
    "deals_calculations_list": (READ, 200, None),
    "deals_calculations_create": (WRITE, 201, {"insurance_company": "Первая", "calculation_date": "2026-03-01"}),
    "deals_calculations_retrieve": (READ, 200, None),
    "deals_calculations_partial_update": (WRITE, 200, {"comments": "x"}),
    "deals_calculations_destroy": (WRITE, 204, None),
    "deals_calculations_status_change_status": (WRITE, 200, {"status": "ready"}),
    "policies_list": (MINE, 200, None),
    "policies_create": (
        {**WRITE, "observer": (403, 404, 404, 404)},
        201,
        {"client_id": "{client}", "deal_id": "{deal}", "policy_number": "НОВЫЙ 1"},
    ),
    "policies_retrieve": (READ, 200, None),
    "policies_partial_update": (WRITE, 200, {"premium": "1.00"}),
    "policies_destroy": (SELL, 409, None),  # money
    "policies_restore": (SELL, 200, None),  # a deleted deal's policy comes back with the deal
    "deals_policies_payments_list": (READ, 200, None),
    "deals_policies_payments_create": (WRITE, 201, {"planned_amount": "10.00"}),
    "deals_policies_payments_retrieve": (READ, 200, None),
    "deals_policies_payments_partial_update": (WRITE, 200, {"comment": "x"}),
    "deals_policies_payments_destroy": (SELL, 409, None),  # money
    "deals_policies_payments_history": (READ, 200, None),
    "deals_policies_payments_incomes_list": (READ, 200, None),
    "deals_policies_payments_incomes_create": (
        WRITE, 201, {"amount": "1.00", "category": "premium", "posted_at": "2026-01-01"},
    ),
    "deals_policies_payments_incomes_partial_update": (CORRECT, 200, {"note": "x"}),
    "deals_policies_payments_incomes_destroy": (CORRECT, 204, None),
    "deals_policies_payments_expenses_list": (READ, 200, None),
    "deals_policies_payments_expenses_create": (
        WRITE, 201, {"amount": "1.00", "category": "fee", "posted_at": "2026-01-01"},
    ),
    "deals_policies_payments_expenses_partial_update": (CORRECT, 200, {"note": "x"}),
    "deals_policies_payments_expenses_destroy": (CORRECT, 204, None),
    **{
        f"{name}_{action}": row
        for name in ("insurers", "insurance_types", "sales_channels")
        for action, row in {
            "list": (MINE, 200, None),
            "create": (ADMIN_LIST, 201, {"name": "Новое имя"}),
            "retrieve": (ANYONE, 200, None),
            "partial_update": (ADMIN, 200, {"code": "X"}),
        }.items()
    },
    "users_list": (ADMIN_LIST, 200, None),
    "users_create": (ADMIN_LIST, 201, {"email": "new@example.com", "password": "Зимний-лес-2027"}),
    "users_retrieve": (ADMIN, 200, None),
    "users_partial_update": (ADMIN, 200, {"full_name": "Другое имя"}),
    "users_roles_give_role": (ADMIN, 200, {"role_name": "executor"}),
    "users_roles_take_role": (ADMIN, 200, None),
    "users_assignable": (MINE, 200, None),
    "roles_list": (MINE, 200, None),
    "roles_create": (ADMIN_LIST, 201, {"name": "auditor"}),
    "service_tokens_list": (ADMIN_LIST, 200, None),
    "service_tokens_create": (ADMIN_LIST, 201, {"name": "x", "scopes": ["clients.edit"]}),
    "service_tokens_destroy": (ADMIN, 204, None),
    **{f"streams_{name}": (MINE, 404, None) for name in ("deals", "crm", "notifications", "heartbeat")},  # not by WSGI
}  # fmt: skip
