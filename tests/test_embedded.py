"""The embedded servers, for real: who starts them, what kills them, and that nothing is lost or left running."""

import contextlib
import fcntl
import importlib.util
import os
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import redis

from crm2 import embedded

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 20.0
LINGER = 0.4  # less than for people: many tests wait for it

# Another process of the clone: says when it holds, then waits.
HOLDER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from crm2 import embedded
embedded.LINGER = {linger}
embedded.hold(Path(sys.argv[1]), postgres="p" in sys.argv[2], redis="r" in sys.argv[2], fsync="s" in sys.argv[2])
{then}
print("holding", os.getpid(), flush=True)
time.sleep(60)
"""


def until(done: Callable[[], object], what: str = "it never happened", patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def postgres(home: Path) -> embedded._Postgres:
    return embedded._Postgres(home, fsync=False)


def valkey(home: Path) -> embedded._Valkey:
    return embedded._Valkey(home)


def keeper(server: embedded._Server) -> int:
    return int(server.lock.read_text())


def lives(pid: int) -> bool:
    return embedded._birth(pid) is not None


def kept(server: embedded._Server) -> bool:
    lock = embedded._try_lock(server.lock)
    if lock is not None:
        os.close(lock)
    return lock is None


def query(home: Path, sql: str) -> object:
    with psycopg.connect(embedded.postgres_url(home), autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


@pytest.fixture
def holder() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a holding process; ``wait`` until it holds."""
    started: list[subprocess.Popen[bytes]] = []

    def start(home: Path, servers: str = "p", *, then: str = "", wait: bool = True, **popen: object):
        code = HOLDER.format(linger=popen.pop("linger", LINGER), root=str(popen.pop("root", ROOT)), then=then)
        argv = [*popen.pop("prefix", ()), sys.executable, "-c", code, str(home), servers]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=popen.pop("cwd", ROOT), **popen)
        started.append(process)
        if wait:
            assert process.stdout.readline().startswith(b"holding")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh home; whatever runs there is stopped afterwards, gently or not."""
    monkeypatch.setattr(embedded, "_held", {})
    monkeypatch.setattr(embedded, "LINGER", LINGER)
    path = tmp_path / "home"
    yield path
    for descriptor in embedded._held.values():
        os.close(descriptor)
    embedded.main(["stop", "--home", str(path)])
    shutil.rmtree(embedded._socket_folder(path), ignore_errors=True)
    shutil.rmtree(postgres(path)._refuge(), ignore_errors=True)


# --- addresses -------------------------------------------------------------------------------------------------------


def test_addresses_are_pure_short_and_differ_between_clones(tmp_path):
    clone = tmp_path.joinpath(*["очень длинный путь с пробелами"] * 10)
    one, two = clone / "a/.local", clone / "b/.local"
    folder = embedded._socket_folder(one)
    assert embedded.postgres_url(one) == f"postgresql://crm@/crm?host={quote(str(folder), safe='')}"
    assert embedded.redis_url(one) == f"unix://{folder}/valkey.sock"
    assert embedded.postgres_url(clone / "b/../a/.local") == embedded.postgres_url(one)
    assert embedded.postgres_url(two) != embedded.postgres_url(one)
    assert len(str(folder / ".s.PGSQL.5432")) < 107
    assert not folder.exists()
    assert not clone.exists()


@pytest.mark.parametrize("trap", ["link", "open", "file"])
def test_a_socket_folder_that_others_could_have_prepared_is_refused(home, tmp_path, trap):
    folder = embedded._socket_folder(home)
    if trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif trap == "open":
        folder.mkdir()
        folder.chmod(0o755)
    else:
        folder.touch()
    try:
        with pytest.raises(embedded.EmbeddedError, match="not a private folder"):
            embedded.hold(home)
    finally:
        folder.unlink() if trap != "open" else folder.rmdir()


@pytest.mark.parametrize(("server", "setting"), [("postgres", "DATABASE_URL"), ("redis", "REDIS_URL")])
@pytest.mark.parametrize("lack", ["wheel", "platform", "binary"])
def test_a_machine_that_cannot_run_it_is_told_which_url_to_set(home, monkeypatch, server, setting, lack):
    if lack == "wheel":
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    elif lack == "platform":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(embedded.EmbeddedUnavailable, match=f"Set {setting} "):
        embedded.hold(home, **{"postgres": False, "redis": False, server: True})
    assert not home.exists()


# --- what runs -------------------------------------------------------------------------------------------------------


def test_both_servers_in_a_long_russian_path_whatever_the_locale(home, tmp_path, holder):
    path = tmp_path / ("дом с пробелом " * 8).strip() / '"кавычки" и , запятая'
    path.mkdir(parents=True, mode=0o700)
    environment = {**os.environ, "LANG": "C", "LC_ALL": "xx_YY.KOI8-R", "PGDATA": "/nowhere", "PGPORT": "1"}
    try:
        holder(path, "pr", env=environment)
        assert query(path, "SELECT lower('ИВАНОВ')") == "иванов"
        query(path, "CREATE EXTENSION pg_trgm")
        assert len(query(path, "SELECT show_trgm('иванов')")) == 7
        assert query(path, "SELECT count(*) FROM (SELECT 1 WHERE 'Иванов' ILIKE '%ИВАН%') AS found") == 1
        assert query(path, "SHOW server_encoding") == "UTF8"
        assert query(path, "SHOW listen_addresses") == ""
        assert query(path, "SHOW max_connections") == "200"
        assert query(path, "SHOW fsync") == "off"
        assert (path / "postgres.log").stat().st_size
        store = redis.Redis.from_url(embedded.redis_url(path))
        config = store.config_get()
        assert (config["port"], config["appendonly"], config["appendfsync"]) == ("0", "yes", "everysec")
        store.close()
        assert stat.S_IMODE(embedded._socket_folder(path).stat().st_mode) == 0o700
    finally:
        embedded.main(["stop", "--home", str(path)])
        shutil.rmtree(embedded._socket_folder(path), ignore_errors=True)


def test_each_server_starts_only_if_asked_for_and_durably_by_default(home):
    embedded.hold(home, redis=False)
    assert query(home, "SELECT current_setting('fsync') || current_setting('full_page_writes')") == "onon"
    assert not valkey(home).answers()
    assert not (home / "valkey").exists()
    embedded.hold(home, postgres=False)
    assert valkey(home).answers()


def test_holding_again_is_cheap_and_starts_nothing_new(home):
    embedded.hold(home, fsync=False)
    servers = postgres(home), valkey(home)
    before = [(server.find(), keeper(server)) for server in servers]
    started = time.monotonic()
    for _ in range(5):
        embedded.hold(home)
    assert time.monotonic() - started < 1
    assert [(server.find(), keeper(server)) for server in servers] == before
    assert len(embedded._held) == 2


def test_six_processes_at_once_on_a_fresh_home_share_one_server(home, holder):
    processes = [holder(home, "pr", wait=False) for _ in range(6)]
    for process in processes:
        assert process.stdout.readline().startswith(b"holding")
    assert (home / "postgres.log").read_text().count("starting PostgreSQL") == 1
    assert (home / "valkey.log").read_text().count("Server initialized") == 1
    assert not list(home.glob("*.new-*"))
    assert embedded._processes_in(valkey(home).data, "valkey-server") == [valkey(home).find()]


# --- the last one stops it -------------------------------------------------------------------------------------------


def test_the_server_stays_with_any_holder_and_stops_after_the_last_was_killed(home, holder):
    first, second = holder(home, "pr"), holder(home, "pr")
    first.kill()
    time.sleep(LINGER + 3 * embedded.POLL)
    assert postgres(home).answers()
    assert valkey(home).answers()
    second.kill()
    until(lambda: not kept(postgres(home)) and not kept(valkey(home)))
    assert postgres(home).find() is valkey(home).find() is None
    assert "database system is shut down" in (home / "postgres.log").read_text()
    assert "bye bye" in (home / "valkey.log").read_text()
    assert (home / "postgres/PG_VERSION").exists()


def test_forked_children_share_the_hold(home, holder):
    parent = holder(home, "r", then="child = os.fork()")
    children = [int(part) for part in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
    parent.kill()
    parent.wait()
    time.sleep(LINGER + 3 * embedded.POLL)
    assert valkey(home).answers()
    os.kill(children[0], signal.SIGKILL)
    until(lambda: not kept(valkey(home)))


def test_one_command_after_another_finds_the_server_running(home, holder):
    first = holder(home, "r", linger=3)
    pid = valkey(home).find()
    first.kill()
    first.wait()
    time.sleep(1)
    holder(home, "r")
    assert valkey(home).find() == pid
    assert valkey(home).log.read_text().count("Server initialized") == 1


def test_who_comes_while_the_keeper_stops_the_server_gets_a_new_one(home, holder):
    holding = holder(home, "r")
    server = valkey(home)
    old = server.find()
    os.kill(old, signal.SIGSTOP)  # so that stopping takes as long as we like
    holding.kill()
    status = Path(f"/proc/{old}/status")
    until(lambda: f"ShdPnd:\t{1 << signal.SIGTERM - 1:016x}" in status.read_text())
    with server.users.open("r+b") as users:
        assert not embedded._flock(users.fileno(), fcntl.LOCK_SH)
    late = [holder(home, "r", wait=False) for _ in range(3)]
    assert select.select([process.stdout for process in late], [], [], 0.7)[0] == []
    os.kill(old, signal.SIGCONT)
    for process in late:
        assert process.stdout.readline().startswith(b"holding")
    assert "bye bye" in server.log.read_text()
    assert server.answers()
    assert server.find() != old


def test_nothing_acknowledged_is_lost_by_a_stop(home, holder):
    holding = holder(home, "prs")
    query(home, "CREATE TABLE kept AS SELECT 42 AS answer")
    with redis.Redis.from_url(embedded.redis_url(home)) as store:
        store.set("kept", "42")
        holding.kill()
        until(lambda: not kept(postgres(home)) and not kept(valkey(home)))
        holder(home, "prs")
        assert store.get("kept") == b"42"
    assert query(home, "SELECT answer FROM kept") == 42


# --- violence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [postgres, valkey])
def test_a_killed_keeper_is_replaced_and_the_server_adopted(home, holder, kind):
    server, letter = kind(home), "p" if kind is postgres else "r"
    holding = holder(home, letter)
    pid, old = server.find(), keeper(server)
    os.kill(old, signal.SIGKILL)
    until(lambda: not kept(server))
    assert server.answers()
    holder(home, letter).kill()
    assert kept(server)
    assert keeper(server) != old
    assert server.find() == pid
    holding.kill()
    until(lambda: not kept(server))
    assert server.find() is None


def test_a_killed_postgres_comes_back_with_every_acknowledged_row(home, holder):
    holder(home, "ps")
    query(home, "CREATE TABLE written (n integer)")
    acknowledged = 0
    with (
        psycopg.connect(embedded.postgres_url(home), autocommit=True) as connection,
        contextlib.suppress(psycopg.Error),
    ):
        while connection.execute("INSERT INTO written VALUES (%s)", [acknowledged]).rowcount:
            acknowledged += 1
            if acknowledged == 300:
                os.kill(postgres(home).find(), signal.SIGKILL)
    until(postgres(home).answers)
    assert acknowledged >= 300
    assert query(home, "SELECT count(*) FROM written") >= acknowledged
    assert "database system was interrupted" in (home / "postgres.log").read_text()


def test_a_killed_valkey_comes_back_with_what_was_written(home, holder):
    holder(home, "r")
    with redis.Redis.from_url(embedded.redis_url(home)) as store:
        store.set("kept", "42")
        killed = valkey(home).find()
        os.kill(killed, signal.SIGKILL)
        until(lambda: valkey(home).find() != killed and valkey(home).answers())
        assert store.get("kept") == b"42"


def test_server_and_keeper_killed_at_once_and_files_left_by_a_restart_of_the_machine(home, holder):
    """A busy orphan, a recycled pid in postmaster.pid and in the socket's lock, a dead socket: all at once."""
    holding = holder(home, "ps")
    server = postgres(home)
    query(home, "CREATE TABLE kept AS SELECT 42 AS answer")
    busy = socket.socket(socket.AF_UNIX)
    busy.connect(str(server.socket))
    startup = b"\0\3\0\0user\0crm\0database\0crm\0\0"
    busy.sendall(struct.pack("!I", len(startup) + 4) + startup)
    sql = b"SELECT count(*) FROM generate_series(1, 1000000000)\0"
    busy.sendall(b"Q" + struct.pack("!I", len(sql) + 4) + sql)
    time.sleep(0.3)
    os.kill(keeper(server), signal.SIGKILL)
    os.kill(server.find(), signal.SIGKILL)
    until(lambda: server.find() is None)
    orphans = embedded._processes_in(server.data, "postgres")
    assert orphans
    data = server.data.resolve()
    lines = (data / "postmaster.pid").read_text().splitlines()
    (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    server.socket.with_name(f"{server.socket_name}.lock").write_text(f"{os.getpid()}\n")
    holding.kill()
    holder(home, "p")
    busy.close()
    assert not any(map(lives, orphans))
    assert query(home, "SELECT answer FROM kept") == 42


def test_a_damaged_pid_file_does_not_matter(home, holder):
    holding = holder(home, "p")
    server = postgres(home)
    for content in ("", "12", "not a pid\n"):
        os.kill(keeper(server), signal.SIGKILL)
        (server.data / "postmaster.pid").write_text(content)
        os.kill(server.find(), signal.SIGKILL)
        holding.kill()
        holding = holder(home, "p")
        assert server.answers()


def test_a_shell_left_in_the_data_folder_is_not_taken_for_the_server(home, holder):
    (home / "valkey").mkdir(parents=True)
    shell = subprocess.Popen(["sleep", "60"], cwd=home / "valkey")
    try:
        holding = holder(home, "r")
        holding.kill()
        until(lambda: not kept(valkey(home)))
        assert shell.poll() is None
    finally:
        shell.kill()
        shell.wait()


def test_an_interrupted_initdb_leaves_nothing_half_made(home, holder):
    half = home / "postgres.new-interrupted"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    holder(home, "p")
    assert not list(home.glob("*.new-*"))
    assert query(home, "SELECT 1") == 1


def test_a_server_that_cannot_start_is_explained_by_its_log(home):
    (home / "postgres").mkdir(parents=True, mode=0o700)
    (home / "postgres/PG_VERSION").write_text("9.6\n")
    (home / "postgres/postgresql.conf").touch()
    with pytest.raises(embedded.EmbeddedError, match=r"(?s)keeps dying.*initialized by PostgreSQL version 9\.6"):
        embedded.hold(home, redis=False)
    until(lambda: not kept(postgres(home)))


def test_a_server_that_does_not_answer_in_time_is_explained(home, monkeypatch):
    embedded.hold(home, postgres=False)
    os.kill(valkey(home).find(), signal.SIGSTOP)
    monkeypatch.setattr(embedded, "START_TIMEOUT", 0.2)
    with pytest.raises(embedded.EmbeddedError, match=r"(?s)did not answer.*Ready to accept connections"):
        embedded.hold(home, postgres=False)
    os.kill(valkey(home).find(), signal.SIGCONT)


@pytest.mark.parametrize("what", ["home", "data"])
@pytest.mark.parametrize("kind", [postgres, valkey])
def test_deleted_data_takes_its_server_with_it_and_leaves_the_new_one_alone(home, kind, what):
    wanted = {"postgres": kind is postgres, "redis": kind is valkey, "fsync": False}
    embedded.hold(home, **wanted)
    server = kind(home)
    before = [server.find(), keeper(server)]
    path = home if what == "home" else server.data
    until(lambda: subprocess.run(["rm", "-rf", path], check=False).returncode == 0)
    if what == "data":
        until(lambda: not kept(server))
    embedded.hold(home, **wanted)
    new = server.find()
    until(lambda: not any(map(lives, before)))
    assert server.answers()
    assert server.find() == new != before[0]


def test_a_deleted_socket_is_made_again(home):
    embedded.hold(home, postgres=False)
    valkey(home).socket.unlink()
    until(valkey(home).answers)


# --- users and folders -----------------------------------------------------------------------------------------------


@pytest.fixture
def as_another_user(tmp_path: Path) -> list[str]:
    """A command prefix that makes root nobody, and anybody else nothing new."""
    if os.geteuid() != 0:
        return []
    space = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]
    if subprocess.run([*space, "true"], check=False, capture_output=True).returncode == 0:
        return space
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own, closed to others
        if folder.stat().st_uid == 0 and folder != Path("/tmp"):
            folder.chmod(0o755)
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]


