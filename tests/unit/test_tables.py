"""Lists of links as people have them: tables of every kind, quotes, blanks, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataminer.config.models import InputConfig
from dataminer.ingest import listing, tables
from dataminer.ingest.sources import Collected, collect

H = "https://example.com"


def read(folder: Path, name: str, content: bytes | str, column: str | None = None) -> Collected:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    return collect(InputConfig(url_files=[name], url_column=column), base=folder)


def links(collected: Collected) -> list[str]:
    return [source.url.reveal().removeprefix(f"{H}/") for source in collected.sources]


def refused(collected: Collected) -> list[tuple[str, str]]:
    return [(each.origin, each.reason) for each in collected.rejected]


def test_a_table_with_a_header(tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "list.csv").write_text(
        "url,caption\n"
        f'{H}/csv1.mp4,"a dog, running"\n'
        f"{H}/csv2.mp4,cat\n"
        f"{H}/b.mp4,{H}/c.mp4\n"
        f'"{H}/quoted.mp4"\n'
        "\n"
        "# a comment\n"
        ",\n"
        f'"{H}/spaces.mp4"  , more\n'
        f'  "{H}/both.mp4" ,"one ""word"""\n'
        f'{H}/lines.mp4,"two\nlines"\n'
        ",nothing\n"
        f"{H}/a,b.mp4,cut\n"
        f'"{H}/open.mp4,x\n'
        f"{H}/last.mp4,,\n"
        "not a link,x\n"
    )
    collected = collect(InputConfig(url_files=["list.csv"]), base=tmp_path, progress=lines.append)
    names = "csv1 csv2 b quoted spaces both lines last"
    assert links(collected) == [f"{name}.mp4" for name in names.split()]
    assert collected.sources[-1].source_info == {"origin": "list.csv:16"}
    assert refused(collected) == [
        ("list.csv line 13", "its column `url` is empty"),
        ("list.csv line 14", "has 3 cells, but the table has 2: quote the cell that was split"),
        (
            "list.csv line 15",
            "has an unclosed quotation mark, or a cell of more than 128 kB",
        ),
        ("list.csv line 17", "no such file or folder"),
    ]
    assert lines == ["list.csv: 12 lines, links in column `url`"]


ROWS = [("1", f"{H}/1.mp4", "a dog"), ("2", f"{H}/2.mp4", "see https://example.com/x")]


def delimited(delimiter: str, *header: str) -> str:
    rows = [header, *ROWS] if header else ROWS
    return "".join(delimiter.join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", delimited(",", "id", "url", "text")),
        ("a.csv", delimited(",", "id", "Video URL", "url")),
        ("a.csv", delimited(",", "id", "what", "text")),
        ("a.csv", delimited(",")),
        ("a.csv", delimited(";", "id", "link", "text")),
        ("a.csv", delimited(";")),
        ("a.csv", "sep=;\n" + delimited(";", "id", "link", "text")),
        ("a.csv", delimited("\t", "id", "link", "text")),
        ("a.csv", delimited("\t")),
        ("a.csv", delimited(",", "id", "url", "text").replace("\n", "\r\n")),
        ("a.csv", delimited(",", "id", "url", "text").replace("\n", "\r")),
        ("a.csv", "\ufeff" + delimited(",", "url", "url", "text")),
        ("a.csv", delimited(",", "id", "url", "text").encode("utf-16")),
        ("a.csv", delimited(",", "id", "url", "text").encode("utf-16-le")),
        ("a.csv", delimited(",", "id", "url", "text").encode("utf-16-be")),
        ("a.csv", "# made, by; hand\n\n" * 150 + delimited(";", "id", "url", "text, more")),
        ("a.CSV", "# made by hand\n\n" + delimited(",", "id", "url", "text")),
        ("a.tsv", delimited("\t", "id", "url", "text")),
        ("a.tab", delimited("\t", "id", "what", "text")),
        ("a.tsv", delimited("\t")),
        ("a.txt", delimited("\t", "id", "url", "text").encode("utf-16")),
        ("a.txt", delimited(",", "id", "url", "text")),
        ("a.txt", delimited(";", "id", "URL", "text")),
        ("a.jsonl", "".join(json.dumps({"url": row[1], "x": row[2]}) + "\n" for row in ROWS)),
        ("a.ndjson", "".join(json.dumps({"x": row[2], "what": row[1]}) + "\n" for row in ROWS)),
        ("a.txt", "".join(json.dumps({"url": row[1], "n": [1]}) + "\n" for row in ROWS)),
        ("a.jsonl", "".join(json.dumps(row[1]) + "\n" for row in ROWS)),
    ],
)
def test_tables_of_all_kinds(tmp_path: Path, name: str, content: bytes | str) -> None:
    content = content.replace("url,url", "id,url") if isinstance(content, str) else content
    collected = read(tmp_path, name, content)
    assert links(collected) == ["1.mp4", "2.mp4"]
    assert collected.rejected == []


