"""How cookies, proxy and arguments are handed to yt-dlp, and which of them stay secret."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from yt_dlp import YoutubeDL

from dataminer.config import load
from dataminer.config.models import DownloadConfig
from dataminer.errors import ConfigError, ErrorClass, TransientError
from dataminer.net.rate_limit import LocalRateLimiter
from dataminer.net.ytdlp_options import base_options, client, secrets_of

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
TOKEN = "MnQ-secret-po-token-0123456789"


def test_all_of_it_reaches_yt_dlp() -> None:
    settings = DownloadConfig(
        extractor_args=[f"youtube:player_client=web,mweb;po_token=web.gvs+{TOKEN}"],
        cookies_from_browser="firefox:someone",
        js_runtimes=["node:/opt/node/bin/node"],
    )
    options = base_options(settings, print)
    assert options["extractor_args"] == {
        "youtube": {"player_client": ["web", "mweb"], "po_token": [f"web.gvs+{TOKEN}"]}
    }
    assert options["cookiesfrombrowser"] == ("firefox", "someone", None, None)
    assert options["js_runtimes"] == {"node": {"path": "/opt/node/bin/node"}}
    del options["cookiesfrombrowser"]  # nobody's browser is at hand
    limiter = LocalRateLimiter(DownloadConfig().budget)
    assert isinstance(client(options, limiter=limiter, trusted="https://youtu.be/x"), YoutubeDL)


def test_secrets_stay_out_of_warnings_results_and_representations(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = DownloadConfig(
        extractor_args=[f"youtube:po_token=web.gvs+{TOKEN}"], proxy="http://ann:s3cret@h:1"
    )
    reported: list[str] = []
    logger = base_options(settings, reported.append)["logger"]
    with caplog.at_level(logging.DEBUG):
        logger.warning(f"Invalid po_token web.gvs+{TOKEN} through http://ann:s3cret@h:1")
        logger.warning("cannot speak to ann:s3cret")
    texts = [*reported, caplog.text, repr(settings), json.dumps(settings.result_settings())]
    for secret in (TOKEN, "s3cret"):
        assert secret in "".join(secrets_of(settings))
        assert secret not in "".join(texts)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"extractor_args": [f"youtube {TOKEN}"]}, "EXTRACTOR:NAME=VALUE"),
        ({"js_runtimes": ["v8"]}, "'v8' is not one of deno, node, bun, quickjs"),
    ],
)
def test_what_the_configuration_does_not_take(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"download": values})
    assert sentence in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_browser_that_yt_dlp_does_not_know() -> None:
    with pytest.raises(TransientError, match="no browser that yt-dlp knows") as caught:
        base_options(DownloadConfig(cookies_from_browser="SID=s3cret"), print)
    assert caught.value.error_class is ErrorClass.COOKIES
    assert "s3cret" not in str(caught.value).lower()


@pytest.mark.parametrize(
    "lines",
    [
        "127.0.0.1 FALSE / FALSE 0 session s3cret",
        "127.0.0.1\tFALSE\t/\tFALSE\tnever\tsession\ts3cret",
        "#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\tsession\ts3cret",
    ],
)
def test_a_cookie_that_yt_dlp_would_print_is_refused_by_its_line(
    tmp_path: Path, lines: str
) -> None:
    (tmp_path / "cookies.txt").write_text(f"# Netscape HTTP Cookie File\n\n{lines}\n")
    settings = DownloadConfig(cookies=str(tmp_path / "cookies.txt"))
    with pytest.raises(TransientError, match=r"line 3 of .* Netscape format") as caught:
        base_options(settings, print)
    assert "s3cret" not in str(caught.value)


def test_cookies_in_the_place_of_their_file_are_not_repeated() -> None:
    with pytest.raises(TransientError, match="cannot be read") as caught:
        base_options(DownloadConfig(cookies="SID=s3cret; HSID=s3cret"), print)
    assert "s3cret" not in str(caught.value)


def test_yt_dlp_is_told_how_long_to_wait_and_how_often_to_try() -> None:
    options = base_options(DownloadConfig(), print)
    assert options["socket_timeout"] == 30.0
    kinds = ("retries", "fragment_retries", "extractor_retries")
    assert [options[kind] for kind in kinds] == [3, 3, 3]
    for wait in options["retry_sleep_functions"].values():
        assert [wait(n) for n in (0, 1, 2, 4, 5, 1000)] == [1, 2, 4, 16, 20, 20]
    other = base_options(DownloadConfig(socket_timeout=90, retries=0), print)
    assert (other["socket_timeout"], other["retries"], other["fragment_retries"]) == (90, 0, 0)
