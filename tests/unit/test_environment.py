"""What the environment may say, and how its faults are told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.env import BASE_DIR, EmbeddedPaths, Environment, EnvironmentFault
from tasks_app.conf import TasksConf


def fault_of(variables: dict[str, str]) -> str:
    """Read the settings of the tasks app and give the one fault."""
    environment = Environment(variables)
    environment.settings(TasksConf, prefix="taskmill_")
    [fault] = environment.faults
    return fault


def test_an_empty_environment_gives_the_defaults() -> None:
    environment = Environment({})
    assert environment.settings(TasksConf, prefix="taskmill_") == TasksConf()
    environment.finish()


def test_values_are_typed() -> None:
    variables = {
        "TASKMILL_LEASE_SECONDS": " 7.5 ",
        "TASKMILL_MAX_RETRY": "0",
        "TASKMILL_QUEUES": "a, b,,c",
        "TASKMILL_ENVIRONMENT": "test",
    }
    found = Environment(variables).settings(TasksConf, prefix="taskmill_")
    assert (found.lease_seconds, found.max_retry) == (7.5, 0)
    assert (found.queues, found.environment) == (("a", "b", "c"), "test")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TASKMILL_MAX_RETRY": "many"}, ["TASKMILL_MAX_RETRY", "'many'", "whole number", "3"]),
        ({"TASKMILL_LEASE_SECONDS": "x"}, ["TASKMILL_LEASE_SECONDS", "not a number", "15.0"]),
        ({"TASKMILL_LEASE_SECONDS": "0"}, ["TASKMILL_LEASE_SECONDS", "1 to 3600", "15.0"]),
        ({"TASKMILL_MAX_RESCUES": "101"}, ["TASKMILL_MAX_RESCUES", "0 to 100", "3"]),
    ],
)
def test_a_fault_names_the_variable_the_value_and_the_fix(
    variables: dict[str, str], words: list[str]
) -> None:
    fault = fault_of(variables)
    assert [word for word in words if word not in fault] == []


def test_all_faults_are_told_together() -> None:
    environment = Environment(
        {"TASKMILL_MAX_RETRY": "x", "DEBUG": "perhaps", "DATABASE_URL": "mysql://h/d"}
    )
    environment.settings(TasksConf, prefix="taskmill_")
    environment.flag("DEBUG")
    environment.database("DATABASE_URL", EmbeddedPaths(Path("/var/x")))
    with pytest.raises(EnvironmentFault) as caught:
        environment.finish()
    lines = str(caught.value).split("\n")[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        "TASKMILL_MAX_RETRY",
        "DEBUG",
        "DATABASE_URL",
    ]


@pytest.mark.parametrize(
    ("raw", "value"), [("1", True), ("YES", True), ("off", False), ("0", False), ("", True)]
)
def test_a_flag_is_yes_no_or_its_default(raw: str, value: bool) -> None:
    assert Environment({"F": raw}).flag("F", default=True) is value


def test_without_a_database_url_the_embedded_server_is_meant() -> None:
    found = Environment({}).database("DATABASE_URL", EmbeddedPaths(Path("/srv/var")))
    assert (found["HOST"], found["NAME"]) == ("/srv/var/run", "taskmill")


def test_a_database_url_is_taken_apart_and_decoded() -> None:
    url = "postgresql://us%40er:p%2Fw@db.example:6543/my%20db?sslmode=require"
    found = Environment({"DATABASE_URL": url}).database("DATABASE_URL", EmbeddedPaths(Path("/v")))
    assert found == {
        "NAME": "my db",
        "USER": "us@er",
        "PASSWORD": "p/w",
        "HOST": "db.example",
        "PORT": "6543",
        "OPTIONS": {"sslmode": "require"},
    }


def test_a_database_url_may_name_a_socket_directory() -> None:
    url = "postgresql:///app?host=/run/postgresql&port=5433"
    found = Environment({"DATABASE_URL": url}).database("DATABASE_URL", EmbeddedPaths(Path("/v")))
    assert (found["HOST"], found["PORT"], found["NAME"]) == ("/run/postgresql", "5433", "app")


@pytest.mark.parametrize("url", ["mysql://h/d", "postgresql://host", "postgresql://host/", "x"])
def test_another_database_url_is_refused_with_the_form_to_write(url: str) -> None:
    environment = Environment({"DATABASE_URL": url})
    environment.database("DATABASE_URL", EmbeddedPaths(Path("/v")))
    assert "postgresql://user:password@host:5432/database" in environment.faults[0]


def test_every_url_of_a_failover_list_needs_a_known_scheme() -> None:
    environment = Environment(
        {"BROKER_URL": "amqp://a;amqps://b", "REDIS_URL": "redis://a;http://b"}
    )
    environment.url("BROKER_URL", "", ("amqp", "amqps"))
    assert environment.faults == []
    environment.url("REDIS_URL", "", ("redis", "rediss"))
    assert environment.faults == ["REDIS_URL: starts with none of redis://, rediss://"]


def test_a_secret_key_is_taken_from_the_environment_then_from_the_file(tmp_path: Path) -> None:
    paths = EmbeddedPaths(tmp_path)
    assert Environment({"SECRET_KEY": "given"}).secret_key(paths) == "given"
    paths.secret_key.write_text("written\n", encoding="ascii")
    assert Environment({}).secret_key(paths) == "written"


def test_a_secret_key_must_be_set_beside_a_database_of_its_own(tmp_path: Path) -> None:
    environment = Environment({"DATABASE_URL": "postgresql://h/d"})
    environment.secret_key(EmbeddedPaths(tmp_path))
    assert environment.faults[0].startswith("SECRET_KEY: set it to 50 or more random characters")
    embedded = Environment({})
    embedded.secret_key(EmbeddedPaths(tmp_path))
    assert embedded.faults == []


def test_a_long_directory_moves_its_sockets_to_a_short_one() -> None:
    near = EmbeddedPaths(Path("/srv/var"))
    far = EmbeddedPaths(Path("/srv") / ("x" * 100))
    assert near.sockets == Path("/srv/var/run")
    assert len(str(far.valkey_socket)) < 100
    assert far.sockets == EmbeddedPaths(far.var).sockets
    assert far.sockets != EmbeddedPaths(far.var / "other").sockets


def test_an_app_that_is_not_found_is_a_fault_that_says_where_to_put_it() -> None:
    environment = Environment({"TASKMILL_APPS": "shopp,tests.nothing,tests,tasks_app.apps.Config"})
    assert environment.apps("TASKMILL_APPS") == ("tests", "tasks_app.apps.Config")
    assert [fault.split(" cannot")[0] for fault in environment.faults] == [
        "TASKMILL_APPS: 'shopp'",
        "TASKMILL_APPS: 'tests.nothing'",
    ]
    assert "PYTHONPATH" in environment.faults[0]


def test_manage_py_tells_the_faults_of_the_environment_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=BASE_DIR,
        env=os.environ | {"TASKMILL_APPS": "shopp", "TASKMILL_MAX_RETRY": "many"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    first, *faults = done.stderr.splitlines()
    assert first == "The configuration does not allow a start:"
    assert [fault.split(":")[0].strip() for fault in faults] == [
        "TASKMILL_MAX_RETRY",
        "TASKMILL_APPS",
    ]


def test_a_misspelt_setting_is_told_by_the_check_and_one_of_an_app_is_not() -> None:
    variables = {"TASKMILL_MAX_RETRYS": "0", "TASKMILL_SHOP_CURRENCY": "EUR"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=BASE_DIR, env=os.environ | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "(taskmill.W003) TASKMILL_MAX_RETRYS is set and is no setting." in done.stderr
    assert "TASKMILL_MAX_RETRY is one" in done.stderr
    assert "CURRENCY" not in done.stderr
