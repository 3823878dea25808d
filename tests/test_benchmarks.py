"""The benchmark suite itself: it runs, and its results can be compared.

How fast anything is, is never asserted here: that would depend on the machine.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import anyio
import pytest
from benchmarks import chart, compare, targets
from benchmarks.__main__ import main
from benchmarks.cases import contended, threads, uncontended
from benchmarks.measure import SMOKE, Contest, summarize
from benchmarks.peers.peer import AsyncPeer, BlockingPeer, Size
from benchmarks.peers.registry import ENTRIES, Entry
from benchmarks.result import OURS, Result, Row, rows
from benchmarks.waits import Waits

MACHINE = {"interpreter": "CPython", "cores": 1, "memory_gib": 1.0, "versions": {}}


def test_a_case_runs_and_its_result_compares_with_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result.json"
    assert main(["sqlite3", "--smoke", "--json", str(result)]) == 0
    assert "sqlite3, read (threads)" in capsys.readouterr().out
    data = json.loads(result.read_text("utf-8"))
    assert OURS in {row["peer"] for row in data["rows"]}
    assert data["machine"]["cores"] >= 1
    assert main(["compare", str(result), str(result)]) == 0
    assert "+0.0%" in capsys.readouterr().out


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "no such case: nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_peer_works(entry: Entry) -> None:
    try:
        module = entry.load()
    except ImportError as error:
        pytest.skip(f"{entry.name} is not installed: {error}")
    size = Size(keep=2, extra=0)
    if hasattr(module, "blocking"):
        _use(module.blocking(size))
    if hasattr(module, "asynchronous"):

        async def use() -> None:
            await _use_async(await module.asynchronous(size))

        anyio.run(use)


def _use(peer: BlockingPeer) -> None:
    with peer.connect() as one, peer.connect() as other:
        assert one is not None
        assert other is not None
    peer.run(3)
    if peer.explicit is not None:
        peer.explicit(3)
    peer.close()


async def _use_async(peer: AsyncPeer) -> None:
    async with peer.connect() as one, peer.connect() as other:
        assert one is not None
        assert other is not None
    await peer.run(3)
    if peer.explicit is not None:
        await peer.explicit(3)
    await peer.close()


def test_a_contest_takes_turns_in_either_order() -> None:
    contest = Contest(["a", "b"], replace(SMOKE, rounds=2), count=5)
    names = []
    for turn in contest.turns():
        with turn:
            names.append(turn.name)
        assert turn.count == 5
    assert names == ["a", "b", "a", "b", "b", "a"]  # the first two warm up
    assert contest.summaries()["a"].ratio == 1


def test_ratios_are_medians_of_the_rounds() -> None:
    summary = summarize({"a": [1e-6, 2e-6, 8e-6], "b": [2e-6, 6e-6, 8e-6]}, "a")["b"]
    assert summary.ratio == pytest.approx(2)
    assert summary.median == pytest.approx(6)


def test_overtaking_is_seen() -> None:
    waits = Waits()
    first, second, third = waits.arrive(), waits.arrive(), waits.arrive()
    for arrival in (second, third, first):
        waits.served(arrival)
    assert waits.details()["overtaken %"] == pytest.approx(100 / 3)


def test_a_slowdown_is_found_and_judged_beside_the_peers() -> None:
    before = _result({OURS: 2.0, "peer": 4.0})
    machine_was_slow = _result({OURS: 4.0, "peer": 8.0})
    slowdown = _result({OURS: 4.0, "peer": 4.0})
    assert not compare.changes(before, machine_was_slow)[0].slower
    assert compare.changes(before, slowdown)[0].slower
    assert any("SLOWER" in line for line in compare.lines(before, slowdown))


def test_a_case_that_is_gone_is_said() -> None:
    lines = list(compare.lines(_result({OURS: 2.0}), Result(MACHINE)))
    assert any("gone" in line for line in lines)


def test_targets_are_read_from_a_result() -> None:
    result = _result({OURS: 2.0, "DBUtils": 8.0})
    assert [line.split() for line in targets.lines(result)] == [
        ["blocking", "cycle", "/", "DBUtils", "0.25", "at", "most", "0.80", "ok"]
    ]


def test_the_chart_is_well_formed() -> None:
    found = [
        *_result({OURS: 2.0, "peer <&>": 8.0}).rows,
        *_rows(contended.FEW, "asyncio", {OURS: 20.0, "peer": 400.0}),
        *_rows(threads.CROWDS[32], "threads", {OURS: 20.0}),
    ]
    root = ElementTree.fromstring(chart.draw(Result(MACHINE, found)))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "peer <&>" in texts


def test_a_result_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}", "utf-8")
    with pytest.raises(ValueError, match=r"other\.json is not a result"):
        Result.load(path)


def _rows(case: str, where: str, medians: dict[str, float]) -> list[Row]:
    samples = {name: [median / 1e6] * 3 for name, median in medians.items()}
    return rows(case, where, summarize(samples, OURS))


def _result(medians: dict[str, float]) -> Result:
    return Result(MACHINE, _rows(uncontended.BLOCK, "threads", medians))
