"""Taking frames out of videos: ours against the usual ways, and against only decoding.

All contestants run on the same clips in the same round, one after the other, each in a process of
its own with the same number of threads: ours with images, metrics, hashes and table; a PyAV loop
that decodes every frame and saves with PIL's optimize=True; OpenCV; ffmpeg's fps filter to JPEG;
and ffmpeg that decodes and throws away. Beside them the floor of ours: the same plan decoded, and
nothing measured or written. Times of the Python programs are without starting Python, importing
libraries and what these set up on first use (a tiny clip goes first), unless the column says so;
those of ffmpeg are of the whole process.

CPU time is compared with one thread for each (--threads), wall time with those of a job that has
more (--wall-threads): there ours decodes and encodes at once. The PyAV loop takes the threads that
PyAV gives it unasked, as such loops do; "pil_loop_threads" is the same loop with all threads asked
for.

The path: extract, quality filter and dedup of ten videos, against the same job whose filter reads
every JPEG again with OpenCV and whose dedup does with imagehash; with the same extraction, and
with the PyAV loop.

The clips are made on the way (pans and zooms over photographs with noise, x264, VP9 and SVT-AV1;
minutes): --clips keeps them for the next time. Videos in --footage join them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dataminer  # noqa: F401 - as in a job, before the libraries whose threads it holds back

EXAMPLES = """
examples:
  python benchmarks/extract.py --clips /tmp/clips
  python benchmarks/extract.py --json --rounds 3 --footage ~/videos
  python benchmarks/extract.py --wall-threads 4 --only h264
"""
RATE, SECONDS = 25, 40
SHOTS = 8  # on average 5 s long; log-normal, as the lengths of films' shots are
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "mp4", {"preset": "medium", "crf": "23"}),
    "vp9": ("libvpx-vp9", "webm", {"cpu-used": "5", "crf": "33", "b": "0", "row-mt": "1"}),
    "av1": ("libsvtav1", "mp4", {"preset": "9", "crf": "35"}),
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "time_1s": {"every_seconds": 1.0},
    "time_10s": {"every_seconds": 10.0},
    "keyframe": {"strategy": "keyframe"},
}
PATH_CLIPS = 10

Measured = dict[str, float]


# ------------------------------------------------------------------------------------ the clips


def make_clips(folder: Path, only: str) -> dict[str, Path]:
    """Make the clips that are not there yet; their names begin with their codec."""
    clips = {}
    for (codec, (_, suffix, _)), size in itertools.product(CODECS.items(), SIZES):
        name = f"{codec}-{size}"
        if name.startswith(only):
            path = clips[name] = folder / f"{name}.{suffix}"
            if not path.exists():
                print(f"making {path.name}", file=sys.stderr)
                make_clip(path, codec, SIZES[size], moving_pictures(SIZES[size]))
    return clips


def make_tiny(path: Path) -> None:
    """Make a clip of two seconds for what libraries set up on first use."""
    import numpy as np

    rng = np.random.default_rng(0)
    size = 96, 64
    pictures = (rng.integers(0, 256, (*size[::-1], 3), np.uint8) for _ in range(2 * RATE))
    make_clip(path, "h264", size, pictures)


def footage(folder: Path | None, only: str) -> dict[str, Path]:
    """Return the videos of a folder by codec and name."""
    from dataminer.video.info import probe

    paths = sorted(folder.glob("*.mp4")) if folder else []
    named = {f"{probe(path).codec}-{path.stem}": path for path in paths}
    return {name: path for name, path in named.items() if name.startswith(only)}


def make_clip(path: Path, codec: str, size: tuple[int, int], pictures: Iterable[Any]) -> None:
    """Encode pictures, 25 a second."""
    import av

    encoder, _, options = CODECS[codec]
    partial = path.with_name(f"partial-{path.name}")
    with av.open(str(partial), "w") as output:
        stream: Any = output.add_stream(encoder, rate=RATE, options=options)
        stream.width, stream.height = size
        stream.pix_fmt, stream.gop_size = "yuv420p", 250
        stream.thread_type = "FRAME"  # PyAV's own choice has x264 cut each picture in slices
        for image in pictures:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    partial.replace(path)


def moving_pictures(size: tuple[int, int]) -> Iterator[Any]:
    """Move a camera over photographs, one a shot, with a little noise as of a sensor."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    photos = _photographs()
    noise = [rng.normal(0, 2.5, (size[1], size[0], 1)).astype(np.int8) for _ in range(7)]
    lengths = rng.lognormal(0, 0.5, SHOTS)
    cuts = np.round(np.cumsum(lengths) / lengths.sum() * RATE * SECONDS).astype(int)
    for index in range(RATE * SECONDS):
        shot = int(np.searchsorted(cuts, index, side="right"))
        begin = cuts[shot - 1] if shot else 0
        photo = photos[shot % len(photos)]
        part = (index - begin) / (cuts[shot] - begin)
        high, wide = photo.shape[:2]
        width = min(wide, high * size[0] / size[1]) * (0.85 - 0.25 * part)
        scale = size[0] / width
        left = (wide - width) * (0.2 + 0.5 * part)
        top = (high - width * size[1] / size[0]) * (0.7 - 0.4 * part)
        move = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        image = cv2.warpAffine(photo, move, size, flags=cv2.INTER_CUBIC)
        yield cv2.add(image, np.repeat(noise[index % 7], 3, 2).astype(np.int16), dtype=cv2.CV_8U)


