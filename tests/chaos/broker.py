"""A private RabbitMQ: one node of Debian's rabbitmq-server with ports, data, name and cookie of its own.

Nothing of the machine's own RabbitMQ is touched: the node has its own name server (epmd), listens on 127.0.0.1 only and
lives in a temporary folder that goes with it.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import amqp

SCRIPTS = Path("/usr/lib/rabbitmq/bin")  # not /usr/sbin: those change the user
PACKAGES = "rabbitmq-server is missing: apt-get install rabbitmq-server (Debian's packages: rabbitmq-server, erlang)"
PATIENCE = 60.0  # seconds for a node to start or stop
LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
NO_WATERMARK, WATERMARK = "0.0001", "0.4"


class BrokerMissing(RuntimeError):
    """Debian's packages are not installed; the text names them."""


def installed() -> bool:
    return (SCRIPTS / "rabbitmq-server").exists() and shutil.which("epmd") is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """One node. `url` and `management_url` stay the same over restarts; the data does too."""

    def __init__(self, folder: Path, *, management: bool = False) -> None:
        """
        :raises BrokerMissing: if Debian's packages are not installed
        """
        if not installed():
            raise BrokerMissing(PACKAGES)
        self.folder = folder
        self.port, self._epmd_port, distribution = free_port(), free_port(), free_port()
        management_port = free_port()
        self.node = f"crm2-{self.port}@localhost"
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        self.management_url = f"http://guest:guest@127.0.0.1:{management_port}" if management else ""
        self._pid_file = folder / "node.pid"
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        lines = [f"listeners.tcp.default = 127.0.0.1:{self.port}", "disk_free_limit.absolute = 50MB"]
        if management:
            lines += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {management_port}"]
        self._write("rabbitmq.conf", "\n".join(lines) + "\n")
        self._write("rabbitmq-env.conf", "")
        self._write("enabled_plugins", "[rabbitmq_management]." if management else "[].")
        self._write(".erlang.cookie", os.urandom(20).hex(), mode=0o400)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        self._env = clean | {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(self._pid_file),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": LOOPBACK,
            "RABBITMQ_CTL_ERL_ARGS": LOOPBACK,
        }

    def start(self) -> None:
        """Starts the node on its data and waits until it speaks AMQP.

        :raises RuntimeError: if it does not within a minute; with the end of what it said
        """
        if self._epmd is None:
            self._epmd = subprocess.Popen(
                ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self._pid_file.unlink(missing_ok=True)
        output = self.folder / "output"
        with output.open("wb") as file:
            self._server = subprocess.Popen(
                [SCRIPTS / "rabbitmq-server"], env=self._env, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self._end_server()
                raise RuntimeError(f"RabbitMQ does not start:\n{output.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether a client can open a channel."""
        try:
            with self.connect() as connection:
                connection.channel()
        except (OSError, amqp.AMQPError):
            return False
        return True

    def connect(self) -> amqp.Connection:
        """A connection for looking and for mending, to be used as a context manager."""
        return amqp.Connection(
            f"127.0.0.1:{self.port}", "guest", "guest", virtual_host="/", connect_timeout=5, read_timeout=10
        )

    @property
    def pid(self) -> int:
        """The node's process id, from its own pid file."""
        return int(self._pid_file.read_text())

    def kill(self) -> None:
        """`kill -9` of the node."""
        os.kill(self.pid, signal.SIGKILL)
        self._end_server()

    def stop(self) -> None:
        """A clean stop: SIGTERM, waited for."""
        if self._server is None:
            return
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.wait(PATIENCE)
        self._end_server()

    def restart(self, *, away: float = 0.0) -> None:
        """`kill -9`, then `away` seconds without a broker, then a start on the same data."""
        self.kill()
        time.sleep(away)
        self.start()

    def memory_alarm(self, on: bool) -> None:
        """Raises or clears the memory alarm: publishers are blocked while it is on."""
        self.control("set_vm_memory_high_watermark", NO_WATERMARK if on else WATERMARK)

    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` says.

        :raises RuntimeError: if it fails
        """
        done = subprocess.run(
            [SCRIPTS / "rabbitmqctl", "-n", self.node, "--quiet", *arguments],
            env=self._env, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def end(self) -> None:
        """Kills what is left of the node and its name server."""
        self._end_server()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def _end_server(self) -> None:
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None

    def _write(self, name: str, text: str, *, mode: int = 0o600) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)


@contextmanager
def private_broker(*, management: bool = False) -> Iterator[Broker]:
    """A started node; afterwards it and its folder are gone.

    :raises BrokerMissing: if Debian's packages are not installed
    """
    with tempfile.TemporaryDirectory(prefix="crm2_broker_", ignore_cleanup_errors=True) as folder:
        broker = Broker(Path(folder), management=management)
        try:
            broker.start()
            yield broker
        finally:
            broker.end()
