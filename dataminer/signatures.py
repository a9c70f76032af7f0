"""Signatures in links: parameters that let somebody in for a while, and name no other object."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_AZURE = (
    "ss srt sp se st spr sip si sr sdd ses scid saoid suoid sduoid"
    " skoid sktid skt ske sks skv skdutid rscc rscd rsce rscl rsct"
)
_OSS = "signature-version credential date expires security-token additional-headers"
# For each way to sign: whether case counts in its names, those without which there is no signature,
# and what else belongs to one. MinIO, Backblaze, Cloudflare R2 and Wasabi sign as S3 does. What
# asks for something else, such as `versionId` and `x-oss-process`, belongs to none.
_SIGNATURES = [
    (
        [re.compile(name, 0 if case_counts else re.IGNORECASE) for name in needed.split()],
        re.compile("|".join([*needed.split(), *more.split()]), 0 if case_counts else re.IGNORECASE),
    )
    for case_counts, needed, more in [
        (False, "x-amz-signature", "x-amz-.+ x-id"),  # S3, version 4
        (True, "AWSAccessKeyId Signature Expires", "[Xx]-[Aa]mz-.+"),  # version 2
        (True, "Key-Pair-Id Signature Expires|Policy", "Hash-Algorithm"),  # CloudFront
        (False, "x-goog-signature", "x-goog-.+"),  # Google, version 4
        (True, "GoogleAccessId Signature Expires", ""),  # version 2
        (True, "KeyName Signature Expires", "URLPrefix"),  # its CDNs
        (False, "sv sig se|si sr|ss", _AZURE),
        (False, "x-oss-signature", re.sub(r"(\S+)", r"x-oss-\1", _OSS)),  # Alibaba, version 4
        (True, "OSSAccessKeyId Signature Expires", "security-token"),  # version 1
        (
            True,  # Tencent
            "q-ak q-signature",
            "q-sign-algorithm q-sign-time q-key-time q-header-list q-url-param-list"
            " x-cos-security-token",
        ),
    ]
]
# headers of the answer, which only a signed request may choose
_ANSWER = re.compile(
    "response-(cache-control|content-(disposition|encoding|language|type)|expires)", re.IGNORECASE
)

# when it was signed or, if a link does not say, until when it holds
_TIME = re.compile(
    r"[?&](x-(?:amz|goog|oss)-date|expires|se|q-sign-time)=(\d[\w.:%-]*)", re.IGNORECASE
)


def is_older(url: str, other: str) -> bool:
    """Tell whether the signature of a link was made before that of another, if both tell."""
    (name, time), (other_name, other_time) = map(_time, (url, other))
    return name == other_name and time < other_time


def _time(url: str) -> tuple[str, str]:
    found = _TIME.search(url)
    return (found[1].lower(), found[2]) if found else ("", "")


def unsigned(url: str) -> str:
    """Return a link without its signature; one that has none as it is.

    Links that are the same without their signatures lead to the same object.

    Raises
    ------
    ValueError
        It is no link.
    """
    parts = urlsplit(url)
    items = parts.query.split("&")
    names = [item.partition("=")[0] for item in items]
    own = [
        parameters
        for needed, parameters in _SIGNATURES
        if all(any(map(pattern.fullmatch, names)) for pattern in needed)
    ]
    if not own:
        return url
    own.append(_ANSWER)
    left = (
        item
        for item, name in zip(items, names, strict=True)
        if not any(pattern.fullmatch(name) for pattern in own)
    )
    return urlunsplit(parts._replace(query="&".join(left)))
