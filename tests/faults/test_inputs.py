"""Input is replaced while a result is made of it: the result is of one input, and says of which."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dataminer.config import Config, load
from dataminer.errors import InputChanged
from dataminer.files.publishing import publish_dir, staging_dir
from dataminer.frames import images
from dataminer.frames.table import FRAMES_FILE, read_meta, read_table, write_table
from dataminer.provenance import fingerprints
from dataminer.stages.dedup import stage as dedup_stage
from dataminer.stages.detect import shards
from dataminer.stages.detect import stage as detect_stage
from dataminer.stages.extract import stage as extract_stage
from dataminer.stages.filter import stage as filter_stage
from dataminer.store.layout import ANNOTATIONS_FILE, INFO_FILE, Store
from dataminer.sync.claims import projects, stage_rows
from dataminer.sync.jobs import results
from dataminer.sync.jobs.dedup import dedup_project
from dataminer.sync.jobs.detect import detect_project, detect_shards, plan_shards
from dataminer.sync.jobs.download import download_video
from dataminer.sync.jobs.extract import extract_video
from dataminer.sync.jobs.failures import NotReady
from dataminer.sync.jobs.filter import filter_video
from tests.support import rows, stores, videos
from tests.support.postgres import execute

Moment = tuple[object, str]
OLD, NEW = (0, 1, 2), (0, 2, 4)  # frames


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store(Path("data"))


@pytest.fixture
def config(database: str, store: Store) -> Config:
    return load({"project": "p", "filter": {"min_sharpness": 0}, "detect": {"image_size": 320}})


def replace(final: Path, make: Callable[[Path], None]) -> None:
    """Put another result in the place of one, as a job does."""
    with staging_dir(final) as staging:
        make(staging)
        old = publish_dir(staging, final)
    if old:
        shutil.rmtree(old)


def once(
    monkeypatch: pytest.MonkeyPatch,
    moment: Moment,
    act: Callable[[], None],
    *,
    after: bool = False,
) -> list[str]:
    """Do something before, or after, a function is called for the first time."""
    owner, name = moment
    original = getattr(owner, name)
    calls: list[str] = []

    def called(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        first = len(calls) == 1
        if first and not after:
            act()
        result = original(*arguments, **options)
        if first and after:
            act()
        return result

    monkeypatch.setattr(owner, name, called)
    return calls


def frames(video_id: str, indexes: tuple[int, ...], fingerprint: str) -> Callable[[Path], None]:
    """Return what makes frames whose images show what they are."""

    def make(folder: Path) -> None:
        stores.make_frames(folder, video_id, indexes, {"fingerprint": fingerprint})
        for path in folder.glob("*.jpg"):
            picture = Image.new("RGB", (64, 48), fingerprint)
            picture.save(path, "JPEG")

    return make


def colours(folder: Path) -> set[tuple[int, ...]]:
    """Return the colours of a folder's images."""
    return {Image.open(path).getpixel((1, 1)) for path in folder.glob("*.jpg")}  # type: ignore[misc]


def of_new(folder: Path, names: list[str]) -> None:
    """See that a folder has just these images, and that all are of the new input."""
    assert sorted(path.name for path in folder.glob("*.jpg")) == sorted(names)
    ((red, _, blue),) = colours(folder)
    assert blue > red


def own(config: Config, store: Store) -> Path:
    """Return the folder of the frames that the settings choose."""
    sha256 = (results.read_info_or_none(store.video("v")) or {}).get("sha256")
    return store.recipe("v", fingerprints.of_extract(config.extract.result_settings(), sha256))


def states(url: str, table: str) -> list[tuple[Any, ...]]:
    status = "project_stage" if table == "projects" else "status"
    return execute(url, f"SELECT {status}, attempts, error FROM {table}")


def row_of(url: str, table: str, *columns: str) -> tuple[Any, ...]:
    return execute(url, f"SELECT {', '.join(columns)} FROM {table}")[0]


# ---- filter ------------------------------------------------------------------------------------


@pytest.fixture
def extracted(config: Config, store: Store) -> None:
    rows.add("p", "v")
    rows.extracted("v")
    replace(own(config, store), frames("v", OLD, "red"))