def _photographs() -> list[Any]:
    import cv2
    import skimage

    folders = [Path(skimage.__file__).parent / "data"]
    try:
        import ultralytics

        folders.append(Path(ultralytics.__file__).parent / "assets")
    except ImportError:
        pass
    names = ("bus.jpg", "retina.jpg", "rocket.jpg", "zidane.jpg", "coffee.png", "chelsea.png")
    found = [folder / name for name in names for folder in folders if (folder / name).exists()]
    photographs = []
    for path in found:
        picture = cv2.imread(str(path))
        assert picture is not None
        photographs.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return photographs


# ------------------------------------------------------------------------------ the contestants


def ours(video: Path, out: Path, settings: dict[str, Any], threads: int) -> Callable[[], None]:
    """Extract with all that dataminer records."""
    from dataminer.config.models import ExtractConfig
    from dataminer.stages.extract.stage import extract

    config = ExtractConfig.model_validate(settings)
    return lambda: (extract(video, out, video.stem, config, threads=threads), None)[1]


def floor(video: Path, out: Path, settings: dict[str, Any], threads: int) -> Callable[[], None]:
    """Decode what the plan asks for, and throw it away: what ours cannot be faster than."""
    from dataminer.config.models import ExtractConfig
    from dataminer.stages.extract.encode import return_large_buffers
    from dataminer.stages.extract.passes import plan_frames
    from dataminer.stages.extract.planned_decode import configure_decoder, decode_planned
    from dataminer.stages.extract.selection.scan import scan_packets
    from dataminer.video.info import read_headers
    from dataminer.video.libav_messages import decoder_messages
    from dataminer.video.opening import open_video

    config = ExtractConfig.model_validate(settings)

    def run() -> None:
        return_large_buffers()
        with open_video(video, threads, fast_open=True) as (container, stream):
            info = read_headers(container, stream, video.stat().st_size)
            scan = scan_packets(container, stream, lambda: None)
            plan, _ = plan_frames(scan, stream, info, config)
            configure_decoder(stream, scan)
            if scan.cached_packets is None:
                raise SystemExit("the floor is measured on clips of up to 32 MB")
            cached = ((index, scan.cached_packets[index]) for index in plan.packets)
            with decoder_messages(stream) as messages:
                for _ in decode_planned(
                    cached, stream, scan, plan, check=lambda: None, messages=messages
                ):
                    pass

    return run


def pil_loop(video: Path, out: Path, settings: dict[str, Any], threads: int) -> Callable[[], None]:
    """Decode every frame and save one a second, as most programs do: as PyAV does it unasked."""
    return _loop(video, out, settings, 0)


def pil_loop_threads(
    video: Path, out: Path, settings: dict[str, Any], threads: int
) -> Callable[[], None]:
    """Do as :func:`pil_loop`, with the decoder told to use all threads."""
    return _loop(video, out, settings, threads)


def _loop(video: Path, out: Path, settings: dict[str, Any], threads: int) -> Callable[[], None]:
    import av

    def run() -> None:
        due = 0.0
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            if threads:
                stream.thread_type, stream.thread_count = "AUTO", threads
            for index, frame in enumerate(container.decode(stream)):
                if frame.time is not None and frame.time >= due:
                    due += settings["every_seconds"]
                    name = out / f"{video.stem}_{index:06d}.jpg"
                    frame.to_image().save(name, quality=95, optimize=True)

    return run


