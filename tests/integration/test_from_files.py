"""Rows that were made from a store's files alone: what others wrote there names nothing inside."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.stages.download.stage import download
from tests.support.http_server import serve
from tests.support.mined import PROJECT, configure, mine
from tests.support.postgres import fresh_database
from tests.support.runs import contents
from tests.support.site import Site
from tests.support.videos import make_video

ERRORS = "SELECT video_id, error_class, error FROM videos ORDER BY video_id"


def files(site: Site) -> dict[str, str]:
    """Return what the files hold; the tables of dedup describe the work as well."""
    found = contents(site)
    return {name: held for name, held in found.items() if "/dedup/" not in name}


def test_a_path_is_taken_again_once_the_user_names_it(
    server: str, template: str, tmp_path: Path
) -> None:
    with (
        fresh_database(server, template, "old") as old,
        fresh_database(server, template, "new") as new,
    ):
        site = Site(tmp_path, old)
        configure(site)
        mine(site)
        whole = files(site)
        own, forged = sorted((tmp_path / "data" / "videos").iterdir())
        secret = tmp_path / "secret.mp4"
        make_video(secret, frames=5, size=(64, 64))
        info = json.loads((forged / "info.json").read_text())
        (forged / "info.json").write_text(json.dumps(info | {"url": str(secret)}))

        site = replace(site, database=new)
        for command in (("adopt", "data"), ("sync", "--project", PROJECT)):
            done = site.dataminer_here(*command)
            assert done.returncode == 0, done.stderr
        for video in (own, forged):
            shutil.rmtree(video)
            shutil.rmtree(tmp_path / "data" / "frames" / video.name)
        assert site.dataminer_here("sync", "--deep").returncode == 0
        with pytest.raises(PermanentError, match="failed, so there is no frame"):
            mine(site)
        for video_id, error_class, error in site.rows(ERRORS):
            assert error_class == "unsupported"
            assert "is named only by files in the store" in error
            assert f"`dataminer retry --video {video_id}`" in error
        assert not list(site.folder.glob("data/videos/*/*.mp4"))

        site.populate()
        for video in (own, forged):
            done = site.dataminer_here("retry", "--video", video.name)
            assert done.returncode == 0, done.stderr
        mine(site)
        assert files(site) == whole


def test_images_keep_their_provenance_without_the_video(
    server: str, template: str, tmp_path: Path
) -> None:
    with fresh_database(server, template, "lost") as database:
        site = Site(tmp_path, database)
        configure(site)
        mine(site)
        (annotations,) = tmp_path.glob("data/projects/*/detect/annotations.json")
        whole = json.loads(annotations.read_text())
        shutil.rmtree(tmp_path / "data" / "videos")
        assert site.dataminer_here("force-detect", PROJECT, "--yes").returncode == 0
        mine(site)
        again = json.loads(annotations.read_text())
        assert again["images"] == whole["images"]
        assert all(image["url"] for image in again["images"])


def test_a_link_that_leads_inside_is_not_followed(tmp_path: Path) -> None:
    with serve() as inside:
        link = inside.add("/v.mp4", make_video(tmp_path / "v.mp4", frames=5, size=(64, 64)))
        with pytest.raises(PermanentError, match="a loopback address") as caught:
            download(link, tmp_path, "v", DownloadConfig(), trusted=False)
        assert caught.value.error_class is ErrorClass.UNSUPPORTED
        assert not inside.requests
