"""An invented agency, row by row, in the shape of the tables. No database here: the same numbers give the same rows.

Proportions, for 100,000 deals: 50 users, 20,000 clients, 60,000 policies with two payments each, two incomes a payment
on average. Every user owns an equal share of the deals and takes part in as many others as one in a hundred of all.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from random import Random
from uuid import UUID

from apps.core.folding import fold
from apps.crm import events, rules
from apps.crm.models import Deal
from crm2.seeds import told, words
from crm2.seeds.insured import Insured
from crm2.seeds.shapes import Catalogs, Chunk, DealDraft, made_id, rubles

DEALS_PER_USER, FEWEST_USERS = 2000, 5
CHUNK = 5000  # deals that are made and written together

# Of 40 deals: the status, and the one it was created with.
STATUSES = (
    [("draft", "draft")] * 4 + [("qualification", "qualification")] * 5 + [("in_progress", "qualification")] * 12
    + [("proposal", "draft")] * 7 + [("won", "proposal")] * 9 + [("lost", "in_progress")] * 3
)  # fmt: skip


def number_of_users(deals: int) -> int:
    return max(FEWEST_USERS, round(deals / DEALS_PER_USER))


def repeatable(*numbers: int) -> Random:
    """Chance that is the same for the same numbers."""
    return Random("/".join(map(str, numbers)))  # noqa: S311 - not a secret


def person(rng: Random) -> str:
    """A full name, a woman's or a man's."""
    surname, patronymic = rng.choice(words.SURNAMES), rng.choice(words.PATRONYMICS)
    if rng.random() < 0.5:
        return f"{surname}а {rng.choice(words.WOMEN)} {patronymic.removesuffix('ич')}на"
    return f"{surname} {rng.choice(words.MEN)} {patronymic}"


class Agency:
    """Makes the agency chunk by chunk. `number` tells agencies of one database apart; dates hang from `now`."""

    def __init__(
        self, *, number: int, deals: int, users: Sequence[UUID], catalogs: Catalogs, now: datetime, today: date
    ) -> None:
        self.number, self.deals, self.users = number, deals, users
        self.now, self.today = now.replace(microsecond=0), today
        self.rng = repeatable(number, deals)
        self.insured = Insured(rng=self.rng, number=number, catalogs=catalogs, now=self.now, today=today)
        self.clients = 0

    def chunks(self) -> Iterator[Chunk]:
        for start in range(0, self.deals, CHUNK):
            yield self._chunk(start, min(CHUNK, self.deals - start))

    def _chunk(self, start: int, count: int) -> Chunk:
        chunk = Chunk()
        owners = [self.users[(start + index) % len(self.users)] for index in range(count)]
        clients = self._make_clients(chunk, owners)
        statuses = [STATUSES[index % len(STATUSES)] for index in range(count)]
        self.rng.shuffle(statuses)
        deals = [
            self._draft(clients[self._client_of(index, len(clients))], owners[index], *statuses[index])
            for index in range(count)
        ]
        self.insured.add(chunk, deals)
        for deal in deals:
            self._write(chunk, deal)
        self._add_members(chunk, deals)
        return chunk

    def _make_clients(self, chunk: Chunk, owners: Sequence[UUID]) -> list[UUID]:
        rng, ids = self.rng, list[UUID]()
        for owner_id in owners[: max(1, round(len(owners) / 5))]:
            self.clients += 1
            name = person(rng)
            if rng.random() < 0.12:
                name = f"ООО «{rng.choice(words.COMPANY_WORDS)}{rng.choice(words.COMPANY_TRADES)}»"
            number = f"000{(1000 + self.clients) % 10**7:07d}"  # the zone 000 is nobody's
            prefix = "+7" if rng.random() < 0.7 else "8"
            phone = f"{prefix} {number[:3]} {number[3:6]}-{number[6:8]}-{number[8:]}"
            email = f"client{self.number}.{self.clients}@example.com" if rng.random() < 0.8 else None
            status = rng.choices(rules.CLIENT_STATUSES, (85, 5, 8, 2))[0]
            created_at = self._moment(750, 900)
            ids.append(made_id(rng))
            name_key = fold(name)
            chunk.rows["crm_client"].append((
                ids[-1], name, name_key, email, phone, f"+7{number}", f"{name_key}\n7{number}\n{email or ''}", status,
                owner_id, 1, created_at, created_at,
            ))  # fmt: skip
        return ids

    def _client_of(self, index: int, clients: int) -> int:
        """Every client has a deal; the other deals go to clients of the same owner."""
        if index < clients:
            return index
        first = index % len(self.users)
        return self.rng.randrange(first, clients, len(self.users)) if first < clients else index % clients

    def _draft(self, client_id: UUID, owner_id: UUID, status: str, born_as: str) -> DealDraft:
        rng = self.rng
        created_at = self._moment(1, 300 if status not in ("won", "lost") else 720)
        updated_at = created_at
        if status != born_as:
            updated_at += (self.now - created_at) * rng.random()
            updated_at = updated_at.replace(microsecond=0)
        if status in ("won", "lost"):
            review = updated_at.date() + timedelta(days=rng.randrange(30))
        else:
            review = self.today + timedelta(days=rng.randint(-10, 120))
        title, kind = self._title()
        return DealDraft(
            id=made_id(rng),
            client_id=client_id,
            owner_id=owner_id,
            title=title,
            kind=kind,
            description=rng.choice(words.NOTES) if rng.random() < 0.6 else None,
            status=status,
            born_as=born_as,
            created_at=created_at,
            updated_at=updated_at,
            next_review_at=review,
        )

    def _title(self) -> tuple[str, str]:
        rng = self.rng
        subject, kind = rng.choice(words.OBJECTS)
        if subject == "car":
            return f"{rng.choice(words.CARS)} {self.today.year - rng.randrange(12)}, {kind}", kind
        if subject == "home":
            place = f"ул. {rng.choice(words.STREETS)}, {rng.randint(1, 120)}"
            return f"{rng.choice(words.HOMES)}, {place}, {kind.lower()}", kind
        if subject == "trip":
            return f"Поездка: {rng.choice(words.TRIPS)}", kind
        return f"{kind}, {rng.randint(1, 40)} чел.", kind

    def _write(self, chunk: Chunk, deal: DealDraft) -> None:
        rng, moved = self.rng, deal.status != deal.born_as
        lost = deal.status == "lost"
        reason = rng.choice(words.LOST_REASONS) if lost else ""
        closed_from = deal.born_as if deal.status in ("won", "lost") else ""
        chunk.rows["crm_deal"].append((
            deal.id, deal.client_id, deal.owner_id, deal.title, deal.description,
            Deal.twins(title=deal.title, description=deal.description)["search_text"], deal.status,
            deal.next_review_at, reason, closed_from, rubles(deal.planned), 1 + moved, deal.created_at, deal.updated_at,
        ))  # fmt: skip
        chunk.rows["crm_dealmember"].append((deal.id, deal.owner_id, "seller", "owner", deal.created_at))
        self._tell(chunk, deal, reason)
        if rng.random() < 0.2:
            at = deal.created_at + (self.now - deal.created_at) * rng.random()
            chunk.rows["crm_journalentry"].append((
                made_id(rng), deal.id, deal.owner_id, rng.choice(words.JOURNAL), at,
            ))  # fmt: skip

    def _tell(self, chunk: Chunk, deal: DealDraft, reason: str) -> None:
        born = {
            "id": deal.id,
            "client_id": deal.client_id,
            "owner_id": deal.owner_id,
            "title": deal.title,
            "description": deal.description,
            "status": deal.born_as,
            "stage": rules.stage_of(deal.born_as),
            "next_review_at": deal.next_review_at,
            "created_at": deal.created_at,
        }
        whose = {"deal_id": deal.id, "client_id": deal.client_id, "actor_id": deal.owner_id}
        given = {name: (None, born[name]) for name in told.DEAL_FIELDS if born[name] is not None}
        chunk.tell(
            self.rng, events.DEAL_CREATED, "deal", deal.id, 1, **whose,
            payload=told.deal_read(born), changes=given, at=deal.created_at,
        )  # fmt: skip
        if deal.status == deal.born_as:
            return
        stage = rules.stage_of(deal.status)
        payload = {
            "deal_id": deal.id,
            "old_stage": born["stage"],
            "new_stage": stage,
            "status": deal.status,
            "changed_at": deal.updated_at,
        }
        changes = {"status": (deal.born_as, deal.status), "stage": (born["stage"], stage)}
        if reason:
            payload["reason"], changes["close_reason"] = reason, ("", reason)
        chunk.tell(
            self.rng, events.DEAL_STAGE_CHANGED, "deal", deal.id, 2, **whose,
            payload=payload, changes=changes, at=deal.updated_at,
        )  # fmt: skip

    def _add_members(self, chunk: Chunk, deals: Sequence[DealDraft]) -> None:
        """Every user takes part in one more deal of a hundred, as executor and as observer in turn."""
        share = max(1, round(len(deals) / 100))
        for user_id in self.users:
            others = [deal for deal in self.rng.sample(deals, min(len(deals), share * 3)) if deal.owner_id != user_id]
            for index, deal in enumerate(others[:share]):
                role = "observer" if index % 2 else "executor"
                chunk.rows["crm_dealmember"].append((deal.id, user_id, role, "manual", deal.created_at))

    def _moment(self, least: int, most: int) -> datetime:
        """A moment that many days ago."""
        return self.now - timedelta(days=self.rng.randint(least, most), seconds=self.rng.randrange(36_000))
