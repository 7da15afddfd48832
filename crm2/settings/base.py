"""Every setting, in one place. Development and production differ by the environment only (see `env.example`)."""

import os
from pathlib import Path
from urllib.parse import urlparse

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from apps.core.breaker import REDIS_OPTIONS
from crm2 import embedded
from crm2.settings import env as environment
from crm2.settings.env import BASE_DIR, env

environment.load()

LOCAL_DIR = BASE_DIR / env.str("CRM_LOCAL_DIR", default=".local")
CRM_ENV = env.str("CRM_ENV", default="") or ("production" if env.str("DATABASE_URL", default="") else "development")
if CRM_ENV not in ("development", "production"):
    raise ImproperlyConfigured("CRM_ENV must be development or production.")
PRODUCTION = CRM_ENV == "production"
DEBUG = False

if PRODUCTION:
    environment.require("SECRET_KEY", "AUTH_JWT_SECRET", "DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS")
    for name in ("SECRET_KEY", "AUTH_JWT_SECRET"):
        environment.refuse_weak_secret(name, env.str(name))
    if env.str("AUTH_JWT_SECRET_PREVIOUS", default=""):
        environment.refuse_weak_secret("AUTH_JWT_SECRET_PREVIOUS", env.str("AUTH_JWT_SECRET_PREVIOUS"))
    for name in ("DATABASE_URL", "REDIS_URL"):
        environment.refuse_weak_password(name, env.str(name))
    for name in ("RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL"):
        if env.str(name, default=""):
            environment.refuse_weak_password(name, env.str(name))
    if env.bool("DEBUG", default=False):
        raise ImproperlyConfigured("DEBUG must be off in production.")
else:
    environment.development_secrets(LOCAL_DIR)

SECRET_KEY = env.str("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
AUTH_JWT_SECRET = env.str("AUTH_JWT_SECRET")
AUTH_JWT_SECRET_PREVIOUS = env.str("AUTH_JWT_SECRET_PREVIOUS", default="")
if PRODUCTION and AUTH_JWT_SECRET == SECRET_KEY:
    raise ImproperlyConfigured("AUTH_JWT_SECRET must differ from SECRET_KEY.")

ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS", default=[] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]", "testserver"]
)
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
CORS_ALLOWED_ORIGINS = env.list("CORS_ORIGINS", default=[])
if PRODUCTION:
    if any("*" in host for host in ALLOWED_HOSTS):
        raise ImproperlyConfigured("ALLOWED_HOSTS must name the hosts; * is refused in production.")
    environment.refuse_plain_origins("CSRF_TRUSTED_ORIGINS", CSRF_TRUSTED_ORIGINS)
    environment.refuse_plain_origins("CORS_ORIGINS", CORS_ALLOWED_ORIGINS)

# --- Stores: given by URL, else the ones that crm2.embedded runs under .local/ ---------------------------------------
EMBEDDED_HOME = LOCAL_DIR
EMBEDDED_POSTGRES = not env.str("DATABASE_URL", default="")
EMBEDDED_REDIS = not env.str("REDIS_URL", default="")
DATABASE_URL = env.str("DATABASE_URL", default="") or embedded.postgres_url(EMBEDDED_HOME)
REDIS_URL = env.str("REDIS_URL", default="") or embedded.redis_url(EMBEDDED_HOME)
RABBITMQ_URL = env.str("RABBITMQ_URL", default="")
RABBITMQ_MANAGEMENT_URL = env.str("RABBITMQ_MANAGEMENT_URL", default="")
for name, url in (("DATABASE_URL", DATABASE_URL), ("REDIS_URL", REDIS_URL), ("RABBITMQ_URL", RABBITMQ_URL),
                  ("RABBITMQ_MANAGEMENT_URL", RABBITMQ_MANAGEMENT_URL)):  # fmt: skip
    if url:
        environment.refuse_foreign_url(name, url)


def _database(url: str) -> dict[str, object]:
    config = dict(env.db_url_config(url))
    options = dict(config.pop("OPTIONS", {}) or {})
    host = options.pop("host", None)  # a socket folder, written as ?host=
    if host:
        config["HOST"] = host[0] if isinstance(host, list) else host
    options["pool"] = {"min_size": 2, "max_size": env.int("DB_POOL_SIZE", default=8), "timeout": 5}
    options["application_name"] = "crm2"
    return {**config, "ENGINE": "crm2.postgresql", "OPTIONS": options, "CONN_MAX_AGE": 0}


DATABASES = {"default": _database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL,
                      "KEY_PREFIX": "crm2", "OPTIONS": REDIS_OPTIONS}}  # fmt: skip
CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
                              "CONFIG": {"hosts": [REDIS_URL]}}}  # fmt: skip

STREAM_HEARTBEAT = environment.duration("STREAM_HEARTBEAT", "PT15S")

# --- The parts --------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "crm2.site.CrmAdminConfig",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "channels",
    "corsheaders",
    "crm2",
    "apps.core",
    "apps.auth",
    "apps.crm",
    "apps.payments",
    "apps.notifications",
]

