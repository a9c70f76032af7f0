"""A project whose every text was written by somebody who means harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, PROVENANCE, read_table, write_table
from dataminer.report.data.facts import ProjectFacts
from dataminer.report.data.gather import gather
from dataminer.store.layout import ANNOTATIONS_FILE, Store
from dataminer.sync.claims import projects, stage_rows
from tests.support.postgres import execute
from tests.support.report_project import draw_pictures, make_project
from tests.support.rows import add, extracted, failed, filtered, force, held

PROJECT = "birds"
OTHER_HOST = "evil.example"
_RUN = "window.ran = 1; document.title = 'taken over'"
_MARKUP = (
    f"</script></style></title></textarea><script>{_RUN}</script><style>*{{width:9000px}}</style>"
    f'<img src=//{OTHER_HOST}/x onerror="{_RUN}"><svg onload="{_RUN}"><base href=//{OTHER_HOST}>'
    f'" autofocus tabindex=0 onfocus="{_RUN}" style="position:fixed;inset:0" x="\' onmouseover=\''
    f"{_RUN}' --> ]]> {{{{7*7}}}} ${{7*7}} &lt;b&gt;"
    f" \\u003cscript\\u003e{_RUN}\\u003c/script\\u003e"
)
# What a terminal or a browser obeys: bidi overrides, zero widths, line separators, tags, ANSI
# colours, a window's title, a hyperlink, the same as C1 controls, blank letters, heaps of marks.
STEERING = (
    "\u202egnp.exe\u2066\u200b\u200d\ufeff\u2028\u2029\U000e0041\ue000\x7f\x08\x0c\r"
    "\x1b[31m\x1b[2J\x1b]0;taken over\x07\x1b]8;;https://evil.example\x1b\\\x9b1A\x9d0;x\x9c"
    + 3 * "\u3164"
    + 30 * "\u0489"
)
_LONG = 100_000 * "W"
_QUOTES = "'\"onfocus=ran=1 autofocus "  # first, because long texts are cut
SHORT = f"{_QUOTES}{STEERING}{_MARKUP}"
TEXT = f"{SHORT}{_LONG}"
# What JSON can hold beyond that, and neither a database nor Parquet
JSON_TEXT = f"\0\ud800{TEXT}"
URLS = (
    f"javascript:{_RUN}",
    f"data:text/html,<script>{_RUN}</script>",
    f'https://{OTHER_HOST}/" onclick="{_RUN}\u202e',
    f"/videos/{SHORT}.mp4",
)


def make(store: Store, database: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Fill a store, a database and a folder of logs, and return settings of a project."""
    made = make_project(store, PROJECT, videos=len(URLS), frames=16)
    _fill_files(store, made, folder)
    _fill_database(database, [video.video_id for video in made.videos])
    log = folder / "logs/download/video00001.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"x ERROR {TEXT}\n{SHORT}\n", encoding="utf-8")
    return {"detect": {TEXT: TEXT, "model": [TEXT]}}


def _fill_files(store: Store, made: ProjectFacts, folder: Path) -> None:
    for video in made.videos:
        _name_frames(store.recipe(video.video_id, "r") / FRAMES_FILE)
        indices = range(16)
        scores = {"frame_index": indices, TEXT: [0.5] * 16, "rejected": [TEXT] * 16}
        path = store.filtered(PROJECT, video.video_id) / "scores.parquet"
        table = pa.table({name: list(column) for name, column in scores.items()})
        write_table(path, table, table.schema, {})
    path = store.detect(PROJECT) / ANNOTATIONS_FILE
    dataset = json.loads(path.read_text())
    dataset["info"] |= {"model": JSON_TEXT, "model_sha256": JSON_TEXT, "project": JSON_TEXT}
    for category in dataset["categories"]:
        category["name"] = f"{category['id']}{JSON_TEXT}"
    for image in dataset["images"]:
        image["title"] = JSON_TEXT
    path.write_text(json.dumps(dataset))
    draw_pictures(store, gather(store, made, {}, folder))


def _name_frames(path: Path) -> None:
    table = read_table(path)
    for column in PROVENANCE:
        field = FRAMES_SCHEMA.field(column)
        values = pa.array([TEXT] * table.num_rows).dictionary_encode().cast(field.type)
        table = table.set_column(table.schema.get_field_index(column), field, values)
    meta = {"settings": {TEXT: TEXT}}
    write_table(path, table, FRAMES_SCHEMA, meta, ready=True)


def _fill_database(database: str, video_ids: list[str]) -> None:
    project = add(PROJECT, *video_ids)
    done, broken, late, waiting = video_ids
    extracted(done, frames=16)
    filtered(done, project, passed=3)
    failed(broken, {"error": f"{TEXT} Next: {TEXT}", "error_class": "empty"})
    extracted(late)
    held(stage_rows.FILTER, project_id=project, video_id=late)
    assignments = "title = $${0}$$, warning = $${0}$$, source_info = '{1}'".format(
        TEXT, json.dumps({SHORT: SHORT}).replace("'", "''")
    )
    for video_id, url in zip(video_ids, URLS, strict=True):
        where = f"WHERE video_id = '{video_id}'"
        execute(database, f"UPDATE videos SET {assignments}, url = $${url}$$ {where}")
    force(
        database,
        f"UPDATE project_videos SET locked_by = $${SHORT}:1:x$$ WHERE status = 'FILTERING'",
    )
    error = f"error = $${TEXT}$$, error_class = 'network'"
    force(database, f"UPDATE videos SET {error} WHERE video_id = '{waiting}'")
    force(database, f"UPDATE projects SET {error}")
    projects.refresh([project])
