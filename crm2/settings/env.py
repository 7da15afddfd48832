"""Typed reads of the environment, and the refusals that come before anything starts.

A value comes from the real environment, else from `NAME_FILE` (a path whose content is the value), else from `.env`
beside `manage.py`. Messages name the setting and never show its value.
"""

import fcntl
import math
import os
import secrets
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlparse

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parents[2]
MIN_SECRET_LENGTH = 50
MIN_SECRET_BITS = 128
PLACEHOLDERS = ("change_me", "changeme", "change-me", "example", "insecure", "placeholder", "secret_key", "your-")
WEAK_PASSWORDS = {"", "admin", "crm", "guest", "password", "postgres", "rabbitmq", "redis", "root", "secret", "test"}

env = environ.Env()


def load() -> None:
    """Reads the `*_FILE` secrets and `.env` into the process environment; the real environment wins, files included."""
    _read_secret_files()
    dotenv = Path(os.environ.get("CRM_DOTENV", BASE_DIR / ".env"))
    if dotenv.is_file():
        env.read_env(dotenv, overwrite=False)
        _read_secret_files()


def _read_secret_files() -> None:
    for name, path in list(os.environ.items()):
        target = name.removesuffix("_FILE")
        if target != name and target in SECRETS and target not in os.environ:
            try:
                os.environ[target] = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ImproperlyConfigured(f"{name}: the file cannot be read ({error.strerror}).") from None


SECRETS = {"SECRET_KEY", "AUTH_JWT_SECRET", "AUTH_JWT_SECRET_PREVIOUS", "DATABASE_URL", "REDIS_URL",
           "RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL", "AUTH_BOOTSTRAP_PASSWORD",
           "CONSUL_HTTP_TOKEN"}  # fmt: skip
SCHEMES = {"DATABASE_URL": ("postgresql", "postgres"), "REDIS_URL": ("redis", "rediss", "unix"),
           "RABBITMQ_URL": ("amqp", "amqps"), "RABBITMQ_MANAGEMENT_URL": ("http", "https")}  # fmt: skip


def development_secrets(folder: Path) -> None:
    """Makes SECRET_KEY and AUTH_JWT_SECRET once, in `<folder>/secrets.env` (0600), for a machine that gave none."""
    missing = [name for name in ("SECRET_KEY", "AUTH_JWT_SECRET") if not os.environ.get(name)]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "secrets.env"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = dict(line.split("=", 1) for line in file.read().splitlines() if "=" in line)
        for name in missing:
            if name not in known:
                known[name] = secrets.token_urlsafe(48)
                file.write(f"{name}={known[name]}\n")
            os.environ[name] = known[name]


def require(*names: str) -> None:
    """:raises ImproperlyConfigured: naming every one of `names` that is empty"""
    missing = [name for name in names if not os.environ.get(name, "").strip()]
    if missing:
        raise ImproperlyConfigured(f"Required in production and not set: {', '.join(missing)}.")


def refuse_weak_secret(name: str, value: str) -> None:
    """:raises ImproperlyConfigured: if the secret is short, guessable or a documented placeholder"""
    if len(value) < MIN_SECRET_LENGTH:
        raise ImproperlyConfigured(f"{name} is too short: at least {MIN_SECRET_LENGTH} characters are needed.")
    if any(word in value.lower() for word in PLACEHOLDERS):
        raise ImproperlyConfigured(f"{name} is a placeholder: give it a random value.")
    counts = Counter(value)
    bits = -sum(n * math.log2(n / len(value)) for n in counts.values())
    if bits < MIN_SECRET_BITS:
        raise ImproperlyConfigured(f"{name} is too regular: give it a random value.")


def refuse_foreign_url(name: str, url: str) -> None:
    """:raises ImproperlyConfigured: if it is no URL of its store"""
    try:
        parsed = urlparse(url)
        known = parsed.scheme in SCHEMES[name] and (parsed.port or True)
    except ValueError:
        known = False
    if not known:
        raise ImproperlyConfigured(f"{name} must be a URL: {'://, '.join(SCHEMES[name])}://.")


def refuse_weak_password(name: str, url: str) -> None:
    """:raises ImproperlyConfigured: if it is no URL of its store, or carries a password that everyone tries first"""
    refuse_foreign_url(name, url)
    parsed = urlparse(url)
    if parsed.password is None and name.startswith("RABBITMQ"):  # clients then try guest, guest
        raise ImproperlyConfigured(f"{name} carries no password.")
    if parsed.password is None:
        return
    word = unquote(parsed.password).lower()
    if word in WEAK_PASSWORDS or word == unquote(parsed.username or "").lower():
        raise ImproperlyConfigured(f"{name} carries a default password.")
    if any(placeholder in word for placeholder in PLACEHOLDERS):
        raise ImproperlyConfigured(f"{name} carries a placeholder password.")


def refuse_plain_origins(name: str, origins: list[str]) -> None:
    """:raises ImproperlyConfigured: if one is no `https://host[:port]`, or names every host"""
    for origin in origins:
        parsed = urlparse(origin)
        if parsed.scheme != "https" or "*" in origin or not parsed.netloc or origin != f"https://{parsed.netloc}":
            raise ImproperlyConfigured(f"{name} must be https:// origins in production.")


def refuse_bad_address(name: str, url: str) -> None:
    """:raises ImproperlyConfigured: if it is no http:// or https:// address of a server"""
    try:
        parsed = urlparse(url)
        good = parsed.scheme in ("http", "https") and parsed.hostname and parsed.port != 0
    except ValueError:
        good = False
    if not good:
        raise ImproperlyConfigured(f"{name} must be an address such as http://127.0.0.1:8500.")


def duration(name: str, default: str) -> int:
    """Seconds from an ISO-8601 duration such as `PT15M` or `P7D`; blank is the default, the old `PT7D` is `P7D`.

    :raises ImproperlyConfigured: if the text is no positive duration
    """
    text = env.str(name, default="").strip() or default
    if text.startswith("PT") and text.endswith("D"):
        text = "P" + text[2:]
    seconds = 0
    days, _, clock = text.removeprefix("P").partition("T")
    number = ""
    try:
        if not text.startswith("P") or not (days or clock):
            raise ValueError
        for part, units in ((days, {"W": 604800, "D": 86400}), (clock, {"H": 3600, "M": 60, "S": 1})):
            for char in part:
                if char.isdigit():
                    number += char
                else:
                    seconds += int(number) * units.pop(char)
                    number = ""
        if number or seconds <= 0:
            raise ValueError
    except (ValueError, KeyError):
        raise ImproperlyConfigured(f"{name} is not an ISO-8601 duration such as {default}.") from None
    return seconds
