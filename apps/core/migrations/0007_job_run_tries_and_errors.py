import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0006_process_beat")]
    operations = [
        # Kept by the database too: the release before this one inserts rows without them.
        migrations.AddField(
            "jobrun", "tries", models.PositiveSmallIntegerField(db_default=0, default=0, verbose_name="tries")
        ),
        migrations.AddField(
            "jobrun", "error", models.TextField(blank=True, db_default="", default="", verbose_name="error")
        ),
        migrations.AlterField(
            "jobrun", "started_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="started")
        ),
        migrations.AddIndex(
            "jobrun",
            models.Index(fields=["job"], condition=models.Q(finished_at=None), name="core_jobrun_unfinished"),
        ),
        migrations.AddIndex(
            "jobrun",
            models.Index(fields=["job", "-slot"], condition=~models.Q(error=""), name="core_jobrun_failed"),
        ),
    ]
