"""Argon2id at the cost the sign-in needs: 19 MiB, two passes, one lane; a bounded number at a time."""

import os
from threading import BoundedSemaphore
from typing import Any

from django.contrib.auth.hashers import Argon2PasswordHasher

# Hashing holds 19 MiB and a core: as many at once as there are cores, whatever the number of threads.
_slots = BoundedSemaphore(os.cpu_count() or 1)


class Argon2id(Argon2PasswordHasher):
    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        with _slots:
            return str(super().encode(password, salt))

    def verify(self, password: str, encoded: str) -> bool:
        with _slots:
            return bool(super().verify(password, encoded))

    def harden_runtime(self, password: str, encoded: str) -> Any:
        """Every hash has the same cost."""
