"""What the benchmarks decide and draw; the measuring itself is in `tests/acceptance`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import growth, peers
from bench.chart import Panel, draw
from bench.goals import GOALS, goal_rows
from bench.peer_document import BEGIN, CHART, DOCUMENT, END, Document
from bench.peer_install import peer_node, peer_python, peer_versions
from bench.processes import ROOT, BenchFault, Memory
from bench.rounds import QUICK, Figures, Sizes, measure
from bench.systems import Drain, Work, drained

SVG = "{http://www.w3.org/2000/svg}"


def figures(key: str, **values: list[float]) -> Figures:
    return Figures(key, key.capitalize(), "state", values=dict(values))


OURS = figures(
    "taskmill",
    drain=[900.0, 1000.0, 1100.0],
    single=[800.0],
    rules=[800.0],
    subscribers=[700.0],
    p50=[4.0],
    p99=[9.0],
)
BULLMQ = figures("bullmq", drain=[3000.0, 2000.0, 1000.0])
REDIS = figures("celery-redis", drain=[250.0], p50=[4.0], p99=[7.0])


def row_of(word: str) -> list[str]:
    [row] = [row for row in goal_rows([OURS, BULLMQ, REDIS]) if word in row[0]]
    return row[1:]


def test_a_rate_is_held_against_its_floor_and_its_goal() -> None:
    assert row_of("BullMQ") == [
        "1,000",
        "2,000",
        "0.50x (0.30x to 1.10x)",
        "0.50x",
        "1.00x",
        "floor",
    ]
    assert row_of("a message per task") == ["800", "250", "3.20x", "1.50x", "3.00x", "goal"]


def test_a_time_is_better_where_it_is_lower() -> None:
    assert row_of("p50") == ["4.0", "4.0", "1.00x", "1.50x", "1.00x", "goal"]
    assert row_of("p99") == ["9.0", "7.0", "1.29x", "1.50x", "1.00x", "floor"]


def test_a_loss_is_held_against_the_share_that_may_be_lost() -> None:
    [rules] = [row for row in goal_rows([OURS]) if "rules" in row[0]]
    assert rules[3].startswith("-20%")
    assert rules[4:] == ["-25%", "-10%", "floor"]
    [subscribers] = [row for row in goal_rows([OURS]) if "subscribers" in row[0]]
    assert subscribers[6] == "no"


def test_a_promise_whose_values_were_not_taken_has_no_row() -> None:
    assert len(goal_rows([BULLMQ])) == 1
    assert len(goal_rows([OURS])) == 3


def test_every_promise_names_systems_that_are_measured() -> None:
    known = {*peers.SYSTEMS, growth.Grown.key}
    assert {value.system for goal in GOALS for value in (goal.ours, goal.peer)} <= known


def test_a_missing_result_ends_the_run_with_what_is_missing() -> None:
    with pytest.raises(BenchFault, match="Celery: 199 of 200 results are there and right"):
        drained("Celery", Work(tasks=200), {"right": 199, "seconds": 1.0}, {})


def test_a_drain_is_told_per_second_and_per_task() -> None:
    found = drained("Celery", Work(tasks=200), {"right": 200, "seconds": 2.0}, {"worker": 0.1})
    assert found == Drain(rate=100.0, cpu={"worker": 500.0})


class Recorded:
    """A system that notes what it is asked for."""

    keeps = "nothing"
    share = 0.5

    def __init__(self, key: str, measures: set[str], asked: list[str]) -> None:
        self.key = self.name = key
        self.measures = frozenset(measures)
        self._asked = asked
        self.start = self.stop = self.empty = self.start_worker = self.stop_worker = _nothing

    def submit(self, clients: int, _seconds: float) -> float:
        self._asked.append(f"{self.key} submit {clients}")
        return 1.0

    def bulk(self, tasks: int) -> float:
        self._asked.append(f"{self.key} bulk {tasks}")
        return 2.0

    def latency(self, samples: int) -> list[float]:
        return [float(number) for number in range(samples)]

    def drain(self, work: Work) -> Drain:
        self._asked.append(f"{self.key} drain {work.tasks}")
        return Drain(3.0, {"worker": 1.0})

    def memory(self) -> dict[str, Memory]:
        return {"worker": Memory([1.0], 1.0)}


def _nothing() -> None:
    """Do nothing."""


def test_systems_take_turns_at_each_measure_that_they_offer() -> None:
    asked: list[str] = []
    systems = [Recorded("a", {"bulk", "drain"}, asked), Recorded("b", {"drain", "large"}, asked)]
    sizes = Sizes(rounds=2, bulk_tasks=7, drain_tasks=40)
    found = measure(systems, ["bulk", "drain"], sizes, lambda _: None)
    assert asked == ["a bulk 7", "a drain 20", "b drain 20"] * 2
    assert found[0].values == {"bulk": [2.0, 2.0], "drain": [3.0, 3.0]}
    assert found[1].cpu_per_task("drain") == {"worker": 1.0}


def test_measures_that_no_system_offers_are_refused() -> None:
    systems = [Recorded("a", {"drain"}, []), Recorded("b", {"bulk"}, [])]
    with pytest.raises(BenchFault, match="none of a, b offers rules; choose others"):
        measure(systems, ["rules"], QUICK, lambda _: None)


def test_no_round_begins_after_the_time_but_the_first() -> None:
    said: list[str] = []
    sizes = Sizes(rounds=3, minutes=0.0, samples=5)
    found = measure([Recorded("a", {"latency"}, [])], ["latency"], sizes, said.append)
    assert found[0].values["p50"] == [2.0]
    assert said[-1] == "no time for round 2"


def test_the_chart_has_a_bar_per_system_as_long_as_its_value() -> None:
    text = draw([Panel("drain, tasks/s", [("Taskmill", [50.0]), ("A & B", [90.0, 100.0, 110.0])])])
    root = ElementTree.fromstring(text)
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert texts == ["drain, tasks/s", "Taskmill", "50.0", "A & B", "100 (90.0 to 110)"]
    bars = [float(one.attrib["width"]) for one in root.iter(f"{SVG}rect")][1:]
    assert bars[0] * 2 == pytest.approx(bars[1], abs=0.2)
    ends = [float(one.attrib["x2"]) - float(one.attrib["x1"]) for one in root.iter(f"{SVG}line")]
    assert ends[1] == pytest.approx(bars[1] / 5, abs=0.2)


def page_with(root: Path, text: str) -> Path:
    page = root / DOCUMENT
    page.parent.mkdir(parents=True)
    page.write_text(text, encoding="utf8")
    return page


def test_a_run_replaces_the_last_one_on_the_page(tmp_path: Path) -> None:
    page = page_with(tmp_path, f"before\n{BEGIN}\nan old run\n{END}\nafter\n")
    document = Document([OURS, BULLMQ], QUICK, {"load": "9.9"})
    for _ in range(2):
        document.write(tmp_path)
    text = page.read_text(encoding="utf8")
    assert text.startswith(f"before\n{BEGIN}\n\n![")
    assert text.endswith(f"{END}\nafter\n")
    assert "an old run" not in text
    assert text.count("* load: 9.9") == 1
    assert "* sizes: 3 rounds in turn" in text
    ElementTree.fromstring((page.parent / CHART).read_text(encoding="utf8"))


def test_a_page_without_its_marks_is_left_alone(tmp_path: Path) -> None:
    page = page_with(tmp_path, f"before\n{BEGIN}\nno end\n")
    with pytest.raises(BenchFault, match="has no lines"):
        Document([OURS], QUICK, {}).write(tmp_path)
    assert page.read_text(encoding="utf8") == f"before\n{BEGIN}\nno end\n"


def test_the_page_has_the_marks() -> None:
    text = (ROOT / DOCUMENT).read_text(encoding="utf8")
    assert text.index(BEGIN) < text.index(END)


@pytest.mark.parametrize(
    ("main", "words", "told"),
    [
        (peers.main, ["--systems", "taskmill,sidekiq"], "sidekiq is unknown; choose from taskmill"),
        (peers.main, ["--systems", ","], "no name is given; choose from taskmill"),
        (peers.main, ["--measures", "speed"], "speed is unknown; choose from submit, bulk"),
        (peers.main, ["--rounds", "0"], "'0' is not a whole number of at least 1"),
        (peers.main, ["--tasks", "many"], "'many' is not a whole number of at least 1"),
        (peers.main, ["--minutes", "-1"], "'-1' is not a whole number of at least 1"),
        (growth.main, ["--waiting", "1e6"], "'1e6' is not a whole number of at least 1"),
        (growth.main, ["--finished", "0"], "'0' is not a whole number of at least 1"),
        (growth.main, ["--rounds", "x"], "'x' is not a whole number of at least 1"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_possible(
    main: Callable[[list[str]], None],
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        main([f"{words[0]}={words[1]}"])
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_without_node_the_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "peer_of_this_test"
    source.mkdir()
    for name in ("package.json", "package-lock.json"):
        (source / name).write_text("{}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchFault, match=r"apt-get install nodejs npm.*leave BullMQ out"):
        peer_node(source)


def test_a_requirement_that_cannot_be_installed_is_told(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"{tmp_path}/there-is-none.whl\n")
    with pytest.raises(BenchFault, match=r"the peers cannot be installed: (.|\n)*there-is-none"):
        peer_python(requirements, tmp_path / "peers")


def test_the_versions_of_all_peers_are_told() -> None:
    found = peer_versions()
    assert {"celery", "django-celery-results", "procrastinate", "granian", "bullmq"} <= set(found)
    assert all(version[0].isdigit() for version in found.values())


def test_peers_are_none_of_the_products_packages() -> None:
    product = (ROOT / "requirements-dev.txt").read_text() + (ROOT / "requirements.txt").read_text()
    assert "procrastinate" not in product
    assert "granian" not in product
