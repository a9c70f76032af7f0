"""The shared budget and its breakers, by the database's clock."""

from __future__ import annotations

import io
import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataminer.cli.ingest import populate_from
from dataminer.cli.main import app
from dataminer.config.load import load
from dataminer.config.models import BudgetConfig, HostRates, MonitorConfig
from dataminer.errors import DataminerError, ErrorClass, TransientError
from dataminer.monitor import status, story
from dataminer.monitor.terminal import live, story_text
from dataminer.net.rate_limit import PERMIT_GRACE_SECONDS, Paused, quota_of
from dataminer.store.layout import Store
from dataminer.sync.jobs.download import download_video
from dataminer.sync.rate_limit import permits, shared
from dataminer.sync.rate_limit.permits import PermitStock
from dataminer.sync.rate_limit.shared import SharedRateLimiter
from tests.support import rows, youtube_server
from tests.support.http_server import Reply, serve
from tests.support.postgres import execute

URL = "http://host.example/clip.mp4"
RATES = BudgetConfig(
    others=HostRates(requests_per_minute=6200), first_pause_seconds=60, longest_pause_seconds=200
)  # a request each 10 ms
NO_WAIT = RATES.model_copy(update={"max_wait_minutes": 0.0})


def breaker(database: str) -> tuple[Any, ...]:
    """Return strikes, and the seconds that the pause has left."""
    left = "extract(epoch FROM open_until - clock_timestamp())::float"
    return execute(database, f"SELECT strikes, {left} FROM breakers")[0]


def pauses(database: str, strikes: int, seconds: float) -> bool:
    """Tell whether the source pauses for so long; a slow machine may have used up a part."""
    counted, left = breaker(database)
    return bool(counted == strikes) and seconds - 5 < left <= seconds


def pause_is_over(database: str) -> None:
    over = "open_until - clock_timestamp() + interval '1 ms'"
    execute(
        database,
        f"UPDATE breakers SET open_until = open_until - ({over}), opened_at = opened_at - ({over})",
    )


# ---- permits -----------------------------------------------------------------------------------


def test_many_at_once_get_one_moment_each(database: str) -> None:
    permits: list[float] = []

    def ask() -> None:
        limiter = SharedRateLimiter(RATES)
        permits.extend(limiter.request(URL) for _ in range(10))

    ((began,),) = execute(database, "SELECT clock_timestamp()")
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((count, latest),) = execute(database, "SELECT permits, latest_at FROM budgets")
    assert len(permits) == count == 80
    assert (latest - began).total_seconds() >= 79 * 0.01


def test_moments_of_killed_jobs_pass_and_a_clock_that_went_back_is_no_wall(database: str) -> None:
    limiter = SharedRateLimiter(RATES)
    limiter.request(URL)
    execute(database, "UPDATE budgets SET latest_at = clock_timestamp() + interval '1 day'")
    with pytest.raises(Paused, match="used up for now"):
        SharedRateLimiter(NO_WAIT).request(URL)
    execute(database, "UPDATE budgets SET latest_at = clock_timestamp() - interval '1 day'")
    limiter.request(URL)
    assert limiter.waited < 0.1


def test_sources_and_lanes_do_not_wait_for_each_other(database: str) -> None:
    slow = BudgetConfig(others=HostRates(requests_per_minute=1))
    limiter = SharedRateLimiter(slow)
    limiter.request(URL)
    limiter.download(URL)
    limiter.request("http://other.example/")
    limiter.request("https://youtu.be/aqz-KE-bpKQ")
    limiter.request("https://r1.googlevideo.com/videoplayback")
    assert limiter.waited == 0
    assert execute(database, "SELECT count(*), sum(permits) FROM budgets") == [(5, 5)]


