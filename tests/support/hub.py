"""A server that speaks as the Hugging Face Hub does."""

from __future__ import annotations

import hashlib
import json

from tests.support.http_server import Reply, Server

COMMIT = "a" * 40
MODEL = "birds/owl"
JSON = "application/json"
FILES = {"config.json": b"{}", "model.safetensors": b"numbers" * 100, "tokenizer.json": b"[1]"}


def publish(server: Server, files: dict[str, bytes]) -> None:
    """Have the server answer as the hub does for one model."""
    api = f"/api/models/{MODEL}"
    info = {"id": MODEL, "sha": COMMIT, "siblings": []}
    tree = [
        {
            "type": "file",
            "path": name,
            "size": len(body),
            "oid": hashlib.sha1(body, usedforsecurity=False).hexdigest(),
        }
        for name, body in files.items()
    ]
    for path, answer in ((f"{api}/revision/main", info), (f"{api}/tree/{COMMIT}", tree)):
        server.add(path, Reply(body=json.dumps(answer).encode(), content_type=JSON))
    for entry in tree:
        headers = {"ETag": f'"{entry["oid"]}"', "X-Repo-Commit": COMMIT}
        reply = Reply(body=files[str(entry["path"])], headers=headers)
        server.add(f"/{MODEL}/resolve/{COMMIT}/{entry['path']}", reply)
