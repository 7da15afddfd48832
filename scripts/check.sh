#!/bin/sh
# `make check`: lint, types, layers, migrations, deployment, the API's description, translations. Stops at the first fault.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
say() { printf '%s\n' "-- $1"; }

say "ruff"; ruff check . && ruff format --check .
say "mypy"; mypy apps crm2 conftest.py
say "import-linter"; lint-imports --no-cache >"$tmp/layers" 2>&1 || { cat "$tmp/layers"; exit 1; }
say "requirements"; python scripts/check_locks.py

say "migrations"; python manage.py makemigrations --check --dry-run
say "check --deploy, as production"
secret() { python -c 'import secrets; print(secrets.token_urlsafe(64))'; }
CRM_DOTENV=/dev/null CRM_ENV=production SECRET_KEY=$(secret) AUTH_JWT_SECRET=$(secret) ALLOWED_HOSTS=crm.example.org \
    DATABASE_URL="postgresql://crm2:$(secret)@127.0.0.1:1/crm2" REDIS_URL="redis://:$(secret)@127.0.0.1:1/0" \
    python manage.py check --deploy --fail-level WARNING

say "OpenAPI"
python manage.py spectacular --custom-settings crm2.openapi.NATIVE --validate --fail-on-warn --file "$tmp/openapi.yaml"
python manage.py spectacular --custom-settings crm2.openapi.GATEWAY --validate --fail-on-warn --file "$tmp/gateway.yaml"
for face in openapi gateway; do
    diff -u "docs/api/$face.yaml" "$tmp/$face.yaml" || { echo "docs/api/$face.yaml is old: make openapi"; exit 1; }
done

say "translations"; python scripts/check_messages.py
echo "check: all passed"
