"""What several downloads at once ask the database for, and the disk: one statement for all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dataminer.config.models import MonitorConfig
from dataminer.errors import InputChanged
from dataminer.net import deadline
from dataminer.sync.batches import call_combiner
from dataminer.sync.batches.call_combiner import CallCombiner
from dataminer.sync.batches.claim_keeper import SharedKeeper
from dataminer.sync.claims import claim_end, claims, stage_rows
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.claims.heartbeat import Interrupted
from tests.support import rows
from tests.support.postgres import execute
from tests.support.waiting import wait_until

QUICK = MonitorConfig(heartbeat_seconds=0.1, stale_threshold_minutes=0.1)
NAMES = [f"v{number}" for number in range(6)]


@pytest.fixture
def held(database: str) -> dict[str, Claim]:
    rows.add("p", *NAMES)
    return {name: held for name, (held, *_) in claims.claim_new(NAMES).items()}


def at_once(act: Callable[[str], object]) -> dict[str, BaseException | None]:
    """Do something for all videos, each on a thread; return what it raised."""
    ready = threading.Barrier(len(NAMES))
    raised: dict[str, BaseException | None] = {}

    def run(name: str) -> None:
        ready.wait()
        try:
            act(name)
        except BaseException as error:
            raised[name] = error
        else:
            raised[name] = None

    threads = [threading.Thread(target=run, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def finish_all(
    held: dict[str, Claim], publish: Callable[[str], object]
) -> dict[str, BaseException | None]:
    keeper = SharedKeeper(QUICK)

    def finish(name: str) -> None:
        columns = {"video_path": f"videos/{name}", "sha256": name}
        cost = {"seconds": 1.5}
        keeper.finish(held[name], "DOWNLOADED", columns, lambda: publish(name), cost)

    return at_once(finish)


def statuses(database: str) -> dict[str, str]:
    return dict(execute(database, "SELECT video_id, status FROM videos"))


def test_results_are_recorded_together(
    database: str, held: dict[str, Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = claim_end.finish_all

    def finish(results: list[claim_end.Result]) -> list[claim_end.Result]:
        sizes.append(len(results))
        return real(results)

    monkeypatch.setattr(claim_end, "finish_all", finish)
    published: list[str] = []
    assert finish_all(held, published.append) == dict.fromkeys(NAMES)
    assert sorted(published) == NAMES
    assert sum(sizes) == len(NAMES) > len(sizes)
    found = execute(
        database,
        "SELECT video_id, status, video_path, sha256, costs -> 'download', attempts, locked_by"
        " FROM videos ORDER BY 1",
    )
    assert found == [
        (name, "DOWNLOADED", f"videos/{name}", name, {"seconds": 1.5}, 0, None) for name in NAMES
    ]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), InputChanged(Path("v2"))])
def test_one_that_cannot_be_put_in_place_does_not_harm_the_others(
    database: str, held: dict[str, Claim], error: Exception
) -> None:
    placed: list[str] = []

    def publish(name: str) -> None:
        if name == "v2":
            raise error
        placed.append(name)

    assert finish_all(held, publish) == dict.fromkeys(NAMES) | {"v2": error}
    assert set(placed) == {*NAMES} - {"v2"}
    assert statuses(database) == dict.fromkeys(NAMES, "DOWNLOADED") | {"v2": "DOWNLOADING"}


def test_one_whose_lease_moved_on_is_not_put_in_place(
    database: str, held: dict[str, Claim]
) -> None:
    execute(database, "UPDATE videos SET lease = lease + 1 WHERE video_id = 'v2'")
    placed: list[str] = []
    raised = finish_all(held, placed.append)
    assert isinstance(raised.pop("v2"), LeaseLost)
    assert set(raised.values()) == {None}
    assert sorted(placed) == sorted({*NAMES} - {"v2"})
    assert statuses(database)["v2"] == "DOWNLOADING"


def test_of_an_answer_that_was_lost_the_result_counts(
    database: str, held: dict[str, Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was recorded, and then asked for again."""
    real = claim_end.finish_all

    def finish(results: list[claim_end.Result]) -> list[claim_end.Result]:
        real(results)
        raise OSError("connection reset")

    monkeypatch.setattr(claim_end, "finish_all", finish)
    placed: list[str] = []
    assert finish_all(held, placed.append) == dict.fromkeys(NAMES)
    assert sorted(placed) == NAMES, "each of them once"
    assert set(statuses(database).values()) == {"DOWNLOADED"}


