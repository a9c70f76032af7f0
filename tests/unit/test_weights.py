from __future__ import annotations

from pathlib import Path

import pytest

from dataminer.errors import ConfigError
from dataminer.vision.weights import fetch, weights_path


class TestPath:
    def test_an_existing_file_is_taken_as_given(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("own").mkdir()
        Path("own/mine.pt").touch()
        Path("here.pt").touch()
        assert weights_path("own/mine.pt") == Path("own/mine.pt")
        assert weights_path("here.pt") == Path("here.pt")
        assert weights_path(str(tmp_path / "here.pt")) == tmp_path / "here.pt"

    def test_a_bare_name_lies_in_the_folder(self) -> None:
        assert weights_path("yolo26n.pt") == Path("models/yolo26n.pt")
        assert weights_path("yolo26n.pt", Path("/m")) == Path("/m/yolo26n.pt")

    @pytest.mark.parametrize(
        "model", ["own/mine.pt", "./mine.pt", "/no/where.pt", "..", "", "own/"]
    )
    def test_a_path_to_nothing_is_an_error(
        self, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match=r"detect\.model.*Next:.*put"):
            weights_path(model)


class TestFetch:
    def test_what_is_there_is_not_fetched(self, tmp_path: Path) -> None:
        (tmp_path / "yolo26n.pt").write_bytes(b"weights")
        assert fetch("yolo26n.pt", tmp_path) == tmp_path / "yolo26n.pt"