def opencv(video: Path, out: Path, settings: dict[str, Any], threads: int) -> Callable[[], None]:
    """Grab every frame with OpenCV, and retrieve and write one a second."""
    import cv2

    def run() -> None:
        cv2.setNumThreads(threads)
        capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
        every = max(1, round(capture.get(cv2.CAP_PROP_FPS) * settings["every_seconds"]))
        index = taken = 0
        while capture.grab():
            if index % every == 0:
                good, image = capture.retrieve()
                taken += good
                if good:
                    cv2.imwrite(str(out / f"{index:06d}.jpg"), image)
            index += 1
        if not taken:
            raise SystemExit("OpenCV gives no frame of this video")

    return run


CONTESTANTS = {
    "ours": ours,
    "floor": floor,
    "pil_loop": pil_loop,
    "pil_loop_threads": pil_loop_threads,
    "opencv": opencv,
}
OTHERS = ("pil_loop", "pil_loop_threads", "opencv")
FFMPEG = {
    "decode": ["-f", "null", "-"],
    "ffmpeg_jpeg": ["-vf", "fps=1", "-q:v", "2", "{out}/%06d.jpg"],
}


def measured(
    name: str, video: Path, tiny: Path, settings: dict[str, Any], threads: int
) -> Measured | None:
    """Run a contestant in a process of its own; None if it cannot decode the video."""
    with tempfile.TemporaryDirectory() as out:
        if name in FFMPEG:
            options = [option.format(out=out) for option in FFMPEG[name]]
            count = str(threads)
            command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", count, "-i", str(video)]
            return _process([*command, "-an", "-filter_threads", count, *options])
        request = json.dumps([name, str(video), str(tiny), out, settings, threads])
        return _process([sys.executable, __file__, "--worker", request])


def _process(command: list[str]) -> Measured | None:
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peak = ended = 0
    while not ended:  # not the kernel's ru_maxrss, which begins with what this process has
        peak = max(peak, _peak_kb(process.pid))
        time.sleep(0.02)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stdout is not None
    output = process.stdout.read()
    process.stdout.close()
    if process.returncode:
        return None
    whole = usage.ru_utime + usage.ru_stime
    found = {"cpu": whole, "wall": wall, "cpu_whole": whole, "mb": peak / 1024}
    return {**found, **(json.loads(output) if output else {})}


def _peak_kb(pid: int) -> int:
    """Return the most memory that a running process had; 0 when it has just ended."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def worker(request: str) -> None:
    """Do one contestant's work, and print what it took without start and imports."""
    name, video, tiny, out, settings, threads = json.loads(request)
    with tempfile.TemporaryDirectory() as elsewhere:
        CONTESTANTS[name](Path(tiny), Path(elsewhere), settings, threads)()
    run = CONTESTANTS[name](Path(video), Path(out), settings, threads)
    took: Measured = {}
    with clocked(took):
        run()
    print(json.dumps(took))