@pytest.mark.parametrize("column", ["b", " B ", "B"])
def test_a_column_that_the_configuration_names(tmp_path: Path, column: str) -> None:
    content = f"url,b\n{H}/no.mp4,{H}/1.mp4\n"
    assert links(read(tmp_path, "a.csv", content, column)) == ["1.mp4"]
    assert links(read(tmp_path, "a.txt", content.replace("url", "x"), column)) == ["1.mp4"]
    row = json.dumps({"url": f"{H}/no.mp4", "b": f"{H}/1.mp4"})
    assert links(read(tmp_path, "a.jsonl", row, column)) == ["1.mp4"]
    assert links(read(tmp_path, "list.txt", f"{H}/1.mp4\n", column)) == ["1.mp4"]


@pytest.mark.parametrize(
    ("name", "content", "column", "reason"),
    [
        ("a.csv", "a,b\n1,2\n", None, "has no column of links: name it in input.url_column; its"),
        ("a.csv", f"a,b\n{H}/1.mp4,{H}/2.mp4\n", None, "has more than one column of links"),
        ("a.csv", f"{H}/1.mp4,{H}/2.mp4\n", None, "name the columns in a first line"),
        ("a.csv", f"a,b\n{H}/1.mp4,x\n", "c", "has no column 'c', which input.url_column names"),
        ("a.csv", f"{H}/1.mp4,x\n", "c", "names no columns in its first line"),
        ("a.csv", f"a,b\nx,y,{H}/1.mp4\nx,y,{H}/2.mp4\n", None, "has no column of links"),
        ("a.csv", "a\x1b[1m,b\n1,2\n", None, "its columns are a\\x1b[1m, b"),
        ("a.jsonl", '{"a": 1}\n', None, "has no column of links"),
        ("a.json", f'[\n"{H}/1.mp4"\n]\n', None, "write one object per line"),
        ("a.csv", b"PK\x03\x04\0\0", None, "is not a text file"),
        ("a.parquet", b"url\n", None, "cannot be read as Parquet"),
        ("a.parquet", b"", None, "cannot be read as Parquet"),
        ("a.parquet", b"PAR1" + b"x" * 40 + b"PAR1", None, "cannot be read as Parquet"),
        ("a.csv", "a\n" * 1002, None, "has more than 1,000 lines: split it"),
        ("a.txt", "a\r" * 1002, None, "has more than 1,000 lines: split it"),
    ],
)
def test_tables_that_are_refused_as_a_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes | str,
    column: str | None,
    reason: str,
) -> None:
    monkeypatch.setattr(listing, "MAX_LINES", 1000)
    collected = read(tmp_path, name, content, column)
    assert collected.sources == []
    ((origin, printed),) = refused(collected)
    assert origin == "input.url_files[0]"
    assert reason in printed


