"""Finding, fetching and loading the weights of a detector; the only importer of ultralytics."""

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
from dataminer.vision import hub, safe_loading
from dataminer.vision.errors import first_line
from dataminer.vision.hub import MODELS_FOLDER

_PUBLISHER = ("github.com", 443)
_CONNECT_SECONDS = 5.0
_NAME_LENGTH = 200  # as for prompts
_TASKS = ("detect", "segment", "pose")  # the tasks whose results have upright boxes


def weights_path(model: str, folder: Path = MODELS_FOLDER) -> Path:
    """Return the path of the weights that ``detect.model`` names.

    Parameters
    ----------
    model : str
        A path to a weights file or to a model's folder, a bare file name such as ``yolo26n.pt``, or
        a model of the Hugging Face Hub, ``owner/name``.
    folder : Path
        The folder of fetched weights.

    Returns
    -------
    Path
        ``model`` itself if there is such a file or folder; otherwise its path in ``folder``, which
        need not exist yet.

    Raises
    ------
    ConfigError
        ``model`` is a path to nothing.
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
        f"put the weights there, or give a bare name such as yolo26n.pt, for a file in {folder}/",
    )


def fetch(model: str, folder: Path = MODELS_FOLDER, *, progress: bool = False) -> Path:
    """Return the path of weights, and download published ones that do not exist yet.

    Parameters
    ----------
    model : str
        As for :func:`weights_path`.
    folder : Path
        The folder of the file, which appears complete or not at all.
    progress : bool
        Whether to show the progress of the download on stderr.

    Returns
    -------
    Path
        An existing file, or a folder with a model of the Hugging Face Hub.

    Raises
    ------
    ConfigError
        No weights of that name are published, or ``model`` is a path to nothing.
    TransientError
        The download failed; there is one attempt.
    """
    if hub.is_hub_id(model):
        return hub.fetch_snapshot(model, folder, progress=progress)
    target = to_fetch(model, folder)
    if not is_there(target):
        with quiet_ultralytics(offline=False):
            _download(model, target, progress)
    return target


def to_fetch(model: str, folder: Path = MODELS_FOLDER) -> Path:
    """Return the path of weights that exist or can be fetched.

    Raises
    ------
    ConfigError
        There is no such file, and ultralytics publishes none of that name. Names of the Hugging
        Face Hub are not checked.
    """
    target = weights_path(model, folder)
    if is_there(target) or hub.is_hub_id(model):
        return target
    with quiet_ultralytics():
        from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES
    if model not in GITHUB_ASSETS_NAMES:
        message = f"detect.model: ultralytics publishes no weights named {model}"
        raise ConfigError(message, _hint(target))
    return target


def is_there(weights: Path) -> bool:
    """Tell whether a weights file, or a folder that a model can be loaded from, exists."""
    return weights.is_file() or hub.is_model_folder(weights)


def file_of(weights: Path, model: str) -> Path:
    """Return the file that represents weights in the workflow: of a folder its ``config.json``.

    Parameters
    ----------
    weights : Path
        From :func:`weights_path`; they need not exist.
    model : str
        The name that the path is of.
    """
    is_folder = weights.is_dir() or hub.is_hub_id(model)
    return weights / hub.CONFIG_FILE if is_folder else weights


def model_of(file: Path) -> Path:
    """Return the weights that a file represents, the inverse of :func:`file_of`."""
    return file.parent if file.name == hub.CONFIG_FILE else file


def fetch_file(file: Path) -> None:
    """Fetch the weights that a file represents, as :func:`fetch` does."""
    weights = model_of(file)
    name = weights.name if weights == file else hub.model_id_of(weights)
    fetch(name, weights.parent)


def weights_sha256(weights: Path, setting: str = "detect.model") -> str:
    """Return the SHA-256 of a weights file or of a model folder.

    Parameters
    ----------
    weights : Path
        The file or folder.
    setting : str
        The setting that names it, for the error.

    Raises
    ------
    PermanentError
        Neither exists.
    """
    if not is_there(weights):
        missing = f"{hub.CONFIG_FILE} in" if weights.is_dir() else "weights file"
        raise PermanentError(
            f"there is no {missing} {weights}",
            ErrorClass.MODEL,
            f"put it there, or set {setting} to one that exists",
        )
    return hub.folder_sha256(weights) if weights.is_dir() else sha256_file(weights)


def _hint(target: Path) -> str:
    return f"put the weights file at {target}, or set detect.model to the path of one"


def _download(name: str, target: Path, progress: bool) -> None:
    from ultralytics.utils.downloads import attempt_download_asset

    # not beside the target: ultralytics removes quotation marks from paths
    with tempfile.TemporaryDirectory(prefix="dataminer-weights-") as folder:
        fetched = Path(folder, name)
        try:
            _check_network()
            with stdout_to_stderr():
                attempt_download_asset(fetched, retry=0, progress=progress)
        except (OSError, MemoryError) as error:
            reason = "this machine seems to be offline" if _offline(error) else _plain_line(error)
            raise TransientError(
                f"cannot download {name}: {reason}",
                ErrorClass.NETWORK,
                f"{_hint(target)}, or try again with a network",
            ) from error
        with atomic_write(target) as partial:
            shutil.copyfile(fetched, partial)


def _check_network() -> None:
    """Report in seconds that there is no network; the download would take half a minute."""
    if not urllib.request.getproxies().get("https"):
        socket.create_connection(_PUBLISHER, timeout=_CONNECT_SECONDS).close()


def _offline(error: BaseException) -> bool:
    no_route = isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    return no_route or "offline" in str(error) or isinstance(error, (socket.gaierror, TimeoutError))


def load_model(weights: Path) -> Any:
    """Load a detector without running any code of its file.

    Parameters
    ----------
    weights : Path
        A ``.pt`` file of ultralytics.

    Returns
    -------
    ultralytics.YOLO
        To be used within :func:`quiet_ultralytics`.

    Raises
    ------
    PermanentError
        The file is of another kind or needs its own code, or the model finds no boxes.
    TransientError
        The installed versions cannot load it without running code.
    """
    if weights.suffix != ".pt":
        raise PermanentError(f"{weights} is not a .pt weights file", ErrorClass.MODEL)
    ultralytics: Any = importlib.import_module("ultralytics")  # it has no types
    try:
        with stdout_to_stderr(), safe_loading.data_only(weights):
            model = ultralytics.YOLO(weights)
    except DataminerError:
        raise
    except Exception as error:  # whatever a damaged or foreign file makes torch and pickle raise
        raise PermanentError(
            f"cannot load the weights {weights}: {_plain_line(error)}",
            ErrorClass.MODEL,
            safe_loading.HINT_OTHER_WEIGHTS,
        ) from error
    _refuse_unusable(model, weights)
    return model


def _refuse_unusable(model: Any, weights: Path) -> None:
    if model.task not in _TASKS:
        raise PermanentError(
            f"{weights} is a model to {str(model.task)[:80]}, which draws no boxes",
            ErrorClass.MODEL,
        )
    if fault := _fault_of(model):
        message = f"cannot use the weights {weights}: {fault}"
        raise PermanentError(message, ErrorClass.MODEL, safe_loading.HINT_OTHER_WEIGHTS)


def class_names(model: Any) -> list[str]:
    """Return the classes of a model of :func:`load_model`, in the order of their numbers."""
    return [name for _, name in sorted(model.names.items())]


def _fault_of(model: Any) -> str | None:
    """Return a fault on which the model would fail only at its first image."""
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")
    kinds = {"segment": tasks.SegmentationModel, "pose": tasks.PoseModel}
    if not isinstance(model.model, kinds.get(model.task, tasks.DetectionModel)):
        return f"a {type(model.model).__name__} is no model to {model.task}"
    try:
        names = model.names
        if set(names) == {*range(len(names))} and max(map(len, names.values())) <= _NAME_LENGTH:
            return None
    except Exception:  # a damaged file may have anything instead of names
        pass
    return f"its classes are not named 0, 1, 2, … in at most {_NAME_LENGTH} letters"


def _plain_line(error: BaseException) -> str:
    """Return the first line of an exception of ultralytics, without its emoji and prefix."""
    line = first_line(error).encode("ascii", "ignore").decode()
    return line.replace("ERROR ", "").strip()


@contextlib.contextmanager
def quiet_ultralytics(*, offline: bool = True) -> Iterator[None]:
    """Let ultralytics work without touching the network, the environment or the user's settings.

    Parameters
    ----------
    offline : bool
        Disable the network, which also saves a query at import.
    """
    with _environment(
        YOLO_OFFLINE="1" if offline else None,
        CUBLAS_WORKSPACE_CONFIG=None,
        **safe_loading.ENVIRONMENT,
    ):
        _import_ultralytics()
        yield


def stdout_to_stderr() -> contextlib.AbstractContextManager[Any]:
    """Redirect a library's output from stdout, which is for a command's result."""
    return contextlib.redirect_stdout(sys.stderr)


@functools.cache
def _import_ultralytics() -> None:
    """Import ultralytics without changing this process's environment."""
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
        _import_errors(),
    ):
        import torch  # noqa: F401  (first, so that it reads the number of threads from the environment)

        utils: Any = importlib.import_module("ultralytics.utils")
        utils.SETTINGS.update({"sync": False})
    # its own handler writes to stdout; without it, errors go to stderr
    logger = logging.getLogger("ultralytics")
    logger.handlers.clear()
    logger.setLevel(logging.ERROR)
    logger.propagate = True


@contextlib.contextmanager
def _import_errors() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise TransientError(
            f"ultralytics cannot be imported: {_plain_line(error)}",
            ErrorClass.MISSING_TOOL,
            how_to_install("detect"),
        ) from error


@contextlib.contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Set environment variables (None: leave unchanged) and restore them at the end."""
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
