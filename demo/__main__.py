"""Mine the demo's dataset as a user would, and print a score."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dataminer.errors import DataminerError
from dataminer.files.hashing import sha256_file
from dataminer.files.publishing import atomic_write
from dataminer.formats.contact_sheet import contact_sheet
from demo.clips import TRUTH_FILE, make_clips
from demo.score import Score, score

FOLDER = Path("demo")
CONFIG = FOLDER / "config.yaml"
VIDEOS = FOLDER / "videos"
WEIGHTS = FOLDER / "shapes.pt"
PROJECT = Path("data/projects/demo")
SHEET = PROJECT / "report" / "contact_sheet.jpg"

COMMANDS = (
    ["dataminer", "populate", "--config", str(CONFIG)],
    ["snakemake", "-c2", "--configfile", str(CONFIG)],
    ["dataminer", "status"],
)


def main(arguments: Sequence[str]) -> int:
    """Run the demo from the repository's root.

    Parameters
    ----------
    arguments : sequence of str
        Of the command line; there are none but ``--help``.

    Returns
    -------
    int
        0 if everything planted was found as expected, 1 if not; or the status of a failed command.
    """
    argparse.ArgumentParser("python -m demo", description=__doc__).parse_args(arguments)
    os.chdir(Path(__file__).resolve().parents[1])
    try:
        prepare()
    except DataminerError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    for command in COMMANDS:
        status = run(command)
        if status:
            print(f"demo: `{shlex.join(command)}` ended with status {status}", file=sys.stderr)
            return status
    result = score(PROJECT, VIDEOS / TRUTH_FILE)
    if not SHEET.is_file():  # rule detect draws it
        contact_sheet(PROJECT / "detect", SHEET)
    report(result)
    return 0 if result.good else 1


def prepare() -> None:
    """Draw the videos and train the detector, unless the same scripts have already done so."""
    _made(VIDEOS / TRUTH_FILE, ["shapes.py", "clips.py"], "drawing five videos", _draw_clips)
    _made(WEIGHTS, ["shapes.py", "detector.py"], "training a detector", _train)


def _draw_clips(_: Path) -> None:
    make_clips(VIDEOS)


def _train(weights: Path) -> None:
    from demo.detector import train  # imports torch, which takes seconds

    train(weights, progress=_report)


def _made(path: Path, scripts: list[str], doing: str, make: Callable[[Path], None]) -> None:
    """Make a file unless the same scripts have already made it."""
    note = FOLDER / f".stamp-{path.name}"
    content = "".join(f"{sha256_file(FOLDER / script)} {script}\n" for script in scripts)
    if path.is_file() and note.is_file() and note.read_text() == content:
        return
    _report(f"{doing} ...")
    make(path)
    with atomic_write(note) as partial:
        partial.write_text(content)


def run(command: list[str]) -> int:
    """Print a command as a user would type it, run it, and return its exit status."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    beside = Path(sys.executable).with_name(command[0])
    program = str(beside) if beside.is_file() else command[0]
    # so that programs beside these are found too, even if no environment is active
    path = f"{beside.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        return subprocess.run([program, *command[1:]], env={**os.environ, "PATH": path}).returncode
    except FileNotFoundError:
        print(f"demo: there is no `{command[0]}` beside {sys.executable}", file=sys.stderr)
        return 127


def report(result: Score) -> None:
    """Print the score, where the results are, and what to try next."""
    verdict = "all as planted" if result.good else "NOT as planted, see above"
    print(f"\n{result}\n{verdict}\n")
    print(f"dataset        {PROJECT / 'detect' / 'annotations.json'}   (COCO; YOLO: data.yaml)")
    print(f"contact sheet  {SHEET}")
    print(f"report         {PROJECT / 'report' / 'index.html'}")
    print("database       dataminer db stop ends it; it starts by itself when it is needed")
    print("\nYour own videos, with a published model:")
    for command in next_commands():
        print(f"  {command}")


def next_commands() -> Iterator[str]:
    """Yield the commands that mine a user's own videos."""
    activate = Path(sys.prefix, "bin", "activate")
    if activate.is_file() and "VIRTUAL_ENV" not in os.environ:  # `make demo` does not activate it
        yield f"source {shlex.quote(os.path.relpath(activate))}"
    yield "dataminer add-video PATH_OR_URL --project mine"
    yield "snakemake -c2 --config project=mine 'detect={model: yolo26n.pt}'"


def _report(line: str) -> None:
    print(f"demo: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