@pytest.mark.parametrize(
    "header",
    [
        "url;Notes (a, b, c)",
        'url;"Notes (a, b, c)"',
        "url;city, state",
        "city, state;url",
        "file;city, state",
        "Quelle;city, state",
        '"Video\nURL";title',
        '"Clip\r\npage";"title, subtitle, text"',
    ],
)
def test_a_header_that_holds_another_delimiter(tmp_path: Path, header: str) -> None:
    first = [f"{H}/1.mp4", "cat"] if not header.startswith("city") else ["cat", f"{H}/1.mp4"]
    content = f"{header}\n{';'.join(first)}\n{';'.join(first).replace('1.', '2.')}\n"
    collected = read(tmp_path, "a.csv", content)
    assert links(collected) == ["1.mp4", "2.mp4"]
    assert collected.rejected == []


@pytest.mark.parametrize("delimiter", ",;|\t")
def test_rows_under_a_header_of_one_cell(tmp_path: Path, delimiter: str) -> None:
    rows = f"{H}/v/1{delimiter}cat\n{H}/v/2{delimiter}dog\n"
    reason = "has 2 cells, but the table has 1: quote the cell that was split"
    collected = read(tmp_path, "a.csv", f"url\n{rows}")
    assert links(collected) == []
    assert refused(collected) == [("a.csv line 2", reason), ("a.csv line 3", reason)]


@pytest.mark.parametrize("link", ["a;id=5", "a.mp4;id=5", "a?b=1;c=2", "a?b=c|d=e"])
@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_links_that_hold_a_delimiter(tmp_path: Path, name: str, link: str) -> None:
    header = "url\n" if name == "a.csv" else ""
    assert links(read(tmp_path, name, f"{header}{H}/{link}\n{H}/{link}2\n")) == [link, f"{link}2"]


def test_rows_without_a_header_tell_the_delimiter(tmp_path: Path) -> None:
    content = f"{H}/1.mp4;a, b\n{H}/2.mp4;c\n{H}/3.mp4;d=e, f, g\n"
    collected = read(tmp_path, "a.csv", content)
    assert links(collected) == ["1.mp4", "2.mp4", "3.mp4"]


@pytest.mark.parametrize("cell", [".", "./", "..", "~", "/", "v"])
def test_a_folder_in_a_table_is_refused(tmp_path: Path, cell: str) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "a.mp4").touch()
    collected = read(tmp_path, "a.csv", f"url,t\n{cell},x\n")
    assert collected.sources == []
    assert refused(collected) == [("a.csv line 2", "is a folder: give a video file")]


def test_json_lines_that_spell_a_column_in_several_ways(tmp_path: Path) -> None:
    rows = [{"Video URL": "1"}, {"video_url": "2"}, {"video_url": "3", "Video URL": ""}]
    text = "".join(json.dumps({k: v and f"{H}/{v}" for k, v in row.items()}) + "\n" for row in rows)
    assert links(read(tmp_path, "a.jsonl", text)) == ["1", "2"]
    assert links(read(tmp_path, "a.jsonl", text, "video_url")) == ["1", "2", "3"]


def test_nested_json_is_refused_by_its_line(tmp_path: Path) -> None:
    deep = [
        f'{{"url": {opening * depth}{inner}{closing * depth}, "x": 1}}'
        for depth in range(1, 1200, 7)
        for opening, inner, closing in [("[", "", "]"), ('{"a": ', "1", "}")]
    ]
    collected = read(tmp_path, "a.jsonl", "\n".join([f'{{"url": "{H}/1.mp4"}}', *deep]))
    assert links(collected) == ["1.mp4"]
    assert len(collected.rejected) == len(deep)
    assert [each.text for each in collected.rejected[:2]] == ["[...], 1", "{...}, 1"]


def test_json_lines_of_many_columns_take_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_BYTES", 200_000)  # which is read at once
    rows = "".join(f'{{"url": "{H}/{i}.mp4", "key {i}": 1}}\n' for i in range(1500))
    (tmp_path / "a.jsonl").write_text(rows)
    tracemalloc.start()
    try:
        assert len(tables.read_table_of_links(tmp_path / "a.jsonl").cells) == 1500
        assert tracemalloc.get_traced_memory()[1] < 40 * len(rows)
    finally:
        tracemalloc.stop()


