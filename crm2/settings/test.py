"""The settings of the test suite: a cluster of its own without fsync, a quick hasher."""

import os
import re

os.environ["CRM_ENV"] = "development"
os.environ.setdefault("CRM_LOCAL_DIR", ".local/test")
os.environ.setdefault("CRM_DOTENV", os.devnull)
os.environ.setdefault("LOG_LEVEL", "ERROR")

from crm2.settings.base import *  # noqa: F403
from crm2.settings.base import CACHES, CHANNEL_LAYERS, DATABASES, REDIS_URL, REST_FRAMEWORK

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", "apps.auth.hashers.Argon2id"]
DATABASES["default"]["OPTIONS"].pop("pool")  # type: ignore[attr-defined]
# Workers of one run share the Redis server, not a database of it: each empties its own before every test.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
if _worker:
    _given = re.search(r"([?&]db=|(?<=[0-9a-z\]])/)(\d+)$", REDIS_URL)
    if _given:
        REDIS_URL = f"{REDIS_URL[: _given.start(2)]}{int(_given[2]) + _worker}"
    elif REDIS_URL.startswith("unix://"):
        REDIS_URL += f"?db={_worker}"
    else:
        REDIS_URL = f"{REDIS_URL.rstrip('/')}/{_worker}"
    CACHES["default"]["LOCATION"] = REDIS_URL
    CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)
    CHANNEL_LAYERS["default"]["CONFIG"] = {"hosts": [REDIS_URL]}
CACHES["default"]["KEY_PREFIX"] = "crm2-test"
STRICT_IF_MATCH = False
RABBITMQ_URL = ""  # a test that needs a broker runs one of its own
CONSUL_ENABLED = False  # nor does a suite follow somebody's settings
TEST_REQUEST_DEFAULT_FORMAT = "json"
REST_FRAMEWORK["TEST_REQUEST_DEFAULT_FORMAT"] = "json"
WHITENOISE_USE_FINDERS = False  # every test client builds the middleware anew; looking for files costs 36 ms
REQUEST_STATEMENT_SECONDS = REQUEST_IDLE_TRANSACTION_SECONDS = 0  # a test may stand still in its transaction