@contextmanager
def clocked(took: Measured) -> Iterator[None]:
    """Add the CPU and wall time of what is done within."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    took["cpu"] = took.get("cpu", 0.0) + time.process_time() - cpu
    took["wall"] = took.get("wall", 0.0) + time.perf_counter() - wall


def compare(
    clips: dict[str, Path], tiny: Path, rounds: int, threads: int, wall_threads: int
) -> dict[str, Any]:
    """Measure everyone on every clip, in turns.

    Parameters
    ----------
    clips : dict of str to Path
        By codec and name.
    tiny : Path
        What each contestant written in Python does first, uncounted.
    rounds : int
        How often.
    threads, wall_threads : int
        Of each contestant; the second for those whose label ends in ``_wall``.

    Returns
    -------
    dict
        For each clip and contestant (ours: for each strategy), the ratios to ``decode`` with as
        many threads, for CPU and wall time, the peak memory in MB and CPU seconds: of the least
        times of all rounds, because what else runs on the machine only adds to them.
    """
    others = (*FFMPEG, *OTHERS)
    runs = [(name, name, "time_1s", threads) for name in others]
    runs += [
        (f"{name}_{key}", name, key, threads) for name in ("ours", "floor") for key in STRATEGIES
    ]
    runs += [(f"{name}_wall", name, "time_1s", wall_threads) for name in (*others, "ours")]
    table: dict[str, Any] = {clip: {label: [] for label, *_ in runs} for clip in clips}
    for number, (clip, path) in itertools.product(range(rounds), clips.items()):
        print(f"round {number + 1}: {clip}", file=sys.stderr)
        for label, name, strategy, count in runs:
            found = measured(name, path, tiny, STRATEGIES[strategy], count)
            if found:
                table[clip][label].append(found)
    return {clip: _ratios(row) for clip, row in table.items()}


def _ratios(row: dict[str, list[Measured]]) -> dict[str, Measured]:
    times = ("cpu", "wall", "cpu_whole")
    least = {
        label: {key: min(run[key] for run in found) for key in times}
        for label, found in row.items()
        if found
    }
    ratios = {}
    for label, took in least.items():
        base = least["decode_wall" if label.endswith("_wall") else "decode"]
        peak = max(run["mb"] for run in row[label])
        ratios[label] = {
            **{key: took[key] / base[key] for key in times},
            "mb": peak,
            "cpu_s": took["cpu"],
        }
    return ratios


def figures(table: dict[str, Any]) -> dict[str, float]:
    """Reduce a table of :func:`compare` to the figures that are watched."""

    def ratio(label: str, key: str, codec: str) -> float:
        return _mean(row[label][key] for clip, row in table.items() if clip.startswith(codec))

    found = {}
    for codec in CODECS:
        if not any(clip.startswith(codec) for clip in table):
            continue
        suffix = "" if codec == "h264" else f"_{codec}"
        for strategy in STRATEGIES:
            found[f"{strategy}{suffix}_vs_decode_cpu"] = ratio(f"ours_{strategy}", "cpu", codec)
            least = ratio(f"floor_{strategy}", "cpu", codec)
            found[f"{strategy}{suffix}_floor_vs_decode_cpu"] = least
        found[f"time_1s{suffix}_whole_process_vs_decode_cpu"] = ratio(
            "ours_time_1s", "cpu_whole", codec
        )
        for other in (*OTHERS, "ffmpeg_jpeg"):
            for kind, there, here in (
                ("cpu", other, "ours_time_1s"),
                ("wall", f"{other}_wall", "ours_wall"),
            ):
                rows = [
                    row for clip, row in table.items() if clip.startswith(codec) and there in row
                ]
                if rows:
                    found[f"time_1s{suffix}_vs_{other}_{kind}"] = _mean(
                        row[there][kind] / row[here][kind] for row in rows
                    )
    found["peak_mb"] = max(row["ours_time_1s"]["mb"] for row in table.values())
    return found


def _mean(ratios: Iterable[float]) -> float:
    """Return the geometric mean."""
    logarithms = [math.log(ratio) for ratio in ratios]
    return math.exp(math.fsum(logarithms) / len(logarithms))


# ------------------------------------------------------------------------------------- the path


def path_ratios(clips: dict[str, Path], rounds: int) -> dict[str, float]:
    """Return the CPU time of extract, filter and dedup against doing it with re-reading.

    ``path_reread_extraction_share`` is what the extraction takes of the other side where both
    have ours: the ratio there would be if measuring, filter and dedup cost nothing.
    """
    videos = dict(zip((f"v{i}" for i in range(PATH_CLIPS)), itertools.cycle(clips.values())))
    ours_took: list[float] = []
    extractions: dict[str, list[float]] = {}
    wholes: dict[str, list[float]] = {}
    warm = dict(list(videos.items())[-1:])  # what libraries load on first use is not counted
    _path_of_ours(warm)
    _path_with_rereading(warm)
    for _ in range(rounds):
        ours_took.append(_path_of_ours(videos))
        for name, (extraction, whole) in _path_with_rereading(videos).items():
            extractions.setdefault(name, []).append(extraction)
            wholes.setdefault(name, []).append(whole)
    found = {}
    for name, took in wholes.items():
        found[f"path_vs_{name}_cpu"] = min(ours_took) / min(took)
        found[f"path_{name}_extraction_share"] = min(extractions[name]) / min(took)
    return found


def _path_of_ours(videos: dict[str, Path]) -> float:
    from dataminer.config.models import DedupConfig, ExtractConfig, FilterConfig
    from dataminer.stages.dedup.stage import dedup
    from dataminer.stages.extract.stage import extract
    from dataminer.stages.filter.stage import filter_frames

    took: Measured = {}
    with tempfile.TemporaryDirectory() as folder, clocked(took):
        base = Path(folder)
        for name, video in videos.items():
            frames, passed = _folders(base, name)
            extract(video, frames, name, ExtractConfig())
            filter_frames(frames, passed, FilterConfig())
        (base / "dedup").mkdir()
        dedup([base / f"{name}-passed" for name in videos], base / "dedup", DedupConfig())
    return took["cpu"]


def _folders(base: Path, name: str) -> tuple[Path, Path]:
    frames, passed = base / name, base / f"{name}-passed"
    frames.mkdir()
    passed.mkdir()
    return frames, passed


def _path_with_rereading(videos: dict[str, Path]) -> dict[str, tuple[float, float]]:
    """Time the usual filter and dedup behind our own extraction, and behind the PyAV loop.

    Returns
    -------
    dict
        CPU seconds of the extraction alone, and of all.
    """
    times = {}
    for name, extraction in (("reread", _images_of_ours), ("usual", _images_of_loop)):
        took: Measured = {}
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            for video in videos:
                _folders(base, video)
            with clocked(took):
                for video, path in videos.items():
                    extraction(path, base / video)
            extracted = took["cpu"]
            with clocked(took):
                _usual_filter_and_dedup(base, videos)
        times[name] = extracted, took["cpu"]
    return times


def _images_of_ours(video: Path, out: Path) -> None:
    """Extract as we do, without the time that measuring takes."""
    from unittest import mock

    import numpy as np

    from dataminer.config.models import ExtractConfig
    from dataminer.stages.extract import encode
    from dataminer.stages.extract.quality.metrics import measure
    from dataminer.stages.extract.stage import extract

    always = measure(np.zeros((8, 8, 3), np.uint8))
    with mock.patch.object(encode, "measure", lambda image: always):
        extract(video, out, video.stem, ExtractConfig())


def _images_of_loop(video: Path, out: Path) -> None:
    _loop(video, out, STRATEGIES["time_1s"], 1)()


def _usual_filter_and_dedup(base: Path, videos: dict[str, Path]) -> None:
    """Filter by OpenCV and dedup by imagehash, each from the JPEGs."""
    import cv2
    import imagehash
    import numpy as np
    from PIL import Image

    from dataminer.stages.dedup.representatives import representatives_of_hashes

    kept = []
    for name in videos:
        for path in sorted((base / name).glob("*.jpg")):
            image = cv2.imread(str(path))
            assert image is not None
            grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            sharp, mean = cv2.Laplacian(grey, cv2.CV_64F).var(), grey.mean()
            if sharp > 10 and 12 < mean < 247 and grey.std() > 5:
                os.link(path, base / f"{name}-passed" / path.name)
                kept.append((float(sharp), base / f"{name}-passed" / path.name))
    hashes = [int(str(imagehash.phash(Image.open(path))), 16) for _, path in kept]
    bits = np.array(hashes, np.uint64)
    order = np.argsort([-sharp for sharp, _ in kept], kind="stable")
    representatives_of_hashes(bits, order, 8)


# ------------------------------------------------------------------------------------- printing


def main() -> None:
    """Make the clips, measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the fastest one counts")
    parser.add_argument("--threads", type=int, default=1, help="of each contestant")
    parser.add_argument(
        "--wall-threads", type=int, default=2, help="the same, if wall time is compared"
    )
    parser.add_argument(
        "--only", default="", help="only clips whose name begins with this, such as h264"
    )
    parser.add_argument("--clips", type=Path, help="keep the made clips in this folder")
    parser.add_argument("--footage", type=Path, help="a folder with MP4 files to join them")
    parser.add_argument("--no-path", action="store_true", help="leave filter and dedup out")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.clips or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        clips = make_clips(folder, options.only) | footage(options.footage, options.only)
        tiny = folder / "tiny.mp4"
        make_tiny(tiny)
        table = compare(clips, tiny, options.rounds, options.threads, options.wall_threads)
        found = figures(table)
        if not options.no_path:
            found |= path_ratios(clips, options.rounds)
    if options.json:
        print(json.dumps({key: float(f"{value:.3g}") for key, value in found.items()}))
        return
    for clip, row in table.items():
        for label, ratios in row.items():
            shown = "  ".join(f"{key} {value:7.3g}" for key, value in ratios.items())
            print(f"{clip:24} {label:16} {shown}")
    for key, value in found.items():
        print(f"{key:48} {value:.3g}")


if __name__ == "__main__":
    main()