def test_json_lines_that_are_none_are_refused_alone(tmp_path: Path) -> None:
    good = json.dumps({"url": f"{H}/1.mp4"})
    content = (
        f'{good}\n{{"url": \n\n# x\n[1]\n{{"url": 5}}\n{{"x": 1}}\n"{H}/2.mp4"\n{{}}\n{good}\n'
    )
    collected = read(tmp_path, "a.jsonl", content)
    assert links(collected) == ["1.mp4"]
    assert refused(collected) == [
        ("a.jsonl line 2", "is not a JSON object"),
        ("a.jsonl line 5", "is not a JSON object"),
        ("a.jsonl line 6", "its column `url` is not text"),
        ("a.jsonl line 7", "its column `url` is empty"),
        ("a.jsonl line 8", "is not a JSON object"),
    ]


@pytest.mark.parametrize("name", ["url", "what"])
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_parquet(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    values = pa.array([f"{H}/1.mp4", None, f"{H}/2.mp4", "a b"], pa.string()).cast(kind)
    table = pa.table({"id": [1, 2, 3, 4], "text": ["a", "b", "c", "d"], name: values})
    pq.write_table(table, tmp_path / "a.parquet")
    collected = collect(InputConfig(url_files=["a.parquet"]), base=tmp_path)
    assert links(collected) == ["1.mp4", "2.mp4"]
    assert collected.sources[1].source_info == {"origin": "a.parquet:3"}
    assert refused(collected) == [
        ("a.parquet row 2", f"its column `{name}` is empty"),
        ("a.parquet row 4", "no such file or folder"),
    ]


@pytest.mark.parametrize(
    ("columns", "wanted", "reason"),
    [
        ({"n": pa.array([], pa.int64())}, None, "input.url_column; its columns are n (int64)"),
        ({}, None, "has no column of links"),
        ({"n": [1]}, None, "has no column of links: name it in input.url_column; its columns are"),
        ({"url": [b"x"], "t": ["x"]}, None, "its columns are url (binary), t (string)"),
        ({"url": [b"x"], "t": ["x"]}, "url", "has no readable links in column url (binary)"),
        ({"url": [["x"]], "t": ["x"]}, "x", "its columns are url (list<element: string>), t (str"),
        ({"a": [{"url": "x"}], "a.url": ["x"]}, "a.url", "in column a.url (more than once)"),
        ({"\x1b[1m": [1]}, None, "its columns are \\x1b[1m (int64)"),
        ({"url": pa.nulls(1001, pa.string())}, None, "has more than 1,000 rows: split it"),
        ({"url": ["x" * 2**20] * 3}, "url", "has no readable links in column url (more than 2 MB)"),
    ],
)
def test_parquet_that_is_refused_as_a_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    columns: dict[str, Any],
    wanted: str | None,
    reason: str,
) -> None:
    monkeypatch.setattr(listing, "MAX_LINES", 1000)
    monkeypatch.setattr(listing, "MAX_BYTES", 2**21)
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", use_dictionary=False)
    collected = collect(InputConfig(url_files=["a.parquet"], url_column=wanted), base=tmp_path)
    ((_, printed),) = refused(collected)
    assert reason in printed


@pytest.mark.parametrize("name", ["url", "what"])
def test_a_long_value_that_parquet_repeats_is_in_memory_once(tmp_path: Path, name: str) -> None:
    value = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), [".mp4" * 25_000])
    pq.write_table(pa.table({name: value}), tmp_path / "a.parquet", store_schema=False)
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        cells = tables.read_table_of_links(tmp_path / "a.parquet").cells
    finally:
        pa.set_memory_pool(before)
    assert len(cells) == 3000
    assert pool.max_memory() < 10_000_000


def test_a_damaged_parquet_file_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"url": [f"{H}/1.mp4"] * 9}), path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        collected = collect(InputConfig(url_files=["a.parquet"]), base=tmp_path)
        assert all("None" not in rejected.reason for rejected in collected.rejected)