@pytest.mark.parametrize(
    "moment",
    [
        (filter_stage, "filter_frames"),
        (images.FrameReader, "link"),
        (filter_stage, "write_table"),
    ],
    ids=lambda moment: moment[1],
)
@pytest.mark.usefixtures("extracted")
def test_filter(
    config: Config, store: Store, database: str, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    new = frames("v", NEW, "blue")
    once(monkeypatch, moment, lambda: replace(own(config, store), new))
    filter_video(config, "p", "v")
    folder = store.filtered("p", "v")
    of_new(folder, read_table(folder / FRAMES_FILE)["file_name"].to_pylist())
    assert read_table(folder / FRAMES_FILE)["frame_index"].to_pylist() == list(NEW)
    assert read_meta(folder / FRAMES_FILE)["filtered_from"] == "blue"
    assert states(database, "project_videos") == [("FILTERED", 0, None)]
    assert row_of(database, "project_videos", "filtered_from", "passed_frames") == ("blue", 3)
    assert list(folder.parent.glob(".*")) == []


@pytest.mark.usefixtures("extracted")
def test_frames_that_vanish_under_the_filter_are_waited_for(
    config: Config, store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = (images.FrameReader, "link")
    once(monkeypatch, moment, lambda: shutil.rmtree(own(config, store)))
    with pytest.raises(NotReady):
        filter_video(config, "p", "v")
    assert states(database, "project_videos") == [("PENDING", 0, None)]
    replace(own(config, store), frames("v", NEW, "blue"))
    filter_video(config, "p", "v")
    assert states(database, "project_videos") == [("FILTERED", 0, None)]


@pytest.mark.usefixtures("extracted")
def test_frames_that_never_stand_still_are_left_to_the_next_run(
    config: Config, store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_still(*arguments: Any) -> None:
        replace(own(config, store), frames("v", NEW, "blue"))
        write_table(*arguments)

    monkeypatch.setattr(filter_stage, "write_table", never_still)
    with pytest.raises(InputChanged):
        filter_video(config, "p", "v")
    assert states(database, "project_videos") == [("PENDING", 0, None)]


# ---- dedup -------------------------------------------------------------------------------------


@pytest.fixture
def filtered(config: Config, store: Store) -> None:
    project_id = rows.add("p", "v", "w")
    for video_id in ("v", "w"):
        rows.extracted(video_id)
        rows.filtered(video_id, project_id)
        replace(store.filtered("p", video_id), frames(video_id, OLD, "red"))


@pytest.mark.parametrize(
    "moment",
    [(dedup_stage, "dedup"), (images.FrameReader, "link"), (dedup_stage, "write_table")],
    ids=lambda moment: moment[1],
)
@pytest.mark.usefixtures("filtered")
def test_dedup(
    config: Config, store: Store, database: str, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    def act() -> None:
        for video_id in ("v", "w"):
            replace(store.filtered("p", video_id), frames(video_id, NEW, "blue"))

    calls = once(monkeypatch, moment, act)
    dedup_project(config, "p")
    assert len(calls) > 1
    folder = store.dedup("p")
    of_new(folder, read_table(folder / FRAMES_FILE)["file_name"].to_pylist())
    assert states(database, "projects") == [("DETECT_READY", 0, None)]
    made = read_meta(folder / FRAMES_FILE)["fingerprint"]
    assert row_of(database, "projects", "dedup_fingerprint") == (made,)
    dedup_project(config, "p")
    assert read_meta(folder / FRAMES_FILE)["fingerprint"] == made, "it is named by its input"


@pytest.mark.usefixtures("filtered")
def test_a_video_that_is_deleted_meanwhile_is_not_in_the_dataset(
    config: Config, store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        execute(database, "DELETE FROM project_videos WHERE video_id = 'w'")
        shutil.rmtree(store.filtered("p", "w"))

    once(monkeypatch, (dedup_stage, "write_table"), act)
    dedup_project(config, "p")
    assert set(read_table(store.dedup("p") / FRAMES_FILE)["video_id"].to_pylist()) == {"v"}
    assert states(database, "projects") == [("DETECT_READY", 0, None)]


# ---- detect ------------------------------------------------------------------------------------


@pytest.fixture
def unique(config: Config, store: Store) -> None:
    project_id = rows.add("p", "v")
    rows.extracted("v")
    rows.filtered("v", project_id)
    projects.refresh([project_id])
    columns = {"dedup_dir": "d", "unique_frames": 3}
    rows.finished(stage_rows.DEDUP, "DETECT_READY", columns, project_id=project_id)
    stores.make_download(store, "v")
    replace(store.dedup("p"), frames("v", OLD, "red"))


@pytest.mark.parametrize(
    "moment",
    [(detect_stage, "detect"), (shards, "open_detector"), (shards, "_detect")],
    ids=lambda moment: moment[1],
)
@pytest.mark.usefixtures("unique")
def test_detect(
    config: Config,
    store: Store,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    shapes_weights: Path,
    moment: Moment,
) -> None:
    once(monkeypatch, moment, lambda: replace(store.dedup("p"), frames("v", NEW, "blue")))
    detect_project(config, "p", shapes_weights, Path("sheet.jpg"))
    coco = json.loads((store.detect("p") / ANNOTATIONS_FILE).read_text())
    names = [image["file_name"] for image in coco["images"]]
    assert names == [f"v_{index:06d}.jpg" for index in NEW]
    of_new(store.detect("p") / "images", names)
    assert states(database, "projects") == [("COMPLETE", 0, None)]
    assert row_of(database, "projects", "detect_fingerprint") == (coco["info"]["fingerprint"],)


@pytest.mark.usefixtures("unique")
def test_no_shard_has_boxes_of_other_pictures(
    config: Config, store: Store, monkeypatch: pytest.MonkeyPatch, shapes_weights: Path
) -> None:
    new = frames("v", NEW, "blue")
    once(monkeypatch, (shards, "_detect"), lambda: replace(store.dedup("p"), new))
    detect_shards(config, "p", shapes_weights, 0)
    plan = plan_shards(config, "p", shapes_weights)
    assert [frame.file_name for frame in plan.frames] == [f"v_{index:06d}.jpg" for index in NEW]
    kept = sorted(path.name for path in store.detect_shards("p").iterdir())
    assert kept == sorted(f"{shard.key}.json" for shard in plan.shards)


# ---- extract, and a source that others write to ------------------------------------------------


@pytest.fixture
def source(config: Config, store: Store) -> Path:
    clip = videos.make_video(Path("clip.mp4").absolute(), frames=30, size=(96, 64))
    videos.make_video(Path("other.mp4"), frames=50, size=(64, 96))
    rows.add("p", "v", url=str(clip))
    download_video(config, "v")
    return clip


def width(config: Config, store: Store) -> list[int]:
    widths: list[int] = read_table(own(config, store) / FRAMES_FILE)["width"].unique().to_pylist()
    return widths


def linked(store: Store) -> dict[str, Any]:
    """Return what is known of a source that the store shares with others."""
    info: dict[str, Any] = json.loads((store.video("v") / INFO_FILE).read_text())
    if info["linked"] != "hardlink":
        pytest.skip("this file system shares blocks: the store's file is its own")
    return info


def write_into(clip: Path) -> None:
    """Write another video into a file, in place: whoever links it has it as well."""
    with clip.open("r+b") as file:
        file.write(Path("other.mp4").read_bytes())
        file.truncate()


def test_a_video_that_is_replaced_while_its_frames_are_taken_out(
    config: Config, store: Store, database: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = json.loads((store.video("v") / INFO_FILE).read_text())

    def make(folder: Path) -> None:
        shutil.copy("other.mp4", folder / info["video"])
        size = (folder / info["video"]).stat().st_size
        (folder / INFO_FILE).write_text(json.dumps({**info, "size_bytes": size, "sha256": "s"}))

    act = lambda: replace(store.video("v"), make)  # noqa: E731
    calls = once(monkeypatch, (extract_stage, "extract"), act, after=True)
    extract_video(config, "v")
    assert len(calls) == 2
    assert width(config, store) == [64]
    assert states(database, "videos") == [("EXTRACTED", 0, None)]


def test_a_source_that_is_written_to_is_taken_again(
    config: Config, store: Store, database: str, source: Path
) -> None:
    before = linked(store)
    write_into(source)
    extract_video(config, "v")
    after = json.loads((store.video("v") / INFO_FILE).read_text())
    assert after["sha256"] != before["sha256"]
    assert width(config, store) == [64]
    assert states(database, "videos") == [("EXTRACTED", 0, None)]


def test_a_source_that_is_written_to_while_its_frames_are_taken_out(
    config: Config, store: Store, database: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked(store)
    once(monkeypatch, (extract_stage, "extract"), lambda: write_into(source), after=True)
    extract_video(config, "v")
    assert width(config, store) == [64]
    assert states(database, "videos") == [("EXTRACTED", 0, None)]


def test_a_source_that_is_deleted_once_it_was_read_gives_its_frames(
    config: Config, store: Store, database: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (video,) = store.video("v").glob("*.mp4")
    calls = once(monkeypatch, (extract_stage, "extract"), video.unlink, after=True)
    extract_video(config, "v")
    assert len(calls) == 1
    assert states(database, "videos") == [("EXTRACTED", 0, None)]
