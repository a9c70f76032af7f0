"""Signatures in links: parameters that grant access for a while, but do not change the object."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_AZURE = (
    "ss srt sp se st spr sip si sr sdd ses scid saoid suoid sduoid"
    " skoid sktid skt ske sks skv skdutid rscc rscd rsce rscl rsct"
)
_OSS = "signature-version credential date expires security-token additional-headers"
# For each way to sign: whether names are case-sensitive, the parameters that are required, and
# those that may be added. MinIO, Backblaze, Cloudflare R2 and Wasabi sign like S3. Parameters that
# select something else, such as `versionId` and `x-oss-process`, are not part of a signature.
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
# headers of the answer: only a signed request may set them
_ANSWER = re.compile(
    "response-(cache-control|content-(disposition|encoding|language|type)|expires)", re.IGNORECASE
)

# when it was signed or, if the link does not contain that, when it expires
_TIME = re.compile(
    r"[?&](x-(?:amz|goog|oss)-date|expires|se|q-sign-time)=(\d[\w.:%-]*)", re.IGNORECASE
)


def is_signed_earlier(url: str, other: str) -> bool:
    """Return whether the signature of a link is older than that of another, if both have a time."""
    (name, time), (other_name, other_time) = map(_time, (url, other))
    return name == other_name and time < other_time


def _time(url: str) -> tuple[str, str]:
    found = _TIME.search(url)
    return (found[1].lower(), found[2]) if found else ("", "")


def unsigned(url: str) -> str:
    """Return a link without its signature, if it has one.

    Links that are equal without their signatures lead to the same object.

    Raises
    ------
    ValueError
        If it is not a link.
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