def test_secrets_in_rows_that_are_refused_are_not_shown(tmp_path: Path) -> None:
    link = "https://ann:s3cret@example.com/a.mp4?token=s3cret"
    content = f'id,url\n1,{link},x\n2,"{link}\n{link},{link}\n"{link}"x,3\n'
    for name in ("a.csv", "a.txt", "a.jsonl"):
        text = content if name == "a.csv" else content.replace("id,url\n", "\n")
        collected = read(tmp_path, name, text)
        assert len(collected.rejected) > 2
        assert "s3cret" not in str(collected.rejected)


def test_a_list_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=[f"{H}/1.mp4\n"])
    writer.start()
    assert links(collect(InputConfig(url_files=["pipe"]), base=tmp_path)) == ["1.mp4"]
    writer.join()


def test_paths_in_tables(tmp_path: Path) -> None:
    for name in ("a.mp4", "b b.mp4", "noext", "tail.mp4 ", "cut.mp4"):
        (tmp_path / name).touch()
    content = 'file,label\na.mp4,1\n"b b.mp4",2\nnoext,3\n"tail.mp4 ",4\n cut.mp4 ,5\n'
    collected = read(tmp_path, "a.csv", content)
    assert [Path(s.url.reveal()).name for s in collected.sources] == [
        "a.mp4",
        "b b.mp4",
        "noext",
        "tail.mp4 ",
        "cut.mp4",
    ]


def test_quotes_and_spaces_in_lists(tmp_path: Path) -> None:
    for name in ("a.mp4", "tail.mp4 ", '"quoted".mp4', "'all.mp4'", " head.mp4", "b c.mp4"):
        (tmp_path / name).touch()
    collected = read(
        tmp_path,
        "links.txt",
        f'"{H}/1.mp4"\n'
        f"'{H}/2.mp4'   # a remark\n"
        f"  {H}/3.mp4  \n"
        '"a.mp4"\n'
        "tail.mp4 \n"
        '"quoted".mp4\n'
        "'all.mp4'\n"
        " head.mp4\n"
        '"b c.mp4" # mine\n',
    )
    assert links(collected)[:3] == ["1.mp4", "2.mp4", "3.mp4"]
    assert [Path(s.url.reveal()).name for s in collected.sources[3:]] == [
        "a.mp4",
        "tail.mp4 ",
        '"quoted".mp4',
        "'all.mp4'",
        " head.mp4",
        "b c.mp4",
    ]
    assert collected.rejected == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"b.mp4,{H}/c.mp4", "name the file .csv"),
        (f"{H}/b.mp4,{H}/c.mp4", "more than one link"),
        (f"{H}/b.mp4 {H}/c.mp4", "more than one link"),
        (f"{H}/b.mp4\t{H}/c.mp4", "control characters"),
        (f'{H}/b.mp4;"{H}/c.mp4"', "more than one link"),
        (f"https://youtu.be/aqz-KE-bpKQ,{H}/c.mp4", "more than one link"),
        (f"{H}/b.mp4,cat", "row of a table"),
        (f'{H}/b.mp4,"a dog, running"', "row of a table"),
        (f"{H}/b.mp4;cat", "write %3B in the link"),
        (f'{H}/b.mp4|"cat"', "write %7C in the link"),
        (f"{H}/b.mp4|cat=1", "write %7C in the link"),
        (f"{H}/b.mp4?x=1,cat", "write %2C in the link"),
        (f"{H}/b.mp4?x=1;cat", "write %3B in the link"),
    ],
)
def test_a_row_of_a_table_in_a_list_is_no_link(tmp_path: Path, line: str, reason: str) -> None:
    collected = read(tmp_path, "links.txt", f"{H}/a.mp4\n{line}\n")
    assert links(collected) == ["a.mp4"]
    ((origin, printed),) = refused(collected)
    assert origin == "links.txt line 2"
    assert reason in printed


