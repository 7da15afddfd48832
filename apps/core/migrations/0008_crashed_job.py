import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0007_job_run_tries_and_errors")]
    operations = [
        migrations.CreateModel(
            name="CrashedJob",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("job", models.CharField(max_length=100, verbose_name="job")),
                ("kwargs", models.JSONField(default=dict, verbose_name="arguments")),
                ("runs", models.PositiveSmallIntegerField(default=1, verbose_name="runs")),
                ("last_run_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="last run")),
                ("dead_at", models.DateTimeField(null=True, verbose_name="put aside")),
            ],
            options={"verbose_name": "crashed job", "verbose_name_plural": "crashed jobs"},
        ),
    ]
