"""Model folders of the Hugging Face Hub; the only module that imports huggingface_hub."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dataminer.errors import ConfigError, DataminerError, ErrorClass, PermanentError, TransientError
from dataminer.files.flushing import fsync_tree
from dataminer.files.hashing import sha256_file
from dataminer.files.publishing import publish_dir, remove_partials, staging_dir
from dataminer.process import how_to_install
from dataminer.vision.errors import first_line

MODELS_FOLDER = Path("models")
CONFIG_FILE = "config.json"
"""A folder with this file is a model folder."""
HUB = "https://huggingface.co"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
_FILES = (".pt", ".pth", ".onnx", ".ts", ".safetensors")
# the files that a model is loaded from; no pickles, no code, no copies for other libraries
_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja"]
# options that load a model folder without the network and without its code
LOCAL_DATA_ONLY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_ATTENTION = ("eager", "sdpa")  # torch's own; any other is fetched from the hub
_NAMES_ATTENTION = ("attn_implementation", "attribute_map")  # the latter gives it another name
_IN_FOLDERS = ["*/*"]
_CONNECT_SECONDS = 5.0


def is_hub_id(model: str) -> bool:
    """Tell whether a setting names a model of the hub, ``owner/name``, and no existing file."""
    fits = _ID.fullmatch(model) and not model.endswith(_FILES)
    return bool(fits) and not Path(model).exists()


def snapshot_folder(model: str, folder: Path = MODELS_FOLDER) -> Path:
    """Return the folder of a fetched model of the hub: ``folder/owner--name``."""
    return folder / model.replace("/", "--")


def model_id_of(folder: Path) -> str:
    """Return the model of a folder, the inverse of :func:`snapshot_folder`."""
    return folder.name.replace("--", "/", 1)  # the hub allows no -- in the names of owners


def is_model_folder(path: Path) -> bool:
    """Tell whether a model can be loaded from a folder: it has a ``config.json``."""
    return (path / CONFIG_FILE).is_file()


def fetch_snapshot(model: str, folder: Path = MODELS_FOLDER, *, progress: bool = False) -> Path:
    """Return the folder of a model of the hub, and download it if it does not exist yet.

    Parameters
    ----------
    model : str
        ``owner/name``, such as ``google/owlv2-base-patch16-ensemble``.
    folder : Path
        The parent of its folder, which appears complete or not at all.
    progress : bool
        Whether to show the progress of the download on stderr.

    Raises
    ------
    ConfigError
        There is no such model, or access to it must be requested.
    PermanentError
        The model has no weights as safetensors.
    TransientError
        The download failed, or huggingface_hub is not installed.
    """
    target = snapshot_folder(model, folder)
    if is_model_folder(target):
        return target
    hub = _import_hub()
    _check_network(model, target)
    with staging_dir(target) as staging:
        try:
            _download(hub, model, staging, progress)
        except Exception as error:  # of three HTTP libraries and its own
            raise _download_error(hub, error, model, target) from error
        shutil.rmtree(staging / ".cache", ignore_errors=True)
        _refuse_partial(model, staging)
        fsync_tree(staging)
        publish_dir(staging, target)
    remove_partials(target)
    return target


def refuse_kernels(folder: Path) -> None:
    """Refuse a model whose configuration lets a program from the hub compute attention.

    Raises
    ------
    PermanentError
        MODEL.
    """
    config = json.loads((folder / CONFIG_FILE).read_bytes())
    for name in _kernels(config):
        raise PermanentError(
            f"{folder / CONFIG_FILE} names a program of the hub to run: {name[:80]!a}",
            ErrorClass.MODEL,
            "take attn_implementation out of it, if you trust the rest of the model",
        )


def _kernels(value: Any, *, is_attention: bool = False) -> Iterator[str]:
    """Yield the names of programs below the keys that configure attention."""
    if isinstance(value, dict):
        for key, item in value.items():
            names_attention = any(name in key for name in _NAMES_ATTENTION)
            yield from _kernels(item, is_attention=is_attention or names_attention)
    elif isinstance(value, list):
        for item in value:
            yield from _kernels(item, is_attention=is_attention)
    elif is_attention and isinstance(value, str) and value not in _ATTENTION:
        yield value


def folder_sha256(folder: Path) -> str:
    """Return the SHA-256 of a model folder: of the output of ``sha256sum *`` in it."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    listed = "".join(f"{sha256_file(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def _fetch_hint(target: Path) -> str:
    return (
        f"run `dataminer models fetch` on a machine with a network, or put the model's files"
        f" into {target}"
    )


def _download(hub: Any, model: str, staging: Path, progress: bool) -> None:
    if not progress:
        hub.utils.disable_progress_bars()
    try:
        hub.snapshot_download(
            model,
            local_dir=staging,
            allow_patterns=_PATTERNS,
            ignore_patterns=_IN_FOLDERS,
            endpoint=_endpoint(),
            max_workers=2,
        )
    finally:
        if not progress:
            hub.utils.enable_progress_bars()


def _refuse_partial(model: str, staging: Path) -> None:
    if is_model_folder(staging) and any(staging.glob("*.safetensors")):
        return
    raise PermanentError(
        f"{model} has no {CONFIG_FILE} and weights as safetensors",
        ErrorClass.MODEL,
        "use a model of the transformers library that has both",
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def _check_network(model: str, target: Path) -> None:
    """Report in seconds that the hub is unreachable; the library retries several times."""
    address = urlsplit(_endpoint())
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "no", "off", "false"):
        raise _offline(model, target)
    if urllib.request.getproxies().get(address.scheme):
        return
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise _offline(model, target) from error


def _offline(model: str, target: Path) -> TransientError:
    return TransientError(
        f"cannot download {model}: this machine seems to be offline",
        ErrorClass.NETWORK,
        _fetch_hint(target),
    )


def _download_error(hub: Any, error: Exception, model: str, target: Path) -> DataminerError:
    """Turn an exception of the download into an error with a next step."""
    if isinstance(error, hub.errors.GatedRepoError):
        return ConfigError(
            f"{model} is available on request only",
            f"accept its terms at {HUB}/{model}, then set HF_TOKEN",
        )
    unknown = (hub.errors.RepositoryNotFoundError, hub.errors.HFValidationError)
    if isinstance(error, unknown) or "404" in str(error):
        return ConfigError(f"the hub has no public model {model}", f"look the name up at {HUB}")
    return TransientError(
        f"cannot download {model}: {first_line(error)}", ErrorClass.NETWORK, _fetch_hint(target)
    )


@functools.cache
def _import_hub() -> Any:
    """Import huggingface_hub without its telemetry; it reads these variables at import."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise TransientError(
            "huggingface_hub cannot be imported",
            ErrorClass.MISSING_TOOL,
            how_to_install("semantic"),
        ) from error
    return huggingface_hub
