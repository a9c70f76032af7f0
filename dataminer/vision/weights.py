"""Finding, fetching and loading the weights of a detector; the only door to ultralytics."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import importlib
import logging
import os
import shutil
import socket
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataminer.errors import ConfigError, DataminerError, ErrorClass, PermanentError, TransientError
from dataminer.files.hashing import sha256_file
from dataminer.files.publishing import atomic_write
from dataminer.process import how_to_install
from dataminer.vision import hub, only_data
from dataminer.vision.hub import MODELS_FOLDER

_PUBLISHER = ("github.com", 443)
_CONNECT_SECONDS = 5.0
_NAME_LENGTH = 200  # that of prompts
_TASKS = ("detect", "segment", "pose")  # the tasks whose results have upright boxes


def weights_path(model: str, folder: Path = MODELS_FOLDER) -> Path:
    """Say where the weights that ``detect.model`` names lie, or will lie once fetched.

    Parameters
    ----------
    model : str
        A path to a weights file or to a model's folder, a bare file name such as ``yolo26n.pt``, or
        a model of the Hugging Face Hub, ``owner/name``.
    folder : Path
        Where fetched weights are kept.

    Returns
    -------
    Path
        ``model`` itself if there is such a file or folder; else its place in ``folder``, whether it
        is there already or not.

    Raises
    ------
    ConfigError
        ``model`` is a path, and nothing is there.
    """
    path = Path(model)
    if path.is_file() or hub.is_model_folder(path):
        return path
    if hub.is_hub_id(model):
        return hub.snapshot_folder(model, folder)
    if path.name == model and path.name not in ("", ".", ".."):
        return folder / model
    raise ConfigError(
        f"detect.model: there is no file {model}",
        f"put the weights there, or give a bare name such as yolo26n.pt to have it in {folder}/",
    )


def fetch(model: str, folder: Path = MODELS_FOLDER, *, progress: bool = False) -> Path:
    """Return the weights' path, downloading published ones that are not there yet.

    Parameters
    ----------
    model : str
        As for :func:`weights_path`.
    folder : Path
        Where the file shall appear, whole or not at all.
    progress : bool
        Whether to show on stderr how far the download is.

    Returns
    -------
    Path
        An existing file, or a folder with a model of the Hugging Face Hub.

    Raises
    ------
    ConfigError
        The name is not one that is published, or ``model`` is a path to nothing.
    TransientError
        The download failed; it is tried once, without waiting.
    """
    if hub.is_hub_id(model):
        return hub.fetch_snapshot(model, folder, progress=progress)
    target = to_fetch(model, folder)
    if not is_there(target):
        with quiet_ultralytics(offline=False):
            _download(model, target, progress)
    return target


def to_fetch(model: str, folder: Path = MODELS_FOLDER) -> Path:
    """Return the weights' path, having made sure that they are there or may be fetched.

    Raises
    ------
    ConfigError
        There is no such file, and ultralytics publishes none of that name. What the Hugging Face
        Hub has is known only when it is asked.
    """
    target = weights_path(model, folder)
    if is_there(target) or hub.is_hub_id(model):
        return target
    with quiet_ultralytics():
        from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES
    if model not in GITHUB_ASSETS_NAMES:
        message = f"detect.model: ultralytics publishes no weights named {model}"
        raise ConfigError(message, _ways_out(target))
    return target


def is_there(weights: Path) -> bool:
    """Tell whether there is a weights file, or a folder that a model can be loaded from."""
    return weights.is_file() or hub.is_model_folder(weights)


def file_of(weights: Path, model: str) -> Path:
    """Return the file that stands for weights where one must: of a folder its ``config.json``.

    Parameters
    ----------
    weights : Path
        From :func:`weights_path`; there or not.
    model : str
        The name that it was given.
    """
    is_folder = weights.is_dir() or hub.is_hub_id(model)
    return weights / hub.CONFIG_FILE if is_folder else weights


def model_of(file: Path) -> Path:
    """Return the weights that a file stands for, the inverse of :func:`file_of`."""
    return file.parent if file.name == hub.CONFIG_FILE else file


def fetch_file(file: Path) -> None:
    """Fetch the weights that a file stands for, as :func:`fetch` does; named as they are there."""
    weights = model_of(file)
    name = weights.name if weights == file else hub.id_of(weights)
    fetch(name, weights.parent)


def weights_sha256(weights: Path) -> str:
    """Return the SHA-256 of a weights file, or that of a list of the files of a model's folder.

    Raises
    ------
    PermanentError
        Neither is there.
    """
    if not is_there(weights):
        what = f"{hub.CONFIG_FILE} in" if weights.is_dir() else "weights file"
        raise PermanentError(
            f"there is no {what} {weights}",
            ErrorClass.MODEL,
            "put it there, or set detect.model to what exists",
        )
    return hub.folder_sha256(weights) if weights.is_dir() else sha256_file(weights)


def _ways_out(target: Path) -> str:
    return f"put the weights file at {target}, or set detect.model to the path of one"


def _download(name: str, target: Path, progress: bool) -> None:
    from ultralytics.utils.downloads import attempt_download_asset

    # not beside the target: ultralytics takes quotation marks out of the paths it is given
    with tempfile.TemporaryDirectory(prefix="dataminer-weights-") as folder:
        fetched = Path(folder, name)
        try:
            _check_network()
            with stdout_to_stderr():
                attempt_download_asset(fetched, retry=0, progress=progress)
        except (OSError, MemoryError) as error:
            reason = "this machine seems to be offline" if _offline(error) else _first_line(error)
            raise TransientError(
                f"cannot download {name}: {reason}",
                ErrorClass.NETWORK,
                f"{_ways_out(target)}, or try again with a network",
            ) from error
        with atomic_write(target) as partial:
            shutil.copyfile(fetched, partial)


def _check_network() -> None:
    """Find out in seconds what the download's own time limit tells after half a minute."""
    if not urllib.request.getproxies().get("https"):
        socket.create_connection(_PUBLISHER, timeout=_CONNECT_SECONDS).close()


