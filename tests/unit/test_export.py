from __future__ import annotations

import csv
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dataminer.cli.export import Format
from dataminer.cli.main import app
from dataminer.errors import DataminerError, PermanentError
from dataminer.export import make
from dataminer.export.dataset import STORED, Dataset, load_labelled, load_unlabelled
from dataminer.export.make import FORMATS, Options, export
from dataminer.export.records import write_csv
from dataminer.export.splits import Shares
from dataminer.formats.contact_sheet import contact_sheet
from dataminer.formats.yolo import data_yaml
from dataminer.frames.table import (
    FRAMES_FILE,
    FRAMES_SCHEMA,
    PICTURE_FIELDS,
    read_table,
    write_table,
)
from dataminer.store.layout import Store
from tests.support.export_project import (
    FRAMES,
    ODD_TEXTS,
    PROJECT,
    VIDEOS,
    label_with,
    make_project,
    stored,
)
from tests.support.export_readers import provenance, without_apostrophe


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_project(tmp_path / "data")[0]


class TestSameBytes:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_again_elsewhere_and_in_place(self, store: Store, tmp_path: Path, kind: str) -> None:
        dataset = load_labelled(store, PROJECT)
        export(dataset, kind, tmp_path / "one")
        first = content(tmp_path / "one")
        os.utime(store.detect(PROJECT) / "images" / dataset.images[0].file_name, (1, 1))
        export(load_labelled(store, PROJECT), kind, tmp_path / "two")
        export(load_labelled(store, PROJECT), kind, tmp_path / "one", Options(copy=True))
        assert first == content(tmp_path / "one") == content(tmp_path / "two")
        assert [path.name for path in (tmp_path / "one").iterdir()] == [kind]

    @pytest.mark.parametrize("kind", FORMATS)
    def test_from_an_archive_as_from_files(self, tmp_path: Path, kind: str) -> None:
        for frame_store in ("files", "tar"):
            made, _ = make_project(tmp_path / frame_store / "data", frame_store=frame_store)
            export(load_unlabelled(made, PROJECT), kind, tmp_path / frame_store / "out")
        assert content(tmp_path / "files" / "out") == content(tmp_path / "tar" / "out")


