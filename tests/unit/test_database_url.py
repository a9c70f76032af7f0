"""Which databases a URL may name."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from dataminer.cli.main import app
from dataminer.errors import DatabaseError
from dataminer.monitor import status


@pytest.mark.parametrize("url", ["mysql://u@h/d", "sqlite:///x.db"])
def test_other_databases_are_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(DatabaseError, match="works only with PostgreSQL"):
        status.snapshot()


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_the_status_of_a_server_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:Chw7Qp@db.example:5432/mining")
    done = CliRunner().invoke(app, ["db", "status", *option])
    assert done.exit_code == 0
    assert "ann" in done.output
    assert "db.example:5432/mining" in done.output
    assert "Chw7Qp" not in done.output