@pytest.mark.parametrize(
    "link",
    [
        "a,b.mp4",
        "x?a=1,2",
        "x?tags=cat,dog",
        "a.mp4?box=1,2",
        "a.mp4?a=1,b=2",
        "a.mp4;jsessionid=1A,B",
        "a.mp4%2Ccat",
        "raport,123,news.html",
        "i/a_,400,800,.mp4.csmil/master.m3u8",
        "web/2020/https://h/a.mp4",
    ],
)
def test_links_with_commas_and_links_in_links(tmp_path: Path, link: str) -> None:
    assert links(read(tmp_path, "links.txt", f"{H}/{link}\n")) == [link]


@given(
    st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.txt", "a.json"]),
    st.one_of(
        st.binary(max_size=200),
        st.text('",;\t\n\r# {}[]:urlhtps/.mp4ab', max_size=200).map(str.encode),
    ),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    try:
        table = tables.read_table_of_links(tmp_path / name)
    except ValueError as error:
        assert str(error)
    else:
        numbers = [cell.number for cell in table.cells]
        assert numbers == sorted(set(numbers))


def test_comments_in_tables(tmp_path: Path) -> None:
    content = (
        "# first\ncaption,url\n"
        f"a,{H}/1.mp4\n"
        f"# old,{H}/2.mp4\n"
        f"#tag,{H}/3.mp4\n"
        f"#a, b and c\n#\n"
        f'#it"s,"not closed\n'
        f"  # {H}/4.mp4\n"
        f"b,{H}/5.mp4\n"
    )
    collected = read(tmp_path, "a.csv", content)
    assert links(collected) == ["1.mp4", "3.mp4", "5.mp4"]
    reason = "starts like a comment: quote its first cell if it is a row"
    assert refused(collected) == [("a.csv line 4", reason)]


def test_a_comment_with_a_quotation_mark_ends_with_its_line(tmp_path: Path) -> None:
    content = f'url,text\n# to do, "check\n{H}/1.mp4,a\n{H}/2.mp4,b "c"\n{H}/3.mp4,"\nd"\n'
    collected = read(tmp_path, "a.csv", content)
    assert links(collected) == ["1.mp4", "2.mp4", "3.mp4"]
    assert collected.rejected == []


def test_quotation_marks_in_tabbed_text(tmp_path: Path) -> None:
    content = f'url\ttext\n{H}/1.mp4\t"Hello\n{H}/2.mp4\t"a" and "b"\n"{H}/3.mp4"\t5" wide\n'
    collected = read(tmp_path, "a.tsv", content)
    assert links(collected) == ["1.mp4", "2.mp4", "3.mp4"]
    assert collected.rejected == []


CELLS = st.sampled_from(
    ["", " ", "x", f"{H}/1.mp4", '"', '"x"', '"a\n"', "#", "# x", "a.mp4", "url"]
)


@given(st.sampled_from(",;\t"), st.lists(st.lists(CELLS, max_size=4), max_size=6))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cells_are_read_or_refused(
    tmp_path: Path, delimiter: str, rows: list[list[str]]
) -> None:
    text = "\n".join(delimiter.join(row) for row in rows)
    collected = read(tmp_path, "a.csv", text)
    assert len(collected.sources) <= text.count("1.mp4")
    assert all(each.reason for each in collected.rejected)


TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from('#",;| \t\n'), max_size=30)


CAPTION = TEXT.map(lambda text: f"caption {text}".translate({0: None, ord("."): None}))


@given(
    st.sampled_from(",;\t|"),
    CAPTION,
    st.lists(st.tuples(TEXT, st.integers(0, 10**6)), max_size=20),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_python_writes_as_csv_is_read(
    tmp_path: Path, delimiter: str, caption: str, rows: list[tuple[str, int]]
) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([caption, "url"])
        writer.writerows([(text.replace("\0", ""), f"{H}/{n}.mp4") for text, n in rows])
    table = tables.read_table_of_links(tmp_path / "a.csv")
    assert len(table.cells) == len(rows)
    for (_, n), cell in zip(rows, table.cells, strict=True):
        assert "comment" in cell.reason or cell.text == f"{H}/{n}.mp4"