class TestImages:
    def test_are_the_files_of_the_store_unless_copied(self, store: Store, tmp_path: Path) -> None:
        dataset = load_labelled(store, PROJECT)
        for name, copy in (("linked", False), ("copied", True)):
            export(dataset, "yolo", tmp_path / name, Options(copy=copy))
            for path in (tmp_path / name).rglob("*.jpg"):
                source = dataset.folder / path.name
                assert path.read_bytes() == source.read_bytes()
                assert not copy or not path.samefile(source)

    def test_a_missing_one_ends_it_with_nothing_left(self, store: Store, tmp_path: Path) -> None:
        dataset = load_labelled(store, PROJECT)
        (dataset.folder / dataset.images[-1].file_name).unlink()
        for kind in FORMATS:
            with pytest.raises(PermanentError, match=dataset.images[-1].file_name):
                export(dataset, kind, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    @pytest.mark.parametrize("copy", [False, True])
    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_link_out_of_the_store_is_not_followed(
        self, store: Store, tmp_path: Path, kind: str, copy: bool
    ) -> None:
        dataset = load_labelled(store, PROJECT)
        image = dataset.folder / dataset.images[-1].file_name
        image.rename(tmp_path / "private.jpg")
        image.symlink_to(tmp_path / "private.jpg")
        with pytest.raises(PermanentError, match=image.name):
            export(dataset, kind, tmp_path / "out", Options(copy=copy))
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_link_in_the_place_of_a_picture_is_as_a_damaged_one_on_the_contact_sheet(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("PIL.Image.open", None)  # ultralytics has it look for packages
        dataset = load_labelled(store, PROJECT)
        image = dataset.folder / dataset.images[-1].file_name
        sheets: list[Path] = []
        image.rename(tmp_path / "private.jpg")
        image.symlink_to(tmp_path / "private.jpg")
        width, height = dataset.images[-1].width, dataset.images[-1].height
        larger = cv2.imencode(".jpg", np.full((height, width + 1, 3), 255, np.uint8))[1].tobytes()
        for data in (b"damaged", larger, larger):
            sheets.append(tmp_path / f"{len(sheets)}.png")
            contact_sheet(store.detect(PROJECT), sheets[-1])
            image.unlink()
            image.write_bytes(data)
        assert len({sheet.read_bytes() for sheet in sheets}) == 1

    def test_a_name_that_leads_out_is_refused(self, store: Store, tmp_path: Path) -> None:
        dataset = load_labelled(store, PROJECT)
        evil = replace(dataset.images[0], file_name="../../annotations.json")
        with pytest.raises(DataminerError, match="leads out"):
            export(replace(dataset, images=(evil,)), "yolo", tmp_path / "out")


class TestFramesOnly:
    def test_has_the_unique_frames_and_no_labels(self, store: Store, tmp_path: Path) -> None:
        for kind in FORMATS:
            made = export(load_unlabelled(store, PROJECT), kind, tmp_path)
            assert sum(made.images.values()) == len(VIDEOS) * FRAMES
        coco = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
        assert (coco["annotations"], coco["categories"]) == ([], [])
        assert not (tmp_path / "yolo" / "labels").exists()
        assert not (tmp_path / "csv" / "objects.csv").exists()
        assert "objects" not in (tmp_path / "imagefolder/train/metadata.jsonl").read_text()

    def test_needs_no_annotations(self, store: Store, tmp_path: Path) -> None:
        (store.detect(PROJECT) / "annotations.json").unlink()
        with pytest.raises(DataminerError, match=r"no annotations yet.*--frames-only"):
            load_labelled(store, PROJECT)
        assert len(load_unlabelled(store, PROJECT).images) == len(VIDEOS) * FRAMES


class TestWholeOrNotAtAll:
    def test_one_cut_short_leaves_the_old_export(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dataset = load_labelled(store, PROJECT)
        export(dataset, "yolo", tmp_path / "out")
        before = content(tmp_path / "out")

        def stop(done: int, total: int) -> None:
            if done == total - 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(dataset, "yolo", tmp_path / "out", progress=stop)
        assert content(tmp_path / "out") == before

    def test_a_full_disk_is_told_in_a_sentence(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(make, "fsync_tree", full)
        with pytest.raises(DataminerError, match="No space left on device"):
            export(load_labelled(store, PROJECT), "coco", tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []


class TestInTheWay:
    def test_a_foreign_folder_is_left_alone(self, store: Store, tmp_path: Path) -> None:
        dataset, thesis = load_labelled(store, PROJECT), tmp_path / "yolo" / "thesis.tex"
        thesis.parent.mkdir()
        export(dataset, "yolo", tmp_path)  # an empty folder is nobody's
        thesis.write_text("years")
        with pytest.raises(DataminerError, match=r"'thesis.tex' was added.*--force"):
            export(dataset, "yolo", tmp_path)
        (tmp_path / "yolo" / "dataminer.json").unlink()
        with pytest.raises(DataminerError, match=r"not an earlier export.*--force"):
            export(dataset, "yolo", tmp_path)
        assert thesis.read_text() == "years"
        export(dataset, "yolo", tmp_path, Options(force=True))
        assert not thesis.exists()

    def test_a_file_is_never_replaced(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "csv").write_text("mine")
        with pytest.raises(DataminerError, match="is a file"):
            export(load_labelled(store, PROJECT), "csv", tmp_path, Options(force=True))
        assert (tmp_path / "csv").read_text() == "mine"

    def test_caches_of_training_are_no_obstacle(self, store: Store, tmp_path: Path) -> None:
        export(load_labelled(store, PROJECT), "yolo", tmp_path)
        (tmp_path / "yolo" / "labels" / "train.cache").touch()
        export(load_labelled(store, PROJECT), "yolo", tmp_path)
        assert not (tmp_path / "yolo" / "labels" / "train.cache").exists()


class TestShards:
    def test_stay_within_their_bound_and_lose_nothing(self, store: Store, tmp_path: Path) -> None:
        bound = 40_000
        export(load_labelled(store, PROJECT), "webdataset", tmp_path, Options(shard_bytes=bound))
        shards = sorted((tmp_path / "webdataset").glob("*.tar"))
        assert len(shards) > 3
        assert all(shard.stat().st_size <= bound for shard in shards)
        names = []
        for shard in shards:
            with tarfile.open(shard) as archive:
                assert {member.mtime for member in archive} == {0}
                names += [(shard.name.split("-")[0], name) for name in archive.getnames()]
        assert len(set(names)) == len(names) == 2 * len(VIDEOS) * FRAMES

    def test_one_picture_may_be_larger_than_the_bound(self, store: Store, tmp_path: Path) -> None:
        export(load_labelled(store, PROJECT), "webdataset", tmp_path, Options(shard_bytes=1))
        assert len(list((tmp_path / "webdataset").glob("*.tar"))) == len(VIDEOS) * FRAMES


class TestStrangersTexts:
    def test_are_no_formulas_in_csv_and_whole_in_parquet(
        self, store: Store, tmp_path: Path
    ) -> None:
        for kind in ("csv", "parquet"):
            export(load_labelled(store, PROJECT), kind, tmp_path)
        text = (tmp_path / "csv" / "images.csv").read_text()
        assert ",=" not in text
        assert ',"=' not in text
        assert "'@SUM(1+1)" in text
        assert "\n-dash" not in text  # the path comes first
        titles = pq.read_table(tmp_path / "parquet" / "images.parquet")["title"].to_pylist()
        assert VIDEOS["-dash_and_9"]["title"] in titles

    def test_stay_text_in_yaml(self, store: Store, tmp_path: Path) -> None:
        path = store.detect(PROJECT) / "annotations.json"
        coco = json.loads(path.read_text())
        coco["categories"][0]["name"] = "x\nval: /etc\ud800"
        path.write_text(json.dumps(coco))
        export(load_labelled(store, PROJECT), "yolo", tmp_path)
        data = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
        assert data["names"][0] == "x\nval: /etc?"
        assert data["val"] == "images/val"

    @pytest.mark.parametrize("kind", FORMATS)
    def test_come_back_unchanged_from_every_format(
        self, store: Store, tmp_path: Path, kind: str
    ) -> None:
        dataset = load_labelled(store, PROJECT)
        keys = ("title", "uploader", "licence")
        for part in range(0, len(ODD_TEXTS), len(keys) * len(VIDEOS)):
            texts = iter((*ODD_TEXTS[part:], *[""] * len(keys) * len(VIDEOS)))
            videos = {video_id: dict(zip(keys, texts, strict=False)) for video_id in VIDEOS}
            export(replace(dataset, videos=videos), kind, tmp_path)
            for row in provenance(tmp_path / kind, kind).values():
                wanted = videos[row["video_id"]]
                assert {key: row.get(key, "") for key in keys} == wanted
            with (tmp_path / kind / "sources.csv").open(encoding="utf-8", newline="") as file:
                rows = {row["video_id"]: row for row in csv.DictReader(file)}
            for video_id, wanted in videos.items():
                read = {key: without_apostrophe(rows[video_id][key]) for key in keys}
                assert read == wanted

    def test_are_loaded_unchanged(self, store: Store) -> None:
        annotations = store.detect(PROJECT) / "annotations.json"
        table = store.dedup(PROJECT) / FRAMES_FILE
        coco, rows = json.loads(annotations.read_text()), read_table(table).to_pylist()
        for part in range(0, len(ODD_TEXTS), len(VIDEOS)):
            titles = dict(zip(VIDEOS, (*ODD_TEXTS[part:], *[""] * len(VIDEOS)), strict=False))
            for row in (*coco["images"], *rows):
                row["title"] = titles[row["video_id"]]
            annotations.write_text(json.dumps(coco))
            write_table(table, pa.Table.from_pylist(rows, schema=FRAMES_SCHEMA), FRAMES_SCHEMA, {})
            for load in (load_labelled, load_unlabelled):
                videos = load(store, PROJECT).videos
                assert {each: videos[each].get("title", "") for each in videos} == titles

    @settings(deadline=None)
    @given(st.lists(st.text()))
    def test_give_the_same_names_in_yaml(self, names: list[str]) -> None:
        text = data_yaml(names)
        assert text.isascii()
        for loader in (yaml.SafeLoader, yaml.CSafeLoader):  # supervision's and ultralytics'
            assert yaml.load(text, loader)["names"] == dict(enumerate(names))

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.text(), st.text())))
    def test_give_the_same_texts_in_csv(self, rows: list[tuple[str, str]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.csv")
            write_csv(path, ["a", "b"], ({"a": a, "b": b} for a, b in rows))
            with path.open(encoding="utf-8", newline="") as file:
                read = list(csv.reader(file))
        assert not any(
            text.startswith(("=", "+", "-", "@", "\t", "\r")) for row in read for text in row
        )
        assert [tuple(map(without_apostrophe, row)) for row in read[1:]] == rows

    def test_with_half_a_character_are_named(self, store: Store, tmp_path: Path) -> None:
        label_with(store, ["disc", "half \ud83d", "joined \ud83d\ude00", "none"])
        dataset = load_labelled(store, PROJECT)
        assert dataset.names == ("disc", "half ?", "joined 😀", "none")
        (note,) = dataset.notes
        assert note.startswith("class 1 is exported as 'half ?': ")
        for kind in FORMATS:
            made = export(dataset, kind, tmp_path)
            assert made.notes[:1] == (note,)
            about = json.loads((tmp_path / kind / "dataminer.json").read_text())
            assert tuple(about["classes"]) == dataset.names
        # before and after JSON, so that a folder of annotations agrees with itself
        assert data_yaml(["\ud83d\ude00 \ud83d"]) == data_yaml(["😀 \ud83d"]) == data_yaml(["😀 ?"])


class TestHowFramesWereStored:
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("load", [load_labelled, load_unlabelled])
    def test_is_exported_of_each(
        self,
        tmp_path: Path,
        load: Callable[[Store, str], Dataset],
        kind: str,
    ) -> None:
        store, images = make_project(tmp_path / "data")
        dataset = load(store, PROJECT)
        assert dataset.notes == ()
        export(dataset, kind, tmp_path)
        rows = provenance(tmp_path / kind, kind)
        for image in images:
            wanted = stored(image)
            for key in STORED:
                assert rows[image.file_name][key] == ("" if wanted[key] is None else wanted[key])

    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("load", [load_labelled, load_unlabelled])
    def test_is_left_out_if_the_table_is_of_an_older_version(
        self, store: Store, tmp_path: Path, load: Callable[[Store, str], Dataset], kind: str
    ) -> None:
        path = store.dedup(PROJECT) / FRAMES_FILE
        later = {field.name for field in PICTURE_FIELDS}
        older = pa.schema([field for field in FRAMES_SCHEMA if field.name not in later])
        write_table(path, read_table(path, older.names, schema=FRAMES_SCHEMA), older, {})
        assert not later & set(pq.read_schema(path).names)
        dataset = load(store, PROJECT)
        made = export(dataset, kind, tmp_path)
        assert sum(made.images.values()) == len(VIDEOS) * FRAMES
        assert "damaged, deinterlaced, " in made.notes[0]
        assert "not known of 20 of the frames" in made.notes[0]
        rows = provenance(tmp_path / kind, kind)
        assert len(rows) == len(dataset.images)
        assert not any(later & row.keys() for row in rows.values())

    def test_is_left_out_if_it_is_unknown_of_some(self, store: Store, tmp_path: Path) -> None:
        path = store.dedup(PROJECT) / FRAMES_FILE
        rows = read_table(path).to_pylist()
        rows[3]["damaged"] = None
        table = pa.Table.from_pylist(rows, schema=FRAMES_SCHEMA)
        write_table(path, table, FRAMES_SCHEMA, {})
        for load in (load_labelled, load_unlabelled):
            dataset = load(store, PROJECT)
            assert dataset.stored == {}
            assert "not known of 1 of the frames" in dataset.notes[0]


class TestNothingToExport:
    def test_no_project(self, tmp_path: Path) -> None:
        for load in (load_labelled, load_unlabelled):
            with pytest.raises(DataminerError, match=r"no project ghosts .*dataminer status"):
                load(Store(tmp_path), "ghosts")

    def test_no_unique_frames_yet(self, tmp_path: Path) -> None:
        Store(tmp_path).project(PROJECT).mkdir(parents=True)
        with pytest.raises(DataminerError, match=r"no unique frames yet.*snakemake --config"):
            load_unlabelled(Store(tmp_path), PROJECT)
        with pytest.raises(DataminerError, match="no annotations yet") as caught:
            load_labelled(Store(tmp_path), PROJECT)
        assert "--frames-only" not in str(caught.value)

    def test_no_frame_at_all(self, store: Store) -> None:
        path = store.dedup(PROJECT) / FRAMES_FILE
        write_table(path, read_table(path).slice(0, 0), FRAMES_SCHEMA, {})
        with pytest.raises(DataminerError, match="dataminer preview birds"):
            load_unlabelled(store, PROJECT)

    @pytest.mark.parametrize("text", ["", "[]", '{"images": [{}], "annotations": []}', "\x00"])
    def test_damaged_annotations(self, store: Store, text: str) -> None:
        (store.detect(PROJECT) / "annotations.json").write_text(text)
        with pytest.raises(DataminerError, match=r"cannot be read as annotations.*force-detect"):
            load_labelled(store, PROJECT)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _here(self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_writes_several_formats_and_sums_up(self, tmp_path: Path) -> None:
        ran = CliRunner().invoke(app, ["export", PROJECT, "-f", "coco", "-f", "csv", "--to", "out"])
        assert ran.exit_code == 0
        first, second = ran.stdout.splitlines()
        assert first.startswith("coco: out/coco: 20 images (train 12 from 3 videos, val 8 from 2")
        assert first.endswith("30 objects of 2 classes")
        assert second.startswith("csv: out/csv: ")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["coco", "csv"]

    def test_says_what_is_missing(self, store: Store) -> None:
        path = store.detect(PROJECT) / "annotations.json"
        coco = json.loads(path.read_text())
        gone = {image["id"] for image in coco["images"] if image["video_id"] != "train"}
        coco["images"] = [each for each in coco["images"] if each["id"] not in gone]
        coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] not in gone]
        path.write_text(json.dumps(coco))
        ran = CliRunner().invoke(app, ["export", PROJECT, "-f", "yolo", "--to", "out"])
        assert "16 unique frames are not annotated yet" in ran.stderr
        assert "all frames come from one video, train" in ran.stderr
        assert yaml.safe_load(Path("out/yolo/data.yaml").read_text())["val"] == "images/train"

    def test_an_impossible_share_is_an_error(self) -> None:
        ran = CliRunner().invoke(
            app, ["export", PROJECT, "-f", "yolo", "--to", "out", "--val-share", "1"]
        )
        assert "leave nothing for train" in str(ran.exception)


def test_shares_go_to_the_folder(store: Store, tmp_path: Path) -> None:
    export(load_labelled(store, PROJECT), "coco", tmp_path, Options(Shares(0.3, 0.3)))
    about = json.loads((tmp_path / "coco" / "dataminer.json").read_text())
    assert about["shares"] == {"val": 0.3, "test": 0.3, "seed": 0}
    assert sum(map(len, about["splits"].values())) == len(VIDEOS)


def test_the_command_offers_every_format() -> None:
    assert [each.value for each in Format] == list(FORMATS)
