"""The port and the directory of an installation: taken once, refused with the way out."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tasks_app.management.installation import (
    AlreadyRunning,
    DirectoryClosed,
    PortTaken,
    take_directory,
    take_port,
)
from tests.rabbitmq import free_port


def test_answers_do_not_wait_for_the_clients_acknowledgement() -> None:
    with (
        take_port(free_port()) as taken,
        socket.create_connection(taken.getsockname()),
        taken.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_port_is_taken_once() -> None:
    port = free_port()
    with (
        take_port(port),
        pytest.raises(PortTaken, match=f"port {port} is not free.*PORT={port + 1}"),
    ):
        take_port(port)


def test_a_directory_is_taken_once_and_closed_to_others(tmp_path: Path) -> None:
    var = tmp_path / "var"
    lock = take_directory(var)
    with pytest.raises(AlreadyRunning, match=rf"{var} \(process {os.getpid()}\)"):
        take_directory(var)
    assert stat.S_IMODE(var.stat().st_mode) & 0o066 == 0
    lock.file.close()
    take_directory(var).file.close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryClosed, match="set TASKMILL_VAR"):
        take_directory(tmp_path / "file" / "var")
