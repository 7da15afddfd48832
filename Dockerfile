FROM python:3.13-slim-bookworm AS build
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt

FROM python:3.13-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CRM_ENV=production
RUN useradd --system --create-home crm2
WORKDIR /app
COPY --from=build /venv /venv
COPY --chown=crm2 . .
# Collecting needs no secrets of the installation: development makes its own and they are thrown away.
RUN CRM_ENV=development CRM_LOCAL_DIR=/tmp/build STATIC_ROOT=/app/static \
    python manage.py collectstatic --noinput -v 0 && rm -rf /tmp/build
USER crm2
EXPOSE 8080
HEALTHCHECK CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=3)"
# The web process migrates and makes the first administrator; worker, beat and relay run the same image.
CMD ["sh", "-c", "python manage.py migrate --noinput && python manage.py ensure_admin && exec gunicorn -c deploy/gunicorn.conf.py crm2.wsgi"]
