"""Deletion in batches: with what hangs below, unless something forbids it; back exactly what went."""

import uuid
from types import SimpleNamespace

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from apps.core import softdelete
from apps.core.models import SoftDeleted, Versioned

pytestmark = pytest.mark.django_db


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Models of one test: a house has rooms, rooms have lamps; a lit lamp forbids it; a note is nobody's child."""
    with isolate_apps("apps.core") as registry:

        class House(Versioned, SoftDeleted):
            name = models.CharField(max_length=20)

            class Meta:
                app_label = "core"

            def __str__(self) -> str:
                return self.name

        class Room(Versioned, SoftDeleted):
            house = models.ForeignKey(House, on_delete=models.PROTECT)
            inside = models.ForeignKey("self", on_delete=models.PROTECT, null=True)

            class Meta:
                app_label = "core"

            def __str__(self) -> str:
                return "room"

        class Lamp(SoftDeleted):
            id = models.UUIDField(primary_key=True, default=uuid.uuid4)
            room = models.ForeignKey(Room, on_delete=models.PROTECT)
            lit = models.BooleanField(default=False)

            class Meta:
                app_label = "core"

            def __str__(self) -> str:
                return "lamp"

            def blocking_deletion(self, root: object) -> str | None:
                return "it burns" if self.lit else None

        class Note(models.Model):
            house = models.ForeignKey(House, on_delete=models.PROTECT)

            class Meta:
                app_label = "core"

            def __str__(self) -> str:
                return "note"

    monkeypatch.setattr(softdelete, "apps", registry)
    made = [House, Room, Lamp, Note]
    with connection.schema_editor() as editor:
        for model in made:
            editor.create_model(model)
    return SimpleNamespace(House=House, Room=Room, Lamp=Lamp, Note=Note)


def living(model: type[models.Model]) -> int:
    return model.objects.filter(deleted_at=None).count()


def test_what_hangs_below_goes_along_as_one_batch(house):
    root = house.House.objects.create(name="a")
    room = house.Room.objects.create(house=root)
    house.Room.objects.create(house=root, inside=room)
    house.Lamp.objects.create(room=room)
    other = house.Room.objects.create(house=house.House.objects.create(name="b"))
    batch = softdelete.delete(root)
    assert batch.rows[0] is root
    assert len(batch.rows) == len({row.pk for row in batch.rows}) == 4
    assert {row.deletion_id for row in batch.rows} == {batch.deletion_id}
    assert {row.deleted_at for row in batch.rows} == {batch.at}
    assert [living(model) for model in (house.House, house.Room, house.Lamp)] == [1, 1, 0]
    assert house.Room.objects.get(deleted_at=None) == other


def test_versions_rise(house):
    root = house.House.objects.create(name="a")
    room = house.Room.objects.create(house=root)
    softdelete.delete(root)
    softdelete.restore(root)
    root.refresh_from_db()
    room.refresh_from_db()
    assert (root.version, room.version) == (3, 3)
    assert not root.is_deleted


def test_a_row_that_forbids_it_is_named_and_nothing_goes(house):
    root = house.House.objects.create(name="a")
    room = house.Room.objects.create(house=root)
    lamp = house.Lamp.objects.create(room=room, lit=True)
    with pytest.raises(softdelete.DeletionBlocked) as caught:
        softdelete.delete(root)
    assert caught.value.extra["blockers"] == [
        {"type": "lamp", "id": str(lamp.pk), "label": "lamp", "reason": "it burns"}
    ]
    assert [living(model) for model in (house.House, house.Room, house.Lamp)] == [1, 1, 1]


def test_the_root_does_not_forbid_itself(house):
    lamp = house.Lamp.objects.create(room=house.Room.objects.create(house=house.House.objects.create()), lit=True)
    softdelete.delete(lamp)
    assert living(house.Lamp) == 0


def test_back_comes_what_went_and_nothing_else(house):
    root = house.House.objects.create(name="a")
    first, second = (house.Room.objects.create(house=root) for _ in range(2))
    lamp = house.Lamp.objects.create(room=second)
    softdelete.delete(first)
    root.refresh_from_db()
    batch = softdelete.delete(root)
    back = softdelete.restore(root)
    assert back.deletion_id == batch.deletion_id
    assert {row.pk for row in back.rows} == {root.pk, second.pk, lamp.pk}
    first.refresh_from_db()
    assert first.is_deleted
    assert [living(model) for model in (house.House, house.Room, house.Lamp)] == [1, 1, 1]


def test_a_living_row_is_not_restored(house):
    root = house.House.objects.create(name="a")
    house.Room.objects.create(house=root)
    with pytest.raises(ValueError, match="not deleted"):
        softdelete.restore(root)
    assert house.Room.objects.get().version == 1