def test_a_folder_that_is_gone_does_not_harm_the_others(tmp_path: Path) -> None:
    """Whoever took a claim over removes what it had begun."""
    keeper = SharedKeeper(QUICK)
    for name in NAMES:
        (tmp_path / name).mkdir()
    (tmp_path / "v3").rmdir()
    raised = at_once(lambda name: keeper.flush(tmp_path / name))
    assert isinstance(raised.pop("v3"), FileNotFoundError)
    assert set(raised.values()) == {None}


def test_all_that_ask_are_served_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_combiner, "_COMBINE_SECONDS", 0.0)
    served: list[int] = []

    def do(numbers: list[int]) -> list[int]:
        served.extend(numbers)
        return [number for number in numbers if number % 3]

    call, answers = CallCombiner(do), {}

    def ask(first: int) -> None:
        for number in range(first, first + 300):
            answers[number] = call(number)

    threads = [threading.Thread(target=ask, args=(300 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(served) == list(range(2400))
    assert answers == {number: number % 3 != 0 for number in range(2400)}


def test_one_heartbeat_keeps_all_and_tells_whose_lease_is_lost(
    database: str, held: dict[str, Claim]
) -> None:
    keeper, ended = SharedKeeper(QUICK), threading.Event()
    lost: dict[str, BaseException | None] = {}
    oldest = "SELECT extract(epoch FROM clock_timestamp() - min(heartbeat_at))::float FROM videos"

    def work(name: str) -> None:
        with keeper.kept_alive(held[name], QUICK):
            for _ in deadline.stoppable_sleeps(60.0):
                if ended.wait(0.05):
                    return

    def run() -> None:
        lost.update(at_once(work))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: len(keeper.live_claims) == len(NAMES))
    execute(database, "UPDATE videos SET heartbeat_at = now() - interval '1 minute'")
    wait_until(lambda: execute(database, oldest)[0][0] < 1)
    execute(database, "UPDATE videos SET lease = lease + 1 WHERE video_id = 'v2'")
    wait_until(lambda: len(keeper.live_claims) == len(NAMES) - 1)
    ended.set()
    thread.join()
    assert isinstance(lost.pop("v2"), LeaseLost)
    assert set(lost.values()) == {None}
    assert keeper.live_claims == []
    execute(database, "UPDATE videos SET heartbeat_at = now() - interval '1 minute'")
    threading.Event().wait(0.5)
    assert execute(database, oldest)[0][0] > 50, "what has ended is not kept alive"


def test_what_begins_after_the_end_ends_at_once(database: str, held: dict[str, Claim]) -> None:
    keeper, interruption = SharedKeeper(QUICK), Interrupted("SIGTERM")
    keeper.stop(interruption)
    with pytest.raises(Interrupted), keeper.kept_alive(held["v1"], QUICK):
        pytest.fail("it began")
    assert keeper.live_claims == []


def test_claims_of_new_videos_pass_over_all_others(database: str) -> None:
    rows.add("p", *NAMES)
    busy = rows.held(stage_rows.DOWNLOAD, video_id="v1")
    rows.downloaded("v2")
    found = claims.claim_new([*NAMES, "unknown"])
    assert sorted(found) == ["v0", "v3", "v4", "v5"]
    assert {one.attempts for one, *_ in found.values()} == {1}
    assert [one.again for one, *_ in found.values()] == [False] * 4
    assert claims.beat_all([busy, *(one for one, *_ in found.values())]) == []
    own = claims.own_claims(NAMES)
    assert sorted(one.key["video_id"] for one in own) == ["v0", "v1", "v3", "v4", "v5"]
    for one in own:
        assert claim_end.release(one, error=None, error_class=None, counts=False)
    assert execute(database, "SELECT sum(attempts) FROM videos") == [(0,)]
