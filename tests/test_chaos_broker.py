"""The private broker of the chaos rows: what is said when it cannot be had, and that nothing of it stays."""

import os
from pathlib import Path

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos import broker as brokers


def test_without_the_packages_a_row_fails_and_names_them(monkeypatch, capsys) -> None:
    monkeypatch.setattr(brokers, "SCRIPTS", Path("/nowhere"))
    monkeypatch.setattr("sys.argv", ["chaos", "R7", "--writes", "1"])
    assert chaos.main() == 1
    assert capsys.readouterr().out.startswith("R7 FAIL rabbitmq-server is missing: apt-get install rabbitmq-server")


@pytest.mark.broker
def test_it_has_a_node_of_its_own(broker) -> None:
    assert broker.pid > 0
    assert broker.answers()
    assert broker.node in broker.control("eval", "node().")
    assert os.stat(broker.folder / ".erlang.cookie").st_mode & 0o777 == 0o400
