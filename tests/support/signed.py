"""Links with a signature of each service that is known, none of them real."""

from __future__ import annotations

SIGNATURES = {
    "s3": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK{0}%2F20240101%2Feu-west-1%2Fs3"
    "%2Faws4_request&X-Amz-Date=2024010{0}T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
    "&X-Amz-Security-Token=t{0}&x-id=GetObject&X-Amz-Signature=s{0}",
    "s3-lower": "x-amz-algorithm=AWS4-HMAC-SHA256&x-amz-date=2024010{0}T0Z&x-amz-signature=s{0}",
    "s3-v2": "AWSAccessKeyId=A{0}&Signature=s{0}%3D&Expires=170000000{0}&x-amz-security-token=t{0}",
    "cloudfront": "Expires=170000000{0}&Signature=s{0}__&Key-Pair-Id=K{0}",
    "cloudfront-policy": "Policy=p{0}&Signature=s{0}__&Key-Pair-Id=K{0}",
    "google": "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=c{0}&X-Goog-Date=2024010{0}T0Z"
    "&X-Goog-Expires=60&X-Goog-SignedHeaders=host&X-Goog-Signature=s{0}",
    "google-v2": "GoogleAccessId=me%40x.iam&Expires=170000000{0}&Signature=s{0}%3D",
    "google-cdn": "Expires=170000000{0}&KeyName=k{0}&Signature=s{0}%3D",
    "azure": "sv=2023-11-03&st=2024-01-0{0}&se=2024-02-0{0}&sr=b&sp=r&spr=https&sip=1.2.3.{0}"
    "&rscd=inline&sig=s{0}%3D",
    "azure-account": "sv=2023-11-03&ss=b&srt=o&sp=r&se=2024-02-0{0}&sig=s{0}",
    "azure-user": "skoid=o{0}&sktid=t{0}&skt=2024&ske=2025&sks=b&skv=2023-11-03&sv=2023-11-03"
    "&SE=2024-02-0{0}&sr=b&sp=r&sig=s{0}",
    "alibaba": "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=c{0}&x-oss-date=d{0}"
    "&x-oss-expires=60&x-oss-additional-headers=host&x-oss-signature=s{0}",
    "alibaba-v1": "OSSAccessKeyId=a{0}&Expires=170000000{0}&Signature=s{0}&security-token=t{0}",
    "tencent": "q-sign-algorithm=sha1&q-ak=a{0}&q-sign-time=1{0}%3B2&q-key-time=1{0}%3B2"
    "&q-header-list=host&q-url-param-list=&q-signature=s{0}&x-cos-security-token=t{0}",
}


def signed(link: str, number: int, service: str = "s3") -> str:
    """Return a link with the signature of this number."""
    return f"{link}{'&' if '?' in link else '?'}{SIGNATURES[service].format(number)}"
