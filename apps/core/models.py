"""The kernel's tables: the event log and who has read how far, what was taken from the bus, idempotency keys,
jobs that ran."""

import uuid

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Event(models.Model):
    """One thing that happened: audit entry, outbox message and stream item in one row. Written by `events.emit` only.

    `position` is given after commit by the relay, gapless; `seq` (kept by the database) orders the rest.
    `payload` goes to the bus and the streams; `changes` is `{field: [before, after]}` and never leaves the database.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    position = models.BigIntegerField(_("position"), null=True, unique=True, editable=False)
    name = models.CharField(_("event"), max_length=100)
    aggregate = models.CharField(_("object kind"), max_length=40)
    aggregate_id = models.UUIDField(_("object"))
    version = models.PositiveIntegerField(_("version"))
    deal_id = models.UUIDField(_("deal"), null=True)
    client_id = models.UUIDField(_("client"), null=True)
    actor_id = models.UUIDField(_("actor"), null=True)
    via = models.CharField(_("way in"), max_length=10)
    trace_id = models.CharField(_("trace"), max_length=64, blank=True)
    payload = models.JSONField(_("payload"))
    changes = models.JSONField(_("changes"), default=dict)
    at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        constraints = [
            models.UniqueConstraint(
                fields=["aggregate", "aggregate_id", "version"], name="core_event_one_per_aggregate_version"
            )
        ]
        indexes = [
            models.Index(fields=["deal_id", "-at", "-id"], name="core_event_of_deal"),
            models.Index(fields=["client_id", "-at", "-id"], name="core_event_of_client"),
            models.Index(fields=["-at", "-id"], name="core_event_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.name} #{self.position or '-'}"


class UnpublishedEvent(Event):
    """An event that is still to leave for the bus, as the admin lists it."""

    class Meta:
        proxy = True
        verbose_name = _("unpublished event")
        verbose_name_plural = _("unpublished events")


class RelayHead(models.Model):
    """The last position given. One row; its lock makes numbering one at a time whatever happens to the leader."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    epoch = models.CharField(max_length=16)
    position = models.BigIntegerField(default=0)
    beat_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="core_relayhead_single_row")]

    def __str__(self) -> str:
        return f"{self.epoch}-{self.position}"


class Subscription(models.Model):
    """How far one reader of the event log has come; its effects commit together with this row.

    `error` and `failing_since` are the alarm of a reader that sends outside (the bus): a code, and since when.
    """

    name = models.CharField(_("name"), max_length=100, primary_key=True)
    position = models.BigIntegerField(_("position"), default=0)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    error = models.CharField(_("alarm"), max_length=40, default="", db_default="", blank=True)
    failing_since = models.DateTimeField(_("since"), null=True)

    class Meta:
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")

    def __str__(self) -> str:
        return f"{self.name} @{self.position}"


class Parked(models.Model):
    """An event that a subscription could not take yet; later events of the same key wait behind it."""

    id = models.BigAutoField(primary_key=True)
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, verbose_name=_("subscription"))
    event = models.ForeignKey(Event, on_delete=models.PROTECT, verbose_name=_("event"))
    key = models.UUIDField(_("key"))
    position = models.BigIntegerField(_("position"))
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    next_try_at = models.DateTimeField(_("next try"), null=True)
    error = models.TextField(_("error"), blank=True)
    created_at = models.DateTimeField(_("parked"), auto_now_add=True)

    class Meta:
        verbose_name = _("parked event")
        verbose_name_plural = _("parked events")
        constraints = [
            models.UniqueConstraint(fields=["subscription", "event"], name="core_parked_once_per_subscription")
        ]
        indexes = [models.Index(fields=["subscription", "key", "position"], name="core_parked_by_key")]

    def __str__(self) -> str:
        return f"{self.subscription_id}: {self.event_id}"


class Inbox(models.Model):
    """A message of the bus that a consumer has taken: inserted with its effect, so that a repeat has none."""

    pk = models.CompositePrimaryKey("consumer", "event_id")
    consumer = models.CharField(max_length=100)
    event_id = models.UUIDField()
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.consumer}: {self.event_id}"


class IdempotencyKey(models.Model):
    """The first answer to a POST that carried an Idempotency-Key; commits with the work, kept 48 hours."""

    pk = models.CompositePrimaryKey("owner", "key")
    owner = models.UUIDField()
    key = models.CharField(max_length=255)
    route = models.CharField(max_length=255)
    fingerprint = models.BinaryField()
    status = models.PositiveSmallIntegerField(null=True)
    headers = models.JSONField(default=dict)
    body = models.BinaryField(default=bytes)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["created_at"], name="core_idempotency_created")]

    def __str__(self) -> str:
        return self.route


class JobRun(models.Model):
    """One slot of a periodic job. Unfinished: somebody is at it, or has died at it; a run that failed is finished."""

    id = models.BigAutoField(primary_key=True)
    job = models.CharField(_("job"), max_length=100)
    slot = models.DateTimeField(_("slot"))
    tries = models.PositiveSmallIntegerField(_("tries"), default=0, db_default=0)
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True)
    outcome = models.JSONField(_("outcome"), default=dict)
    error = models.TextField(_("error"), blank=True, default="", db_default="")

    class Meta:
        verbose_name = _("job run")
        verbose_name_plural = _("job runs")
        constraints = [models.UniqueConstraint(fields=["job", "slot"], name="core_jobrun_once_per_slot")]
        indexes = [
            models.Index(fields=["job"], condition=models.Q(finished_at=None), name="core_jobrun_unfinished"),
            models.Index(fields=["job", "-slot"], condition=~models.Q(error=""), name="core_jobrun_failed"),
        ]

    def __str__(self) -> str:
        return f"{self.job} {self.slot:%Y-%m-%d %H:%M:%S}"


class CrashedJob(models.Model):
    """A job whose worker has died at it, by the id of its message; with `dead_at` it was put aside after six runs."""

    id = models.UUIDField(primary_key=True, editable=False)
    job = models.CharField(_("job"), max_length=100)
    kwargs = models.JSONField(_("arguments"), default=dict)
    runs = models.PositiveSmallIntegerField(_("runs"), default=1)
    last_run_at = models.DateTimeField(_("last run"), default=timezone.now)
    dead_at = models.DateTimeField(_("put aside"), null=True)

    class Meta:
        verbose_name = _("crashed job")
        verbose_name_plural = _("crashed jobs")

    def __str__(self) -> str:
        return f"{self.job} {self.id}"


class ProcessBeat(models.Model):
    """When a process of this kind (`worker`, `beat`) was last seen at work; one row for any number of them."""

    name = models.CharField(max_length=20, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.at:%Y-%m-%d %H:%M:%S}"


class Versioned(models.Model):
    """An aggregate: its version grows by one with every change, and its events carry that version."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated"), default=timezone.now, editable=False)

    class Meta:
        abstract = True


class SoftDeleted(models.Model):
    """A row that DELETE hides; rows hidden together share `deletion_id` and come back together."""

    deleted_at = models.DateTimeField(_("deleted"), null=True, editable=False)
    deletion_id = models.UUIDField(null=True, editable=False)

    class Meta:
        abstract = True

    @property
    def is_deleted(self) -> bool:
        return self.deleted_at is not None