def test_an_ordinary_user(as_another_user, tmp_path, holder):
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    if as_another_user[:1] == ["setpriv"]:
        os.chown(own, 65534, 65534)
    uid = 65534 if as_another_user else os.geteuid()
    holding = holder(own / "дом", "pr", prefix=as_another_user)
    folder = Path(f"/tmp/crm2-{uid}-{embedded._token(own / 'дом')}")
    with psycopg.connect(f"host={folder} user=crm dbname=crm") as connection:
        assert connection.execute("SELECT lower('Ё')").fetchone() == ("ё",)
    holding.kill()
    until(lambda: not kept(postgres(own / "дом")) and not kept(valkey(own / "дом")))
    folder.rmdir()


def test_a_private_home_needs_no_change_of_rights(home, tmp_path, holder):
    closed = [tmp_path, *tmp_path.parents]
    before = [(path.stat().st_mode, path.stat().st_uid) for path in closed]
    holder(home, "p")
    assert query(home, "SELECT current_user") == "crm"
    assert [(path.stat().st_mode, path.stat().st_uid) for path in closed] == before
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {path.stat().st_uid for path in home.rglob("*")} == {os.geteuid()}


def test_without_user_namespaces_root_uses_a_folder_of_another_user(home, holder, monkeypatch):
    monkeypatch.setenv("CRM_EMBEDDED_NO_USERNS", "1")
    server = postgres(home)
    holding = holder(home, "ps")
    query(home, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert Path(f"/proc/{server.find()}").stat().st_uid != 0
    assert server.data.is_symlink() == (os.geteuid() == 0)
    os.kill(server.find(), signal.SIGKILL)
    until(server.answers)
    holding.kill()
    until(lambda: not kept(server))
    monkeypatch.delenv("CRM_EMBEDDED_NO_USERNS")  # data once made stays where it is
    holder(home, "p")
    assert query(home, "SELECT answer FROM kept") == 42
    embedded.main(["stop", "--home", str(home)])
    shutil.rmtree(home)  # a deleted home is forgotten, also elsewhere
    monkeypatch.setenv("CRM_EMBEDDED_NO_USERNS", "1")
    holder(home, "p")
    assert query(home, "SELECT to_regclass('kept')") is None


def test_a_home_of_another_user_is_refused(home, tmp_path, monkeypatch):
    home.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: home.stat().st_uid + 1)
    with pytest.raises(embedded.EmbeddedError, match="not a private folder of uid"):
        embedded.hold(home)


# --- for people ------------------------------------------------------------------------------------------------------


def test_status_and_stop(home, capsys):
    def lines(*arguments: str) -> list[list[str]]:
        assert embedded.main([*arguments, "--home", str(home)]) == 0
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    sockets = [str(postgres(home).socket), str(valkey(home).socket)]
    stopped = [["postgres", "stopped", sockets[0]], ["valkey", "stopped", sockets[1]]]
    assert lines("status") == stopped
    embedded.hold(home, fsync=False)
    assert lines("status") == [["postgres", "running", sockets[0]], ["valkey", "running", sockets[1]]]
    assert lines("stop") == stopped
    assert lines("stop") == stopped
    assert postgres(home).find() is valkey(home).find() is None
    embedded.hold(home, fsync=False)  # the same process may go on
    os.kill(keeper(postgres(home)), signal.SIGKILL)
    assert lines("stop", "postgres") == stopped[:1]
    assert lines("status")[1][1] == "running"
