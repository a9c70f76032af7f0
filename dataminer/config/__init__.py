"""Settings: one set of models that validates, documents and generates the configuration."""

from dataminer.config.load import (
    DEFAULT_FILE,
    load,
    load_files,
    load_job,
    load_run,
    project_names,
    read_config_file,
)
from dataminer.config.models import (
    NAME_PATTERN,
    Config,
    DedupConfig,
    DetectConfig,
    DownloadConfig,
    ExtractConfig,
    FilterConfig,
    InputConfig,
    ListFilters,
    MonitorConfig,
)

__all__ = [
    "DEFAULT_FILE",
    "NAME_PATTERN",
    "Config",
    "DedupConfig",
    "DetectConfig",
    "DownloadConfig",
    "ExtractConfig",
    "FilterConfig",
    "InputConfig",
    "ListFilters",
    "MonitorConfig",
    "load",
    "load_files",
    "load_job",
    "load_run",
    "project_names",
    "read_config_file",
]
