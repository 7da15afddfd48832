"""What the models cannot say: composite keys, totals, statuses and the deal's planned total, kept by triggers."""

from django.db import migrations

KEYS = """
-- A payment's deal is its policy's, and moves with it.
ALTER TABLE payments_payment ADD CONSTRAINT payments_payment_in_deal_of_policy
    FOREIGN KEY (policy_id, deal_id) REFERENCES crm_policy (id, deal_id) ON UPDATE CASCADE ON DELETE RESTRICT;
-- An operation is in its payment's currency.
ALTER TABLE payments_income ADD CONSTRAINT payments_income_in_currency_of_payment
    FOREIGN KEY (payment_id, currency) REFERENCES payments_payment (id, currency) ON UPDATE CASCADE ON DELETE RESTRICT;
ALTER TABLE payments_expense ADD CONSTRAINT payments_expense_in_currency_of_payment
    FOREIGN KEY (payment_id, currency) REFERENCES payments_payment (id, currency) ON UPDATE CASCADE ON DELETE RESTRICT;
"""
DROP_KEYS = """
ALTER TABLE payments_expense DROP CONSTRAINT payments_expense_in_currency_of_payment;
ALTER TABLE payments_income DROP CONSTRAINT payments_income_in_currency_of_payment;
ALTER TABLE payments_payment DROP CONSTRAINT payments_payment_in_deal_of_policy;
"""

TOTALS = """
CREATE FUNCTION payments_add_operation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was numeric := 0; is_ numeric := 0;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.payment_id <> OLD.payment_id THEN
        RAISE EXCEPTION 'an operation does not move' USING ERRCODE = 'check_violation',
            CONSTRAINT = TG_TABLE_NAME || '_stays_with_its_payment';
    END IF;
    IF TG_OP <> 'INSERT' AND OLD.deleted_at IS NULL THEN was := OLD.amount; END IF;
    IF TG_OP <> 'DELETE' AND NEW.deleted_at IS NULL THEN is_ := NEW.amount; END IF;
    IF is_ = was THEN
        RETURN NULL;
    END IF;
    -- The row lock of this UPDATE is what serialises concurrent operations of one payment.
    IF TG_TABLE_NAME = 'payments_income' THEN
        UPDATE payments_payment SET incomes_total = incomes_total + is_ - was
            WHERE id = coalesce(NEW.payment_id, OLD.payment_id);
    ELSE
        UPDATE payments_payment SET expenses_total = expenses_total + is_ - was
            WHERE id = coalesce(NEW.payment_id, OLD.payment_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER payments_income_total AFTER INSERT OR UPDATE OR DELETE ON payments_income
    FOR EACH ROW EXECUTE FUNCTION payments_add_operation();
CREATE TRIGGER payments_expense_total AFTER INSERT OR UPDATE OR DELETE ON payments_expense
    FOR EACH ROW EXECUTE FUNCTION payments_add_operation();
"""
DROP_TOTALS = """
DROP TRIGGER payments_expense_total ON payments_expense;
DROP TRIGGER payments_income_total ON payments_income;
DROP FUNCTION payments_add_operation();
"""

STATUS = """
CREATE FUNCTION payments_settle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.deal_id IS NULL THEN
        RAISE EXCEPTION 'a policy with payments keeps its deal' USING ERRCODE = 'check_violation',
            CONSTRAINT = 'payments_payment_has_deal';
    END IF;
    IF TG_OP = 'INSERT' THEN  -- the sums begin at nothing whatever was sent: each operation adds itself
        NEW.incomes_total := 0;
        NEW.expenses_total := 0;
    ELSIF pg_trigger_depth() = 1 AND (NEW.incomes_total, NEW.expenses_total) <> (OLD.incomes_total, OLD.expenses_total) THEN
        RAISE EXCEPTION 'totals are sums' USING ERRCODE = 'check_violation',
            CONSTRAINT = 'payments_payment_totals_are_sums';
    END IF;
    NEW.net_total := NEW.incomes_total - NEW.expenses_total;
    IF TG_OP = 'UPDATE' AND OLD.status = 'cancelled' THEN
        NEW.status := 'cancelled';
    ELSIF NEW.status IN ('scheduled', 'partially_paid', 'paid') THEN
        NEW.status := CASE
            WHEN NEW.incomes_total <= 0 THEN 'scheduled'
            WHEN NEW.incomes_total >= NEW.planned_amount THEN 'paid'
            ELSE 'partially_paid'
        END;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER payments_payment_settle BEFORE INSERT OR UPDATE ON payments_payment
    FOR EACH ROW EXECUTE FUNCTION payments_settle();
"""
DROP_STATUS = """
DROP TRIGGER payments_payment_settle ON payments_payment;
DROP FUNCTION payments_settle();
"""

PLANNED = """
-- crm_deal.planned_total is the sum of planned_amount over the deal's living payments that are not cancelled.
CREATE FUNCTION payments_keep_planned_total() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was numeric := 0; is_ numeric := 0;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.deleted_at IS NULL AND OLD.status <> 'cancelled' THEN was := OLD.planned_amount; END IF;
    IF TG_OP <> 'DELETE' AND NEW.deleted_at IS NULL AND NEW.status <> 'cancelled' THEN is_ := NEW.planned_amount; END IF;
    IF TG_OP = 'UPDATE' AND NEW.deal_id = OLD.deal_id THEN
        IF is_ <> was THEN
            UPDATE crm_deal SET planned_total = planned_total + is_ - was WHERE id = NEW.deal_id;
        END IF;
        RETURN NULL;
    END IF;
    IF was <> 0 THEN
        UPDATE crm_deal SET planned_total = planned_total - was WHERE id = OLD.deal_id;
    END IF;
    IF is_ <> 0 THEN
        UPDATE crm_deal SET planned_total = planned_total + is_ WHERE id = NEW.deal_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER payments_payment_planned_total AFTER INSERT OR UPDATE OR DELETE ON payments_payment
    FOR EACH ROW EXECUTE FUNCTION payments_keep_planned_total();
"""
DROP_PLANNED = """
DROP TRIGGER payments_payment_planned_total ON payments_payment;
DROP FUNCTION payments_keep_planned_total();
"""


class Migration(migrations.Migration):
    dependencies = [("payments", "0001_initial"), ("crm", "0001_initial")]
    operations = [
        migrations.RunSQL(KEYS, DROP_KEYS),
        migrations.RunSQL(TOTALS, DROP_TOTALS),
        migrations.RunSQL(STATUS, DROP_STATUS),
        migrations.RunSQL(PLANNED, DROP_PLANNED),
    ]
