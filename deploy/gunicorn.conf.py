"""gunicorn for the API and the admin: `gunicorn -c deploy/gunicorn.conf.py crm2.wsgi`.

Threads, not an event loop: the views are synchronous, and threads serve them at twice the rate (docs/adr/0006).
"""

import os

bind = os.environ.get("BIND", "0.0.0.0:8080")
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
threads = 4
worker_class = "gthread"
keepalive = 30
timeout = 60
graceful_timeout = 10
max_requests = 20_000
max_requests_jitter = 2_000
accesslog = None  # the application writes its own line a request, without query strings
worker_tmp_dir = "/dev/shm"  # noqa: S108 - a heartbeat file that must not wait for a disk
