"""Settings: one set of models that validates, documents and generates the configuration."""

from dataminer.config.load import load, load_file, load_job, load_run
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
    "load_file",
    "load_job",
    "load_run",
]
