"""Which errors say that a site refuses requests."""

from __future__ import annotations

from dataminer.errors import ErrorClass, TransientError
from dataminer.sync.rate_limit import shared


def test_refusals_of_extractors_are_told_from_other_errors() -> None:
    def of(message: str, kind: ErrorClass) -> bool:
        return shared.is_refusal(TransientError(message, kind))

    assert of("Sign in to confirm you're not a bot", ErrorClass.BOT_CHECK)
    assert of("You've been rate-limited", ErrorClass.RATE_LIMIT)
    assert not of("HTTP Error 401: Unauthorized", ErrorClass.BLOCKED)
    assert not of("connection refused", ErrorClass.NETWORK)
