"""Searches that are refused before anybody is asked."""

from __future__ import annotations

import pytest

from dataminer.config.models import ListFilters
from dataminer.ingest import search
from dataminer.ingest.parse import InputError

ANY = ListFilters()


@pytest.mark.parametrize("query", ["  \n", "a\0b", "\ud800", "x" * 5000])
def test_a_query_that_cannot_be_one_is_refused(query: str) -> None:
    with pytest.raises(InputError):
        search.search(query, ANY)
