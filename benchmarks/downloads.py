"""Downloads beside video2dataset's: a server of links, the peer, and its environment.

`pipeline.py --peers` uses it; by itself it does nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# pyarrow's later versions lack what its writers call, numpy's what its readers do
PEER = ["video2dataset==1.3.0", "numpy<2", "pyarrow<15"]
ENVIRONMENT = Path("~/.cache/dataminer-benchmarks/video2dataset-1.3.0").expanduser()
COUNTS = "/counts"
# its default configuration, but for the processes: 16 of them take four times as long here, and two
# half as long again, as each loads PyTorch
SETTINGS: dict[str, Any] = {
    "subsampling": {},
    "reading": {
        "yt_args": {
            "download_size": 360,
            "download_audio_rate": 44100,
            "yt_metadata_args": None,
        },
        "timeout": 60,
        "sampler": None,
    },
    "storage": {
        "number_sample_per_shard": 1000,
        "oom_shard_count": 5,
        "captions_are_subtitles": False,
    },
    "distribution": {
        "processes_count": 1,
        "thread_count": 32,
        "subjob_size": 1000,
        "distributor": "multiprocessing",
    },
}
CALL = """
import json, sys
from video2dataset import video2dataset

if __name__ == "__main__":
    video2dataset(**json.loads(sys.argv[1]))
"""


class Loopback:
    """A server of the files in a folder, in a process of its own.

    Parameters
    ----------
    port : int
        Of 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def links(self, files: list[Path]) -> list[str]:
        """Return the links to files."""
        return [f"http://127.0.0.1:{self.port}/{file.name}" for file in files]

    def sent(self) -> tuple[int, int]:
        """Return how many bytes of files it has sent, and how many requests it has answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", COUNTS)
        counts = json.loads(connection.getresponse().read())
        connection.close()
        return counts["bytes"], counts["requests"]


@contextmanager
def loopback(folder: Path) -> Iterator[Loopback]:
    """Serve the files of a folder for the time."""
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield Loopback(int(process.stdout.readline()))
        finally:
            process.kill()


def serve(folder: Path) -> None:
    """Serve the files of a folder until killed; print the port."""
    counts = {"bytes": 0, "requests": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == COUNTS:
                self._head(len(body := json.dumps(counts).encode()), "application/json")
                self.wfile.write(body)
                return
            counts["requests"] += 1
            with (folder / Path(self.path).name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                self._head(size, "video/mp4")
                self.wfile.flush()
                with suppress(OSError):  # the reader has enough
                    self._body(file.fileno(), size)

        def _head(self, size: int, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(size))
            self.end_headers()

        def _body(self, file: int, size: int) -> None:
            done = 0
            while done < size:
                done += (part := os.sendfile(self.connection.fileno(), file, done, 1 << 16))
                counts["bytes"] += part

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 512

    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


@dataclass(frozen=True)
class Peer:
    """video2dataset in an environment of its own.

    Parameters
    ----------
    python : Path
        Of that environment.
    """

    python: Path

    @classmethod
    def installed(cls) -> Peer:
        """Install it, which takes minutes and 5 GB, unless it is there."""
        python = ENVIRONMENT / "bin" / "python"
        if not (ENVIRONMENT / "installed").exists():
            print(f"installing {PEER[0]} in {ENVIRONMENT}", file=sys.stderr, flush=True)
            venv.create(ENVIRONMENT, with_pip=True, clear=True)
            command = [str(python), "-m", "pip", "install", "--quiet", *PEER]
            subprocess.run(command, check=True, stdout=sys.stderr)
            (ENVIRONMENT / "installed").touch()
        return cls(python)

    def command(self, links: list[str], folder: Path) -> list[str]:
        """Return the command that downloads links into a folder."""
        listed = folder / "links.csv"
        listed.write_text("\n".join(["url", *links]) + "\n")
        (folder / "call.py").write_text(CALL)
        call = {
            "url_list": str(listed),
            "output_folder": str(folder / "out"),
            "output_format": "files",
            "input_format": "csv",
            "url_col": "url",
            "config": SETTINGS,
        }
        return [str(self.python), str(folder / "call.py"), json.dumps(call)]


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