def _offline(error: BaseException) -> bool:
    no_route = isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    return no_route or "offline" in str(error) or isinstance(error, (socket.gaierror, TimeoutError))


def load_model(weights: Path) -> Any:
    """Load a detector without running code that its file may carry, or not at all.

    Parameters
    ----------
    weights : Path
        A ``.pt`` file of ultralytics.

    Returns
    -------
    ultralytics.YOLO
        The model; use it within :func:`quiet_ultralytics`.

    Raises
    ------
    PermanentError
        It is not such a file, needs code of its own, or its model finds no boxes.
    TransientError
        The installed versions cannot load it without running code.
    """
    if weights.suffix != ".pt":
        raise PermanentError(f"{weights} is not a .pt weights file", ErrorClass.MODEL)
    ultralytics: Any = importlib.import_module("ultralytics")  # it has no types
    try:
        with stdout_to_stderr(), only_data.loading(weights):
            model = ultralytics.YOLO(weights)
    except DataminerError:
        raise
    except Exception as error:  # whatever a damaged or foreign file makes torch and pickle raise
        raise PermanentError(
            f"cannot load the weights {weights}: {_first_line(error)}",
            ErrorClass.MODEL,
            only_data.WAYS_OUT,
        ) from error
    if model.task not in _TASKS:
        raise PermanentError(
            f"{weights} is a model to {str(model.task)[:80]}, which draws no boxes",
            ErrorClass.MODEL,
        )
    wrong = _wrong_with(model)
    if wrong:
        message = f"cannot use the weights {weights}: {wrong}"
        raise PermanentError(message, ErrorClass.MODEL, only_data.WAYS_OUT)
    return model


def class_names(model: Any) -> list[str]:
    """Return the classes of what :func:`load_model` gave, in the order of their numbers."""
    return [name for _, name in sorted(model.names.items())]


def _wrong_with(model: Any) -> str | None:
    """Say what a model would fail on only as it looks at a picture."""
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")
    kinds = {"segment": tasks.SegmentationModel, "pose": tasks.PoseModel}
    if not isinstance(model.model, kinds.get(model.task, tasks.DetectionModel)):
        return f"a {type(model.model).__name__} is no model to {model.task}"
    try:
        names = model.names
        if set(names) == {*range(len(names))} and max(map(len, names.values())) <= _NAME_LENGTH:
            return None
    except Exception:  # whatever a damaged file has in place of names
        pass
    return f"its classes are not named 0, 1, 2, … in at most {_NAME_LENGTH} letters"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    return line.encode("ascii", "ignore").decode().replace("ERROR ", "").strip()[:200]


@contextlib.contextmanager
def quiet_ultralytics(*, offline: bool = True) -> Iterator[None]:
    """Let ultralytics work without touching the network, the environment or the user's settings.

    Parameters
    ----------
    offline : bool
        Tell it that there is no network, which also spares a look-up at import.
    """
    with _environment(
        YOLO_OFFLINE="1" if offline else None,
        CUBLAS_WORKSPACE_CONFIG=None,
        **only_data.ENVIRONMENT,
    ):
        _import_ultralytics()
        yield


def stdout_to_stderr() -> contextlib.AbstractContextManager[Any]:
    """Keep a library's prints out of stdout, which belongs to a command's result."""
    return contextlib.redirect_stdout(sys.stderr)


@functools.cache
def _import_ultralytics() -> None:
    """Import ultralytics in a way that leaves this process's environment as it was."""
    settings = tempfile.mkdtemp(prefix="dataminer-ultralytics-")
    atexit.register(shutil.rmtree, settings, ignore_errors=True)
    with (
        _environment(
            YOLO_CONFIG_DIR=settings,
            YOLO_AUTOINSTALL="false",
            YOLO_OFFLINE="1",
            YOLO_VERBOSE="false",
            ULTRALYTICS_SAFE_LOAD="1",
            ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS="1",
            OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS"),  # ultralytics would set it to 1
        ),
        stdout_to_stderr(),
        _needed(),
    ):
        import torch  # noqa: F401  (first, so that it takes the number of threads from outside)

        utils: Any = importlib.import_module("ultralytics.utils")
        utils.SETTINGS.update({"sync": False})
    # its own handler writes to stdout; without it, what is serious goes to stderr
    logger = logging.getLogger("ultralytics")
    logger.handlers.clear()
    logger.setLevel(logging.ERROR)
    logger.propagate = True


@contextlib.contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise TransientError(
            f"ultralytics cannot be imported: {_first_line(error)}",
            ErrorClass.MISSING_TOOL,
            how_to_install("detect"),
        ) from error


@contextlib.contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Set environment variables (None: leave as it is) and put them back at the end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