MIDDLEWARE = [
    "crm2.health.ProbeMiddleware",
    "apps.core.middleware.TrustedProxyMiddleware",
    "apps.core.middleware.TraceMiddleware",
    "apps.core.middleware.BearerLaneMiddleware",
    "django.middleware.gzip.GZipMiddleware",  # event streams pass by it: crm2.asgi
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "apps.core.middleware.SchemaGuardMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "crm2.urls"
WSGI_APPLICATION = "crm2.wsgi.application"
ASGI_APPLICATION = "crm2.asgi.application"
APPEND_SLASH = False  # the API answers with and without the slash; the admin's own urls carry theirs
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "crm2" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Language and time ------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "ru"
LANGUAGES = [("ru", _("Russian")), ("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = env.str("TIMEZONE", default="Europe/Moscow")
USE_TZ = True
USE_I18N = True

# --- Static files -----------------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(BASE_DIR / "static" if PRODUCTION else LOCAL_DIR / "static")))
if not PRODUCTION:
    STATIC_ROOT.mkdir(parents=True, exist_ok=True)
WHITENOISE_USE_FINDERS = not PRODUCTION
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage" if PRODUCTION
                    else "django.contrib.staticfiles.storage.StaticFilesStorage"},
}  # fmt: skip

# --- Sign-in (docs/contract.md, Sign-in) ------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["apps.auth.backends.EmailBackend"]
PASSWORD_HASHERS = ["apps.auth.hashers.Argon2id"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "apps.auth.rules.MaximumLengthValidator", "OPTIONS": {"max_length": 128}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "apps.auth.rules.ContextWordsValidator"},
]
AUTH_JWT_ISSUER = env.str("AUTH_JWT_ISSUER", default="http://localhost:8080")
AUTH_JWT_AUDIENCE = env.str("AUTH_JWT_AUDIENCE", default="crm-clients")
AUTH_ACCESS_TOKEN_TTL = environment.duration("AUTH_ACCESS_TOKEN_TTL", "PT15M")
AUTH_REFRESH_TOKEN_TTL = environment.duration("AUTH_REFRESH_TOKEN_TTL", "P7D")
AUTH_SESSION_TTL = environment.duration("AUTH_SESSION_TTL", "P30D")
SIMPLE_JWT = {"TOKEN_TYPE_CLAIM": "typ"}  # the rest stands in apps.auth.tokens
AUTH_REGISTRATION_OPEN = env.bool("AUTH_REGISTRATION_OPEN", default=False)
AUTH_BOOTSTRAP_ENABLED = env.bool("AUTH_BOOTSTRAP_ENABLED", default=False)
AUTH_BOOTSTRAP_EMAIL = env.str("AUTH_BOOTSTRAP_EMAIL", default="")
AUTH_BOOTSTRAP_PASSWORD = env.str("AUTH_BOOTSTRAP_PASSWORD", default="")
AUTH_BOOTSTRAP_ROLES = env.list("AUTH_BOOTSTRAP_ROLES", default=["ROLE_ADMIN"])
LOGIN_URL = "admin:login"
SESSION_COOKIE_AGE = AUTH_REFRESH_TOKEN_TTL

# --- API --------------------------------------------------------------------------------------------------------------
STRICT_IF_MATCH = env.bool("STRICT_IF_MATCH", default=False)
MAX_BODY_BYTES = 1024 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
# What a statement of a request may take, and a transaction whose request has stalled (crm2.servers.bound_requests).
REQUEST_STATEMENT_SECONDS = 5
REQUEST_IDLE_TRANSACTION_SECONDS = 10
# Browser programs of other origins: they carry a token, never a cookie (docs/contract.md, "Browsers of other origins").
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_ALL_ORIGINS = not PRODUCTION and not CORS_ALLOWED_ORIGINS
CORS_ALLOW_METHODS = ("GET", "POST", "PATCH", "DELETE", "OPTIONS")
CORS_ALLOW_HEADERS = ("accept-language", "authorization", "content-type", "idempotency-key", "if-match",
                      "last-event-id", "x-trace-id")  # fmt: skip
