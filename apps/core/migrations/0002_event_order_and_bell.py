"""What the models cannot say: the order of unnumbered events, the bell that wakes the relay, its head row."""

import secrets

from django.db import migrations

SEQ = """
ALTER TABLE core_event ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY;
CREATE INDEX core_event_unnumbered ON core_event (seq) WHERE position IS NULL;
"""
DROP_SEQ = "ALTER TABLE core_event DROP COLUMN seq;"

BELL = """
CREATE FUNCTION core_event_ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('crm2_events', '');  -- equal notices of one transaction are sent once
    RETURN NULL;
END $$;
CREATE TRIGGER core_event_ring AFTER INSERT ON core_event FOR EACH STATEMENT EXECUTE FUNCTION core_event_ring();

CREATE FUNCTION core_event_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are neither changed nor deleted' USING ERRCODE = 'restrict_violation';
END $$;
-- The relay gives the position, once; nothing else ever changes.
CREATE TRIGGER core_event_position_once BEFORE UPDATE OF position ON core_event FOR EACH ROW
    WHEN (OLD.position IS NOT NULL) EXECUTE FUNCTION core_event_refuse();
CREATE TRIGGER core_event_keep BEFORE DELETE OR UPDATE OF id, name, aggregate, aggregate_id, version, deal_id, client_id,
    actor_id, via, trace_id, payload, changes, at ON core_event FOR EACH ROW EXECUTE FUNCTION core_event_refuse();
"""
DROP_BELL = """
DROP TRIGGER core_event_ring ON core_event; DROP FUNCTION core_event_ring();
DROP TRIGGER core_event_position_once ON core_event; DROP TRIGGER core_event_keep ON core_event;
DROP FUNCTION core_event_refuse();
"""


def make_head(apps, schema_editor):
    apps.get_model("core", "RelayHead").objects.get_or_create(id=1, defaults={"epoch": secrets.token_hex(4)})


class Migration(migrations.Migration):
    dependencies = [("core", "0001_initial")]
    operations = [
        migrations.RunSQL(SEQ, DROP_SEQ),
        migrations.RunSQL(BELL, DROP_BELL),
        migrations.RunPython(make_head, migrations.RunPython.noop),
    ]
