"""Triggers: forbidden moves of calculations and policies, and the kept figures of the stages."""

from django.db import migrations

MOVES = """
CREATE FUNCTION crm_refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'check_violation', CONSTRAINT = TG_ARGV[0];
END $$;
CREATE TRIGGER crm_calculation_move_allowed BEFORE UPDATE OF status ON crm_calculation FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN
          (('draft', 'ready'), ('ready', 'confirmed'), ('ready', 'archived'), ('confirmed', 'archived')))
    EXECUTE FUNCTION crm_refuse_move('crm_calculation_move_allowed');
CREATE TRIGGER crm_policy_move_allowed BEFORE UPDATE OF status ON crm_policy FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN
          (('draft', 'active'), ('active', 'pending_renewal'), ('active', 'closed'),
           ('pending_renewal', 'active'), ('pending_renewal', 'closed')))
    EXECUTE FUNCTION crm_refuse_move('crm_policy_move_allowed');
"""
DROP_MOVES = """
DROP TRIGGER crm_calculation_move_allowed ON crm_calculation;
DROP TRIGGER crm_policy_move_allowed ON crm_policy;
DROP FUNCTION crm_refuse_move();
"""

FIGURES = """
CREATE FUNCTION crm_deal_cycle(d crm_deal) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT round(extract(epoch FROM d.updated_at - d.created_at)::numeric / 86400, 6)
$$;
CREATE FUNCTION crm_deal_figures() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was boolean := TG_OP <> 'INSERT' AND OLD.deleted_at IS NULL;
    is_ boolean := TG_OP <> 'DELETE' AND NEW.deleted_at IS NULL;
    was_cycle numeric; is_cycle numeric;
BEGIN
    IF was THEN was_cycle := crm_deal_cycle(OLD); END IF;
    IF is_ THEN is_cycle := crm_deal_cycle(NEW); END IF;
    IF was AND is_ AND OLD.owner_id IS NOT DISTINCT FROM NEW.owner_id AND OLD.stage = NEW.stage THEN
        IF OLD.planned_total <> NEW.planned_total OR was_cycle <> is_cycle THEN
            INSERT INTO crm_stagefiguredelta (owner_id, stage, deals, planned_total, cycles, cycle_days)
            VALUES (NEW.owner_id, NEW.stage, 0, NEW.planned_total - OLD.planned_total,
                    (is_cycle >= 0)::int - (was_cycle >= 0)::int, greatest(is_cycle, 0) - greatest(was_cycle, 0));
        END IF;
        RETURN NULL;
    END IF;
    IF was THEN
        INSERT INTO crm_stagefiguredelta (owner_id, stage, deals, planned_total, cycles, cycle_days)
        VALUES (OLD.owner_id, OLD.stage, -1, -OLD.planned_total, -(was_cycle >= 0)::int, -greatest(was_cycle, 0));
    END IF;
    IF is_ THEN
        INSERT INTO crm_stagefiguredelta (owner_id, stage, deals, planned_total, cycles, cycle_days)
        VALUES (NEW.owner_id, NEW.stage, 1, NEW.planned_total, (is_cycle >= 0)::int, greatest(is_cycle, 0));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER crm_deal_figures AFTER INSERT OR DELETE OR UPDATE OF owner_id, status, planned_total, updated_at,
    created_at, deleted_at ON crm_deal FOR EACH ROW EXECUTE FUNCTION crm_deal_figures();
"""
DROP_FIGURES = """
DROP TRIGGER crm_deal_figures ON crm_deal; DROP FUNCTION crm_deal_figures(); DROP FUNCTION crm_deal_cycle(crm_deal);
"""


class Migration(migrations.Migration):
    dependencies = [("crm", "0001_initial")]
    operations = [migrations.RunSQL(MOVES, DROP_MOVES), migrations.RunSQL(FIGURES, DROP_FIGURES)]
