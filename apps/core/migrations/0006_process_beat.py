from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0005_unpublished_events")]
    operations = [
        migrations.CreateModel(
            name="ProcessBeat",
            fields=[
                ("name", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
            ],
        ),
    ]
