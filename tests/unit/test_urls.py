"""What of a URL may be shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest

from dataminer.db.url import DatabaseUrl
from dataminer.errors import DatabaseError
from dataminer.urls import SourceUrl, mask_line, mask_text, masked_row, public_row

SECRET = "Zx81qK0vTn"

SHOWN = [
    ("https://www.youtube.com/watch?v=aqz-KE-bpKQ", "https://www.youtube.com/watch?v=aqz-KE-bpKQ"),
    ("https://host.example/a%20b.mp4", "https://host.example/a%20b.mp4"),
    ("https://host.example:8080/?id=17&page=2", "https://host.example:8080/?id=17&page=2"),
    ("http://[::1]:80/a.mp4", "http://[::1]:80/a.mp4"),
    ("/home/me/my clips/a?b=c.mp4", "/home/me/my clips/a?b=c.mp4"),
    ("https://www.youtube.com/@BlenderOfficial/videos",) * 2,
    ("https://host.example/Rock%20%26%20Roll.mp4?quality=720#t=3",) * 2,
]
HIDDEN = [
    (f"http://ann:{SECRET}@h/a.mp4", "http://h/a.mp4"),
    (f"http://{SECRET}@h/a.mp4", "http://h/a.mp4"),
    (f"http://h/a.mp4?token={SECRET}", "http://h/a.mp4?token=..."),
    (
        f"http://h/a.mp4?v=1&X-Amz-Signature={SECRET}&t=3",
        "http://h/a.mp4?v=1&X-Amz-Signature=...&t=3",
    ),
    (f"http://h/a.mp4?{SECRET}", "http://h/a.mp4?..."),
    (f"http://h/a.mp4?st={SECRET}&e=1700000000", "http://h/a.mp4?st=...&e=..."),
    (f"http://h/a.mp4?id={SECRET * 3}", "http://h/a.mp4?id=..."),
    (f"http://h/a.mp4;jsessionid={SECRET}?v=1", "http://h/a.mp4;jsessionid=...?v=1"),
    (f"http://h/exp=17~acl=*~hmac={SECRET}/a.mp4", "http://h/exp=...~acl=...~hmac=.../a.mp4"),
    (f"http://h/a.mp4#access_token={SECRET}", "http://h/a.mp4"),
    (f"http://h:{SECRET}/[", "http://h:.../["),
    (f"http://h/fetch/http://u:{SECRET}@other/a.mp4", "http://h/fetch/http://other/a.mp4"),
    (f"http://h/fetch/https%3A%2F%2Fu%3A{SECRET}@other%2Fa", "http://h/fetch/https..."),
    (f"http://h/a.mp4,http://u:{SECRET}@h/b.mp4", "http://h/a.mp4,http://h/b.mp4"),
    (f"http://h/a.mp4?v=1;token={SECRET}", "http://h/a.mp4?v=..."),
    (f"http://h/a.mp4?v=x%26token%3D{SECRET}", "http://h/a.mp4?v=..."),
    (f"http://h/a%3Btoken%3D{SECRET}/b.mp4", "http://h/a.../b.mp4"),
    (f"http://h/a.mp4%253Ftoken%253D{SECRET}", "http://h/a.mp4..."),
    (f"http://h/sig/{SECRET}/a.mp4", "http://h/sig/.../a.mp4"),
    (f"http://u:12/{SECRET}@127.0.0.1:80/a.mp4", "http://127.0.0.1:80/a.mp4"),
    (f"http://h/a.mp4?t={SECRET}&p={SECRET}", "http://h/a.mp4?t=...&p=..."),
]


@pytest.mark.parametrize(("url", "shown"), SHOWN + HIDDEN)
def test_a_source_shows_itself_masked(url: str, shown: str) -> None:
    source = SourceUrl(url)
    assert str(source) == f"{source}" == "%s" % source == source.masked == shown  # noqa: UP031
    assert repr(source) == f"SourceUrl({shown!r})"
    assert source.reveal() == url
    assert logging.LogRecord("x", 20, "", 0, "%s", (source,), None).getMessage() == shown
    assert SourceUrl(shown).masked == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"http://user:a {SECRET}@h/x y.mp4", "http://...@h/x y.mp4"),
        (f"ftp://user:'{SECRET}@h/x.mp4", "ftp://...@h/x.mp4"),
        (f"https://h/a.mp4?token=a {SECRET}", "https://h/a.mp4?..."),
        (f"https://user:a/{SECRET}@h/x.mp4", "https://h/x.mp4"),
        ("clips/my trip/a.mp4", "clips/my trip/a.mp4"),
    ],
)
def test_a_line_that_is_no_good_url_is_masked(line: str, shown: str) -> None:
    assert mask_line(line) == shown


@pytest.mark.parametrize("write", [json.dumps, "".join, lambda url: "see " + url])
def test_a_source_is_no_text(write: Callable[[SourceUrl], object]) -> None:
    with pytest.raises(TypeError) as caught:
        write(SourceUrl(f"http://ann:{SECRET}@h/"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("/home/me/my trip/Größe 1.mp4", "Größe 1.mp4"),
        (f"http://ann:{SECRET}@h/a.mp4", "http://h/a.mp4"),
    ],
)
def test_what_leaves_carries_no_folder(url: str, public: str) -> None:
    assert SourceUrl(url).public == public


def test_what_is_told_of_a_local_file_leaves_without_its_folder() -> None:
    reported = {
        "url": "/home/me/trip/a 1.mp4",
        "error": "/home/me/trip/a 1.mp4 is gone",
        "reason": None,
    }
    assert public_row(reported)["error"] == "a 1.mp4 is gone"
    assert masked_row(reported)["error"] == reported["error"]
    reported["url"] = "http://h/a/b.mp4"
    assert public_row(reported)["error"] == "a 1.mp4 is gone"
    reported["error"] = "http://h/a.mp4?c=/d/e: no space left: '/data/me/f.mp4', and/or /tmp"
    assert (
        public_row(reported)["error"] == "http://h/a.mp4?c=...: no space left: 'f.mp4', and/or /tmp"
    )


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("/home/me/a.mp4", "/home/me/a.mp4"),
        ("http://h/get?file=a.mp4&n=2", "http://h/get?file=a.mp4&n=2"),
        (
            f"http://ann:{SECRET}@h/get?file=a.mp4&token={SECRET}",
            "http://h/get?file=a.mp4&token=...",
        ),
        (f"http://h/exp=17~hmac={SECRET}/token/a.mp4", "http://h/exp=17~hmac=.../token/a.mp4"),
        (f"http://h/a.mp4;jsessionid={SECRET}?n=2", "http://h/a.mp4;jsessionid=...?n=2"),
        (f"http://h/a?hdnts=exp=1~hmac={SECRET}&n=1", "http://h/a?hdnts=...&n=1"),
        (f"http://h/a?apikey={SECRET}#token={SECRET}", "http://h/a?apikey=..."),
        (f"http://h/http://u:{SECRET}@o/a", "http://h/http://o/a"),
        (
            f"http://h/a?n=1&AWSAccessKeyId={SECRET}&Signature={SECRET}&Expires=17",
            "http://h/a?n=1",
        ),
    ],
)
def test_a_store_keeps_what_names_the_file(url: str, stored: str) -> None:
    assert SourceUrl(url).stored == stored


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"see (http://a:{SECRET}@h/x?v=1), or not", "see (http://h/x?v=1), or not"),
        (f"http://h/x?sig={SECRET}: gone", "http://h/x?sig=...: gone"),
        (f"'socks5://a:{SECRET}@proxy:1080'", "'socks5://proxy:1080'"),
        (f"ann:{SECRET}@host.example/a.mp4", "...@host.example/a.mp4"),
        (f"http:/ann:{SECRET}@h/a.mp4?v=1", "...@h/a.mp4?v=1"),
        (f"host.example/a.mp4?token={SECRET}&v=2", "host.example/a.mp4?token=...&v=2"),
        (f"{SECRET}@host.example/a.mp4?{SECRET}", "...@host.example/a.mp4?..."),
        (f"a;jsessionid={SECRET}: gone", "a;jsessionid=... gone"),
        ("mail me@host.example at 10:30, is it so?", "mail me@host.example at 10:30, is it so?"),
        ("What?a=b, at 12:30@park, 3:2@60fps, a=b;c=d",) * 2,
    ],
)
def test_urls_in_a_text_are_masked_once_and_for_all(text: str, masked: str) -> None:
    assert mask_text(text) == mask_text(masked) == masked
    assert mask_text(masked) == masked


DATABASES = [
    (f"postgresql://ann:{SECRET}@h:5433/db", "postgresql://ann@h:5433/db"),
    (f"postgres://ann:{SECRET}@h/db", "postgresql://ann@h/db"),
    (f"postgresql+psycopg2://ann:{SECRET}@h/db", "postgresql://ann@h/db"),
    (f"postgresql://h/db?user=ann&password={SECRET}", "postgresql://ann@h/db"),
    (f"host=h user=ann password={SECRET} dbname=db", "postgresql://ann@h/db"),
    (f"postgresql://ann:{SECRET}%40%2F@h1:1,h2:2/db", "postgresql://ann@h1:1,h2:2/db"),
    (f"postgresql://ann:{SECRET}@[::1]:5432/db", "postgresql://ann@[::1]:5432/db"),
    (f"postgresql://ann:{SECRET}@/db?host=/tmp/x", "postgresql://ann@/db?host=%2Ftmp%2Fx"),
]
BROKEN = [
    f"postgresql://ann:{SECRET}@x@h/db",
    f"postgresql://ann:x@{SECRET}@h/db",
    f"postgresql://ann:x/{SECRET}@h/db",
    f"postgresql://ann:%zz{SECRET}@h/db",
    f"postgresql://ann:x@h:{SECRET}/db",
    f"postgresql://ann:{SECRET}@[::1/db",
    f"postgresql://ann:x@h/db?{SECRET}",
    f"host=h password='{SECRET}",
    f"ann:{SECRET}@h/db",
    SECRET,
    f"mysql://ann:{SECRET}@h/db",
]


@pytest.mark.parametrize(("url", "shown"), DATABASES)
def test_a_database_shows_itself_without_its_password(url: str, shown: str) -> None:
    found = DatabaseUrl(url)
    assert str(found) == shown
    assert SECRET not in repr(found)
    assert SECRET not in found.without_password
    assert SECRET in found.parameters["password"]
    assert found.cleaned(f'bad "{found.parameters["password"]}"') == 'bad "..."'


def test_a_database_without_its_password_keeps_the_rest() -> None:
    url = f"postgresql://ann:{SECRET}@h/db?sslmode=require&options=-csearch_path%3Dx"
    again = DatabaseUrl(DatabaseUrl(url).without_password)
    assert again.parameters["sslmode"] == "require"
    assert again.parameters["options"] == "-csearch_path=x"


@pytest.mark.parametrize("url", BROKEN)
def test_a_database_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        DatabaseUrl(url)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__context__)
    assert "DATABASE_URL" in str(caught.value)
    assert "%40" in str(caught.value)