def test_without_the_database_nothing_is_let_through(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, "DROP TABLE budgets")
    with pytest.raises(TransientError, match=r"no request is made: .*budgets") as caught:
        SharedRateLimiter(RATES).request(URL)
    assert caught.value.error_class is ErrorClass.INTERNAL
    monkeypatch.setattr(shared, "PATIENCE", 0.0)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(TransientError, match="cannot be reached"):
        SharedRateLimiter(RATES).request(URL)


# ---- permits that several share ------------------------------------------------------------------


def lots(database: str, limiter: SharedRateLimiter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many permits a limiter gets at once; each lot must keep its distance."""
    noted: list[int] = []
    latest = "SELECT extract(epoch FROM latest_at)::float, spacing FROM budgets"
    real = limiter._fetch_lot

    def lot(values: Any, count: int) -> list[float]:
        before = execute(database, latest)
        moments = real(values, count)
        if moments:
            noted.append(len(moments))
            ((last, step),) = execute(database, latest)
            if before:
                assert last - before[0][0] >= len(moments) * step - 0.001
            assert all(b - a >= step - 0.001 for a, b in pairwise(moments))
        return moments

    monkeypatch.setattr(limiter, "_fetch_lot", lot)
    return noted


def test_permits_are_asked_for_in_lots_as_large_as_what_is_used(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = SharedRateLimiter(RATES, stock=PermitStock())
    noted = lots(database, limiter, monkeypatch)
    moments = [limiter.request(URL) for _ in range(100)]
    assert noted[0] <= 2
    assert len(noted) < 30
    assert max(noted) <= 60, "about as many as were used in half a second"
    assert moments == sorted(moments)
    ((permits,),) = execute(database, "SELECT permits FROM budgets")
    assert permits == sum(noted)


def test_at_low_rates_permits_come_one_at_a_time(
    database: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = BudgetConfig(others=HostRates(requests_per_minute=30))
    limiter = SharedRateLimiter(slow, stock=PermitStock())
    noted = lots(database, limiter, monkeypatch)
    for _ in range(6):
        limiter.request(URL)
    assert noted == [1] * 6


def test_permits_that_nobody_uses_in_time_lapse(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = PermitStock()
    limiter = SharedRateLimiter(RATES, stock=stock)
    permits = stock.of(quota_of(URL))
    now = time.monotonic()
    permits.moments.extend(
        [
            now - PERMIT_GRACE_SECONDS,
            now - PERMIT_GRACE_SECONDS / 2 - 0.01,
            now - PERMIT_GRACE_SECONDS / 4,
        ]
    )
    assert limiter.request(URL) == now - PERMIT_GRACE_SECONDS / 4 + PERMIT_GRACE_SECONDS
    assert not permits.moments
    assert limiter.request(URL) > now + PERMIT_GRACE_SECONDS, "a new one"


def test_threads_share_a_stock_and_no_permit_is_used_twice(database: str) -> None:
    stock = PermitStock()
    moments: list[float] = []

    def ask() -> None:
        limiter = SharedRateLimiter(RATES, stock=stock)
        moments.extend(limiter.request(URL) for _ in range(15))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    ((began,),) = execute(database, "SELECT clock_timestamp()")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((permits, latest),) = execute(database, "SELECT permits, latest_at FROM budgets")
    assert len(set(moments)) == 120 <= permits
    assert (latest - began).total_seconds() >= (permits - 1) * 0.01


def test_what_is_left_of_a_stock_is_dropped_when_its_source_refuses(database: str) -> None:
    stock = PermitStock()
    limiter, other = (SharedRateLimiter(NO_WAIT, stock=stock) for _ in range(2))
    elsewhere = "http://other.example/"
    for url in (URL, elsewhere):
        stock.of(quota_of(url)).moments.append(time.monotonic() + 0.2)
    limiter.refused(URL, "HTTP 429", None)
    with pytest.raises(Paused, match="pauses until"):
        other.request(URL)
    assert other.request(elsewhere) < time.monotonic() + PERMIT_GRACE_SECONDS + 0.2
    assert execute(database, "SELECT count(*) FROM budgets WHERE source = 'other.example'") == [
        (0,)
    ], "it was in stock"


# ---- the breaker -------------------------------------------------------------------------------


def test_pauses_grow_until_a_success(database: str) -> None:
    limiter = SharedRateLimiter(NO_WAIT)
    limiter.request(URL)
    for strikes, seconds in enumerate([60, 120, 200, 200], start=1):
        assert limiter.refused(URL, "HTTP 429", None)
        assert pauses(database, strikes, seconds)
        SharedRateLimiter(NO_WAIT).refused(URL, "HTTP 429", None)  # it was on its way
        assert pauses(database, strikes, seconds)
        with pytest.raises(Paused, match=r"host.example pauses until .* UTC: HTTP 429"):
            limiter.request(URL)
        with pytest.raises(Paused):
            limiter.download(URL)
        SharedRateLimiter(NO_WAIT).request("http://other.example/")
        pause_is_over(database)
        limiter.request(URL)
    limiter.report_success()
    assert breaker(database) == (0, None)
    SharedRateLimiter(NO_WAIT).request(URL)
    limiter.refused(URL, "HTTP 429", None)
    assert pauses(database, 1, 60)


def test_a_source_that_says_how_long_is_believed(database: str) -> None:
    limiter = SharedRateLimiter(NO_WAIT)
    limiter.refused(URL, "HTTP 429", 7.0)
    assert pauses(database, 1, 7)
    SharedRateLimiter(NO_WAIT).refused(URL, "HTTP 429", 30.0)
    SharedRateLimiter(NO_WAIT).refused(URL, "HTTP 429", 9.0)
    assert pauses(database, 1, 30)
    pause_is_over(database)
    limiter.request(URL)
    limiter.refused(URL, "HTTP 429", 7.0)
    assert pauses(database, 2, 61), "twice what it was: 30 s and a moment"
    pause_is_over(database)
    limiter.request(URL)
    limiter.refused(URL, "HTTP 429", 900.0)
    assert pauses(database, 3, 900)
    pause_is_over(database)
    limiter.request(URL)
    limiter.refused(URL, "HTTP 429", None)
    assert pauses(database, 4, 200), "no pause grows beyond the longest by itself"


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(4.0, [4, 8, 16, 32, 64, 128, 200, 200]), (0.0, [0, 2, 4, 8])]
)
def test_pauses_grow_from_what_the_source_asked_for(
    database: str, retry_after: float, seconds: list[int]
) -> None:
    limiter = SharedRateLimiter(NO_WAIT)
    limiter.request(URL)
    for expected in seconds:
        limiter.refused(URL, "HTTP 429", retry_after)
        length = "SELECT extract(epoch FROM open_until - opened_at)::float FROM breakers"
        assert execute(database, length) == [(pytest.approx(expected, abs=0.1),)]
        pause_is_over(database)
        limiter.request(URL)


def test_a_pause_that_was_lengthened_is_doubled_as_it_was(database: str) -> None:
    limiter = SharedRateLimiter(NO_WAIT)
    limiter.request(URL)
    limiter.refused(URL, "HTTP 429", 4.0)
    execute(database, "UPDATE breakers SET opened_at = opened_at - interval '3 s',"
            " open_until = open_until - interval '3 s'")  # fmt: skip
    SharedRateLimiter(NO_WAIT).refused(URL, "HTTP 429", 30.0)
    pause_is_over(database)
    limiter.request(URL)
    limiter.refused(URL, "HTTP 429", 4.0)
    assert pauses(database, 2, 67)


def test_one_job_goes_first(database: str) -> None:
    first, second = SharedRateLimiter(NO_WAIT), SharedRateLimiter(NO_WAIT)
    first.refused(URL, "HTTP 429", None)
    pause_is_over(database)
    first.request(URL)
    with pytest.raises(Paused, match="one job checks"):
        second.request(URL)
    first.request(URL)
    second.report_success()  # of something that was on its way
    assert breaker(database)[0] == 1
    second.refused(URL, "HTTP 429", None)
    assert breaker(database)[0] == 1
    with first:  # it ends in another way, with a video that is gone, say
        pass
    second.request(URL)
    with pytest.raises(Paused):
        first.request(URL)
    execute(database, "UPDATE breakers SET probe_until = clock_timestamp()")  # second was killed
    first.request(URL)
    with pytest.raises(Paused):
        second.request(URL)
    first.report_success()
    second.request(URL)


def test_who_waits_goes_on_when_the_pause_ends(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []

    def record(line: str) -> None:
        printed.append(line)
        pause_is_over(database)

    monkeypatch.setattr(shared, "POLL", 0.1)
    SharedRateLimiter(RATES).refused(URL, "HTTP 429", None)
    limiter = SharedRateLimiter(RATES, report=record)
    limiter.request(URL)
    assert 0 < limiter.waited < 1
    assert [line.partition(" until")[0] for line in printed] == ["host.example pauses"]


def test_a_job_that_waits_for_its_moment_sees_a_refusal_meanwhile(database: str) -> None:
    class Late(SharedRateLimiter):
        def _sleep(self, seconds: float) -> None:
            super()._sleep(seconds)
            if seconds > 0.5:
                SharedRateLimiter(RATES).refused(URL, "HTTP 429", None)

    limiter = Late(NO_WAIT.model_copy(update={"others": HostRates(requests_per_minute=60)}))
    limiter.request(URL)
    with pytest.raises(Paused, match="pauses until"):
        limiter.request(URL)


# ---- the defaults' scale, by a clock that the test turns ---------------------------------------

YOUTUBE = "https://youtu.be/aqz-KE-bpKQ"


class Clock:
    """Time goes on by itself, and jumps when somebody sleeps: then the rows' times are set back."""

    def __init__(self, database: str) -> None:
        self._database = database
        self.slept: list[float] = []

    @property
    def jumped(self) -> float:
        return sum(self.slept)

    def monotonic(self) -> float:
        return time.monotonic() + self.jumped

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        back = f"make_interval(secs => {seconds})"
        execute(
            self._database,
            f"UPDATE budgets SET latest_at = latest_at - {back}, stated_at = stated_at - {back};"
            f" UPDATE breakers SET opened_at = opened_at - {back},"
            f" open_until = open_until - {back},"
            f" probe_until = probe_until - {back}",
        )


@pytest.fixture
def clock(database: str, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(database)
    for module in (shared, permits):
        monkeypatch.setattr(module, "time", made)
    return made


def test_downloads_of_several_jobs_are_as_far_apart_as_the_defaults_say(
    database: str, clock: Clock
) -> None:
    limiters, moments = [SharedRateLimiter(BudgetConfig()) for _ in range(3)], []
    latest = "SELECT extract(epoch FROM latest_at)::float FROM budgets"
    for turn in range(9):
        limiters[turn % 3].download(YOUTUBE)
        moments.append(execute(database, latest)[0][0] + clock.jumped)
    pauses = sorted(later - sooner for sooner, later in pairwise(moments))
    assert pauses[0] >= 3602 / 240 - 0.001
    assert pauses[4] <= 21.0
    assert max(clock.slept) <= 10.0, "no moment is taken that is further away"


@pytest.mark.parametrize(("pause", "waits"), [(59, True), (1790, True), (1830, False)])
def test_a_job_waits_for_half_an_hour_and_no_longer(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, pause: int, waits: bool
) -> None:
    monkeypatch.setattr(shared, "POLL", 300.0)
    began = clock.monotonic()
    SharedRateLimiter(BudgetConfig()).refused(URL, "HTTP 429", float(pause))
    limiter = SharedRateLimiter(BudgetConfig())
    if waits:
        limiter.request(URL)
        assert clock.monotonic() - began >= pause
        assert clock.jumped <= pause + shared.POLL
    else:
        with pytest.raises(Paused, match="pauses until"):
            limiter.request(URL)
        assert limiter.waited == 0, "it gives up at once"


def test_who_waits_for_long_says_so_again_and_is_not_taken_to_hang(clock: Clock) -> None:
    printed: list[float] = []
    limiter = SharedRateLimiter(
        BudgetConfig(), report=lambda line: printed.append(clock.monotonic())
    )
    while clock.jumped < 300:
        limiter._hold_back("host.example pauses until then", 300.0)
    assert 4 <= len(printed) <= 6
    assert max(b - a for a, b in pairwise(printed)) < 75


def test_several_waits_are_one_long_one(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "POLL", 300.0)
    limiter = SharedRateLimiter(BudgetConfig())
    for minutes in (14, 14):
        SharedRateLimiter(BudgetConfig()).refused(URL, "HTTP 429", 60.0 * minutes)
        limiter.request(URL)
        limiter.report_success()
    SharedRateLimiter(BudgetConfig()).refused(URL, "HTTP 429", 60.0 * 14)
    with pytest.raises(Paused):
        limiter.request(URL)


def test_pauses_of_the_defaults_grow_from_a_minute_to_an_hour(database: str, clock: Clock) -> None:
    limiter = SharedRateLimiter(BudgetConfig(max_wait_minutes=0))
    for strikes, minutes in enumerate([1, 2, 4, 8, 16, 32, 60, 60], start=1):
        limiter.refused(URL, "HTTP 429", None)
        assert pauses(database, strikes, 60 * minutes)
        clock.sleep(60 * minutes - 20)
        with pytest.raises(Paused, match="pauses until"):
            limiter.request(URL)
        clock.sleep(20)
        limiter.request(URL)


def test_a_job_that_goes_first_has_two_minutes_for_each_word(clock: Clock) -> None:
    first, second = (SharedRateLimiter(BudgetConfig(max_wait_minutes=0)) for _ in range(2))
    first.refused(URL, "HTTP 429", None)
    clock.sleep(60)
    first.request(URL)
    for _ in range(2):
        clock.sleep(90)
        with pytest.raises(Paused, match="one job checks"):
            second.request(URL)
        first.request(URL)
    clock.sleep(121)
    second.request(URL)
    with pytest.raises(Paused, match="one job checks"):
        first.request(URL)


def test_the_strictest_of_the_runs_counts_until_it_was_silent_for_five_minutes(
    database: str, clock: Clock
) -> None:
    strict = BudgetConfig(others=HostRates(requests_per_minute=6))
    for silence, per_minute in ((30, 6), (270, 6), (330, 600)):
        SharedRateLimiter(strict).request(URL)
        clock.sleep(silence)
        SharedRateLimiter(BudgetConfig()).request(URL)
        ((apart,),) = execute(database, "SELECT spacing FROM budgets")
        assert apart == pytest.approx(62 / per_minute), silence


def test_a_laxer_run_keeps_to_the_pace_of_a_stricter_one(database: str, clock: Clock) -> None:
    SharedRateLimiter(BudgetConfig(others=HostRates(requests_per_minute=6))).request(URL)
    lax = SharedRateLimiter(RATES)
    lax.request(URL)
    assert lax.waited > 9


# ---- for people --------------------------------------------------------------------------------


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["budget", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_pauses_are_shown_and_reset(database: str, tmp_path: Path) -> None:
    rows.add("p", "clip", url=URL)
    assert invoke("show") == "no requests yet\n"
    limiter = SharedRateLimiter(NO_WAIT)
    limiter.request(URL)
    limiter.refused(URL, "HTTP 429 [bold]slow[/] down\x1b[0m", None)
    out = io.StringIO()
    status.print_status([], out)
    assert "[bold]slow[/] down[0m" in out.getvalue()
    out = io.StringIO()
    live.print_view(live.Monitor([], MonitorConfig()).read(), out)
    assert "host.example" in out.getvalue()
    assert "dataminer budget reset" in out.getvalue()
    out = io.StringIO()
    story_text.print_story(story.story("clip", Store(tmp_path)), out)
    assert "host.example: HTTP 429" in out.getvalue()
    (pause,) = json.loads(invoke("show", "--json"))["pauses"]
    assert (pause["source"], pause["strikes"]) == ("host.example", 1)
    assert "host.example  requests: 1 so far, at least 0.01 s apart" in invoke("show")
    assert "pauses: 20" in invoke("show")
    assert invoke("reset", "other.example") == "nothing paused\n"
    assert invoke("reset") == "no longer paused: host.example\n"
    SharedRateLimiter(NO_WAIT).request(URL)
    assert "pause" not in invoke("show")


def test_a_classified_refusal_pauses_its_source_and_is_tried_again(database: str) -> None:
    settings = RATES.model_copy(update={"first_pause_seconds": 0.2})
    attempts: list[Any] = []

    def fetch(limiter: SharedRateLimiter) -> None:
        limiter.request(URL)
        attempts.append(breaker(database)[0] if attempts else None)
        if len(attempts) < 3:
            raise TransientError("Sign in to confirm you're not a bot", ErrorClass.BOT_CHECK)

    shared.fetch_within_limits(settings, URL, "download x", fetch)
    assert attempts == [None, 1, 2]
    assert breaker(database) == (0, None)
    attempts.clear()
    with pytest.raises(Paused) as caught:
        shared.fetch_within_limits(NO_WAIT, URL, "download x", fetch)
    assert caught.value.error_class is ErrorClass.BOT_CHECK
    assert "docs/youtube.md" in caught.value.hint
    execute(database, "DELETE FROM breakers")
    with pytest.raises(TransientError, match="refused"):
        shared.fetch_within_limits(settings, URL, "download x", _refused_connection)


@pytest.mark.parametrize("kind", [ErrorClass.RATE_LIMIT, ErrorClass.BOT_CHECK])
def test_a_job_that_may_wait_no_longer_gives_its_video_back_uncounted(
    database: str, tmp_path: Path, kind: ErrorClass
) -> None:
    rows.add("p", "clip", url=URL)
    SharedRateLimiter(NO_WAIT).refused(URL, "HTTP 429", None, kind)
    settings = {"store": str(tmp_path), "download": {"budget": {"max_wait_minutes": 0}}}
    for _ in range(4):  # more often than max_attempts
        with pytest.raises(Paused, match="waits no longer"):
            download_video(load(settings), "clip")
    ((status_, attempts, error_class, error),) = execute(
        database, "SELECT status, attempts, error_class, error FROM videos"
    )
    assert (status_, attempts, error_class) == ("PENDING", 0, kind)
    assert "Next: run snakemake again later; `dataminer budget show`" in error


def test_populate_asks_within_the_budget(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("config.yaml")
    file.write_text("input: {searches: [cats], max_results_per_query: 3}\n")
    with serve() as server, youtube_server.installed(server):
        youtube_server.add_search(server, [{"id": f"video{number:06d}"} for number in range(3)])
        populate_from([file])
    permits = execute(database, "SELECT source, lane, permits FROM budgets")
    host = server.url.removeprefix("http://")
    assert permits == [(host, "request", server.requests["/search"])]


def test_a_list_that_asks_for_a_human_pauses_youtube_for_all(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("config.yaml")
    file.write_text("input: {urls: [youtube.com/@someone]}\n")
    with serve() as server, youtube_server.installed(server):
        server.add("/list", Reply(200, b'{"error": "Sign in to confirm you\'re not a bot"}'))
        with pytest.raises(DataminerError, match="nothing was added"):
            populate_from([file])
    paused = execute(database, "SELECT source, strikes, error_class FROM breakers")
    assert paused == [("youtube", 1, "bot_check")]


def _refused_connection(_: SharedRateLimiter) -> None:
    raise TransientError("connection refused", ErrorClass.NETWORK)
