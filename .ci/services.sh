# Real servers for the second run of the suite: those that answer, else Debian's packages on free ports.
# shellcheck shell=bash

free_port() { .venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
python_says() { .venv/bin/python -c "$1" >/dev/null 2>&1; }
CI_STARTED=()

need() { # need COMMAND-GLOB PACKAGE
    compgen -G "$1" >/dev/null && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
    fi
    compgen -G "$1" >/dev/null || { echo "real $2 is not to be had here"; exit 1; }
}

real_services() {
    CI_DATABASE_URL=${CI_DATABASE_URL:-postgresql://root@127.0.0.1:5432/root}
    if ! python_says "import psycopg; psycopg.connect('$CI_DATABASE_URL', connect_timeout=3)"; then
        need '/usr/lib/postgresql/*/bin/postgres' postgresql
        local bin port data run
        bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
        port=$(free_port); data=$(mktemp -d)
        run=(); [ "$(id -u)" = 0 ] && { chown postgres "$data"; run=(runuser -u postgres --); }
        "${run[@]}" "$bin/initdb" -D "$data/db" -A trust -U crm2 --locale=C.UTF-8 --encoding=UTF8 >/dev/null
        "${run[@]}" "$bin/pg_ctl" -D "$data/db" -w -l "$data/log" -o "-p $port -k $data -c listen_addresses=127.0.0.1" start >/dev/null
        CI_STARTED+=("${run[*]} $bin/pg_ctl -D $data/db -m fast stop")
        CI_DATABASE_URL=postgresql://crm2@127.0.0.1:$port/postgres
    fi
    CI_REDIS_URL=${CI_REDIS_URL:-redis://127.0.0.1:6379/12}
    if ! python_says "import redis; redis.Redis.from_url('$CI_REDIS_URL', socket_connect_timeout=3).ping()"; then
        need '/usr/bin/redis-server' redis-server
        local rport; rport=$(free_port)
        redis-server --port "$rport" --bind 127.0.0.1 --save '' --daemonize yes --dir "$(mktemp -d)" >/dev/null
        CI_STARTED+=("redis-cli -p $rport shutdown nosave")
        CI_REDIS_URL=redis://127.0.0.1:$rport/0
    fi
    echo "PostgreSQL: $(.venv/bin/python -c "import psycopg; print(psycopg.connect('$CI_DATABASE_URL').info.server_version)")"
    echo "Redis: $(.venv/bin/python -c "import redis; print(redis.Redis.from_url('$CI_REDIS_URL').info()['redis_version'])")"
}

stop_services() {
    local command
    for command in "${CI_STARTED[@]:-}"; do [ -n "$command" ] && $command >/dev/null 2>&1 || true; done
    CI_STARTED=()
}
