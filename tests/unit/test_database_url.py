"""Which databases a URL may name."""

from __future__ import annotations

import pytest

from dataminer.errors import DatabaseError
from dataminer.monitor import status


@pytest.mark.parametrize("url", ["mysql://u@h/d", "sqlite:///x.db", "just words"])
def test_other_databases_are_refused(monkeypatch, url):
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(DatabaseError, match="works with PostgreSQL only"):
        status.snapshot()