CORS_EXPOSE_HEADERS = ("ETag", "Idempotency-Replayed", "Link", "Retry-After", "X-Total-Count", "X-Trace-Id")
CORS_PREFLIGHT_MAX_AGE = 600
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.auth.authentication.Bearer", "apps.auth.authentication.AdminSession"],
    "DEFAULT_PERMISSION_CLASSES": ["apps.core.api.permissions.NamesItsCapability"],
    "DEFAULT_PARSER_CLASSES": ["apps.core.api.parsers.JsonParser"],
    "DEFAULT_RENDERER_CLASSES": ["apps.core.api.renderers.JsonRenderer"],
    "DEFAULT_SCHEMA_CLASS": "apps.core.api.schema.ContractSchema",
    "EXCEPTION_HANDLER": "apps.core.api.problems.exception_handler",
    "DATETIME_FORMAT": None,  # orjson writes datetimes, dates and UUIDs itself
    "DATE_FORMAT": None,
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
SPECTACULAR_SETTINGS = {
    "TITLE": "CRM 2.0",
    "VERSION": "1.0",
    "DESCRIPTION": "CRM for small insurance agencies. What the API promises stands in docs/contract.md.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "DealStatus": "apps.crm.rules.DEAL_STATUSES",
        "DealStage": "apps.crm.rules.STAGES",
        "CalculationStatus": "apps.crm.rules.CALCULATION_STATUSES",
        "PolicyStatus": "apps.crm.rules.POLICY_STATUSES",
        "ClientStatus": "apps.crm.rules.CLIENT_STATUSES",
        "MemberRole": "apps.crm.rules.MEMBER_ROLES",
        "PaymentStatus": "apps.payments.rules.STATUSES",
    },
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums"],
    "PREPROCESSING_HOOKS": ["crm2.openapi.native_only"],
    "SORT_OPERATIONS": True,
}

# --- Money ------------------------------------------------------------------------------------------------------------
PAYMENTS_ALLOWED_CURRENCIES = env.list("PAYMENTS_ALLOWED_CURRENCIES", default=["RUB"])

# --- Jobs -------------------------------------------------------------------------------------------------------------
JOBS_APP = "crm2.celery.app"  # for who hands work over
_broker = env.str("CELERY_BROKER_URL", default="") or RABBITMQ_URL or REDIS_URL
CELERY_BROKER_URL = _broker.replace("unix://", "redis+socket://", 1)
JOBS_ON_RABBITMQ = urlparse(CELERY_BROKER_URL).scheme in ("amqp", "amqps", "pyamqp")
# Seconds between attempts to reach a broker that is away: it is found soon after it is back.
CELERY_BROKER_TRANSPORT_OPTIONS = {"interval_start": 0.2, "interval_step": 0.5, "interval_max": 3} | (
    {"confirm_publish": True} if JOBS_ON_RABBITMQ else {"visibility_timeout": 300, "socket_connect_timeout": 2}
)
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_DEFAULT_QUEUE = CELERY_TASK_DEFAULT_ROUTING_KEY = "crm.default"
CELERY_TASK_DEFAULT_EXCHANGE, CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "crm.jobs", "topic"
# Less than the visibility timeout: nothing is handed out a second time while somebody is at it.
CELERY_TASK_SOFT_TIME_LIMIT, CELERY_TASK_TIME_LIMIT = 240, 270
CELERY_RESULT_EXPIRES = None  # there are no results to clean up
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = TIME_ZONE
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "crm2.beat:SlotScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5

# --- Bus (docs/events.md, "The bus"); without RABBITMQ_URL there is none ----------------------------------------------
# Which events leave: by the first word of the name, the exchange, the source, what begins the type. No others do.
BUS_ROUTES = {
    "client": ("crm.events", "crm.clients", "crm."),
    "deal": ("crm.events", "crm.deals", "crm."),
    "policy": ("crm.events", "crm.policies", "crm."),
    "task": ("tasks.events", "crm.tasks", "tasks."),
}
BUS_TYPES = {"task.status.changed": "tasks.task.status_changed"}  # where the type is not the beginning and the name
BUS_INBOUND_EXCHANGE = "notifications.exchange"

# --- Consul: optional (docs/runbooks/consul.md) -----------------------------------------------------------------------
CONSUL_ENABLED = env.bool("CONSUL_ENABLED", default=False)
CONSUL_HTTP_ADDR = env.str("CONSUL_HTTP_ADDR", default="") or "http://127.0.0.1:8500"
if "://" not in CONSUL_HTTP_ADDR:
    CONSUL_HTTP_ADDR = f"http://{CONSUL_HTTP_ADDR}"
CONSUL_HTTP_TOKEN = env.str("CONSUL_HTTP_TOKEN", default="")
CONSUL_HTTP_TIMEOUT = env.int("CONSUL_HTTP_TIMEOUT", default=5000)  # milliseconds
CONSUL_SERVICE_NAME = env.str("CONSUL_SERVICE_NAME", default="crm2")
CONSUL_SERVICE_ADDRESS = env.str("CONSUL_SERVICE_ADDRESS", default="127.0.0.1")
CONSUL_SERVICE_PORT = env.int("CONSUL_SERVICE_PORT", default=8080)
if CONSUL_ENABLED:
    environment.refuse_bad_address("CONSUL_HTTP_ADDR", CONSUL_HTTP_ADDR)
    if CONSUL_HTTP_TIMEOUT <= 0:
        raise ImproperlyConfigured("CONSUL_HTTP_TIMEOUT must be a positive number of milliseconds.")

# --- Security ---------------------------------------------------------------------------------------------------------
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
if PRODUCTION:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=True)
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=[])  # addresses or networks
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # TrustedProxyMiddleware drops it from anyone else

# --- Logs: one JSON line a record, with the trace id ------------------------------------------------------------------
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "apps.core.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "django.server": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}
os.environ.setdefault("PGAPPNAME", "crm2")
