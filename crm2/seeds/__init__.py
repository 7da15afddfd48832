"""Demo data: a few fixed rows that examples and clients count on, and an invented agency of any size."""

PASSWORD = "Passw0rd!"  # noqa: S105 - of every seeded user, published on purpose; production refuses the seeds
