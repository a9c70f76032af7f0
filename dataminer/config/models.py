"""Every setting, its type, bounds and default: the one source of schema, defaults and docs."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from dataminer.config.download import (
    BudgetConfig,
    DownloadConfig,
    HostRates,
    PolicyConfig,
    YouTubeRates,
    compile_title,
)
from dataminer.config.section import Section
from dataminer.config.semantic import ContentConfig, PromptsConfig, SemanticConfig, deciding

__all__ = [
    "NAME_PATTERN",
    "BudgetConfig",
    "Config",
    "ContentConfig",
    "DedupConfig",
    "DetectConfig",
    "DownloadConfig",
    "ExtractConfig",
    "FilterConfig",
    "HostRates",
    "InputConfig",
    "ListFilters",
    "MonitorConfig",
    "PolicyConfig",
    "ProjectName",
    "PromptsConfig",
    "Section",
    "SemanticConfig",
    "YouTubeRates",
    "compile_title",
]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
ProjectName = Annotated[str, Field(pattern=NAME_PATTERN)]

_DAY = r"\d{4}-?\d{2}-?\d{2}"
_AGO = r"(?:now|today|yesterday)(?:-\d{1,3}(?:day|week|month|year)s?)?"


def _spelled(value: Any) -> Any:
    """Take YAML's own dates, and numbers such as 20240131, as text."""
    if isinstance(value, date):
        return value.strftime("%Y-%m-%d")
    return str(value) if type(value) is int else value


def _is_day(value: str) -> str:
    if re.fullmatch(_AGO, value):
        return value
    try:
        if re.fullmatch(_DAY, value):
            return date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    raise ValueError(f"must be a date such as 2024-01-31, or today-2years, got {value[:40]!r}")


Day = Annotated[str, BeforeValidator(_spelled), AfterValidator(_is_day)]


class ListFilters(Section):
    """Which videos of searches, playlists and channels are taken; unknown values pass."""

    min_duration: float | None = Field(None, ge=0)
    """Least duration in seconds."""
    max_duration: float | None = Field(None, gt=0)
    """Greatest duration in seconds."""
    after: Day | None = None
    """Uploaded on this day or later: `2024-01-31`, or `today-2years`."""
    before: Day | None = None
    """Uploaded on this day or earlier."""
    licence: Literal["any", "creative_commons"] = "any"
    """`creative_commons`: searches ask YouTube for these alone."""

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> ListFilters:
        low, high = self.min_duration, self.max_duration
        if low is not None and high is not None and low > high:
            raise ValueError("min_duration must not be above max_duration")
        days = [day for day in (self.after, self.before) if day and day[0].isdigit()]
        if days != sorted(days):
            raise ValueError("after must not be later than before")
        return self


class InputConfig(Section):
    """What to mine; read by `dataminer populate`."""

    searches: list[str] = []
    """YouTube searches, as typed into its search box."""
    query_files: list[str] = []
    """Text files of searches, one a line; lines that begin with `#` are comments."""
    urls: list[str] = []
    """YouTube videos, playlists or channels in any spelling, or http(s) links to video files."""
    url_files: list[str] = []
    """Lists of links or paths, one per line, or tables of them: CSV, TSV, JSON Lines, Parquet."""
    url_column: str | None = Field(None, min_length=1)
    """Which column of tables in `url_files` holds the links; `null`: found by name or content."""
    files: list[str] = []
    """Local video files, or folders that are searched for them, by the endings of names."""
    max_results_per_query: int = Field(50, ge=1, le=1000)
    """How many results each search may bring."""
    max_videos_per_playlist: int = Field(1000, ge=1, le=100_000)
    """How many videos each playlist or channel may bring; the first ones, in its order."""
    filters: ListFilters = ListFilters()

    @property
    def names_nothing(self) -> bool:
        """Whether all lists of sources are empty."""
        lists = (self.searches, self.query_files, self.urls, self.url_files, self.files)
        return not any(lists)


class ExtractConfig(Section):
    """Which frames are taken out of a video; shared by all projects of a store."""

    # max_memory_mb: not of a result, which stays when it changes; of a refusal
    _only_how = frozenset({"timeout_minutes", "max_memory_mb"})

    strategy: Literal["time", "interval", "keyframe", "scene"] = "time"
    """`time`, `interval`: one every so often; `keyframe`: those; `scene`: the first of a shot."""
    every_seconds: float = Field(1.0, gt=0, le=86400)
    """For `time`, and for `scene` while a shot lasts: seconds between two frames."""
    every_frames: int = Field(30, ge=1, le=10_000_000)
    """For `interval`: take every N-th frame."""
    scene_threshold: float = Field(0.1, gt=0, le=1)
    """For `scene`: a cut is where the picture changes by more than this share of full scale."""
    image_format: Literal["jpg", "png", "webp"] = "jpg"
    """File format of the frames."""
    quality: int = Field(95, ge=1, le=100)
    """Encoder quality of JPEG and WebP; PNG is lossless and ignores it."""
    max_frames: int = Field(5000, ge=1)
    """Stop a video after so many frames."""
    max_minutes: float = Field(720.0, gt=0)
    """Stop a video after so many minutes of its presentation time."""
    max_output_gb: float = Field(20.0, gt=0)
    """Stop a video before its images take more than so many GB."""
    max_video_gb: float = Field(100.0, gt=0)
    """A video file of more GB is FAILED."""
    max_megapixels: float = Field(40.0, gt=0, le=178)
    """A video with larger pictures is FAILED; 8K has 33 megapixels, 12K 75."""
    max_memory_mb: float = Field(512.0, ge=16)
    """A video that takes more MB of memory to open is FAILED; see `download.max_memory_mb`."""
    max_error_share: float = Field(0.5, ge=0, le=1)
    """A video of whose packets a greater share cannot be decoded is FAILED."""
    timeout_minutes: float = Field(120.0, gt=0)
    """Give a video up after so many minutes of work on it, to be tried again."""
    crop_borders: bool = False
    """Cut black bars (letterbox, pillarbox) off each frame before it is written."""
    frame_store: Literal["files", "tar"] = "files"
    """`files`: a file an image; `tar`: one archive a video, where files are few (quotas)."""

    def result_settings(self) -> dict[str, Any]:
        """Return the settings in use: `every_frames` only where the strategy counts frames."""
        used = {
            "time": {"every_seconds"},
            "interval": {"every_frames"},
            "scene": {"every_seconds", "scene_threshold"},
        }.get(self.strategy, set())
        unused = {"every_seconds", "every_frames", "scene_threshold"} - used | self._only_how
        if self.image_format == "png":
            unused = unused | {"quality"}
        return self.model_dump(exclude=unused)


class FilterConfig(Section):
    """Which frames are good enough; judged on the columns that extract computed."""

    _only_how = frozenset({"videos_per_job"})

    min_sharpness: float = Field(0.06, ge=0, le=10)
    """Least share of coarse detail that is there finely too, whatever the noise; 0 takes any."""
    min_brightness: float = Field(0.05, ge=0, le=1)
    """Least mean grey (0 black, 1 white)."""
    max_brightness: float = Field(0.97, ge=0, le=1)
    """Greatest mean grey (0 black, 1 white)."""
    min_contrast: float = Field(0.02, ge=0, le=0.5)
    """Least standard deviation of grey, where black is 0 and white 1."""
    min_entropy: float = Field(0.05, ge=0, le=8)
    """Least bits of information in a pixel's grey level (0 one level, 8 all equally often)."""
    max_black: float = Field(0.98, ge=0, le=1)
    """Greatest share of pixels that are darker than 0.1."""
    max_blank: float = Field(0.995, ge=0, le=1)
    """Greatest share of the picture where nothing is to be seen; 1 takes any."""
    max_border: float = Field(0.75, ge=0, le=1)
    """Greatest share of the decoded picture that black bars take; 1 takes any."""
    max_flash: float = Field(0.2, ge=0, le=1)
    """How far a flash may light up one frame above those before and after; 1 takes any."""
    min_change: float = Field(0.01, ge=0, le=0.02)
    """Least difference from the last frame kept (still pictures repeat); 0 leaves it to dedup."""
    videos_per_job: int = Field(100, ge=1, le=10_000)
    """So many videos go through the models of `semantic` and `content` in one process."""
    semantic: SemanticConfig = SemanticConfig()
    content: ContentConfig = ContentConfig()

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> FilterConfig:
        if self.min_brightness >= self.max_brightness:
            raise ValueError("min_brightness must be below max_brightness")
        return self

    @property
    def uses_models(self) -> bool:
        """Whether a model has to look at the frames."""
        return self.semantic.on or self.content.on

    def result_settings(self) -> dict[str, Any]:
        """Return the thresholds, and the sections of the models that are in use."""
        dumped = self.model_dump(exclude={"semantic", "content", *self._only_how})
        semantic = {"semantic": deciding(self.semantic)} if self.semantic.on else {}
        content = {"content": deciding(self.content)} if self.content.on else {}
        return dumped | semantic | content


class DedupConfig(Section):
    """When two frames of a project count as the same picture."""

    method: Literal["hash", "embedding"] = "hash"
    """What is compared: perceptual hashes, or embeddings by `filter.semantic.model`."""
    hash: Literal["phash", "dhash", "both"] = "both"
    """Which 64-bit hash decides; `both`: frames are near where either says so."""
    threshold: int = Field(8, ge=0, le=32)
    """Frames whose hashes differ in at most so many of 64 bits are near-duplicates."""
    similarity: float = Field(0.95, gt=0, le=1)
    """By embeddings: frames of at least this cosine similarity are near-duplicates."""

    def result_settings(self) -> dict[str, Any]:
        """Return the settings in use: `similarity` only where embeddings are compared."""
        unused = {"hash", "threshold"} if self.method == "embedding" else {"similarity"}
        return self.model_dump(exclude=unused | self._only_how)


# models tell prompts apart by full stops
Prompt = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^[^.\n]+$", min_length=1, max_length=200),
]


class DetectConfig(Section):
    """Which objects are looked for in the unique frames, and with what."""

    _only_how = frozenset({"batch", "device", "shard_images", "jobs", "trusted_programs"})

    model: str = Field("yolo26n.pt", min_length=1)
    """A weights file of ultralytics, or a Hugging Face model: a name (`owner/name`) or a path."""
    prompts: list[Prompt] = Field([], max_length=1000)
    """What to look for, for models that read text (owlv2, grounding-dino, yoloe, yolo-world)."""
    confidence: float = Field(0.3, ge=0, le=1)
    """Least score of a detection."""
    image_size: int = Field(640, ge=32, le=8192, multiple_of=32)
    """Frames are scaled to this many pixels on the longer side for the model."""
    batch: int = Field(16, ge=1, le=1024)
    """Frames that go through the model at once."""
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """`auto` takes a GPU where there is one; else `cpu`, `mps`, `cuda` or `cuda:N`."""
    shard_images: int = Field(1000, ge=1, le=1_000_000)
    """Boxes are kept for the next run by about so many frames; a killed run repeats one such."""
    jobs: int = Field(1, ge=1, le=1000)
    """How many jobs share the frames of a project, such as one for each GPU."""

    trusted_programs: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = []
    """SHA-256 of TorchScript files that may run: the text encoders of YOLOE are such programs."""

    @field_validator("prompts")
    @classmethod
    def _differ(cls, prompts: list[str]) -> list[str]:
        if len(set(prompts)) < len(prompts):
            raise ValueError("names the same thing twice")
        return prompts


class MonitorConfig(Section):
    """How claims are kept alive and when they count as dead."""

    heartbeat_seconds: float = Field(30.0, gt=0, le=3600)
    """A job that holds a video says so this often."""
    stale_threshold_minutes: float = Field(2.0, gt=0, le=1440)
    """A claim without a heartbeat for so long may be taken over."""
    max_attempts: int = Field(3, ge=1, le=100)
    """After so many attempts that ended without a result, a video is FAILED."""
    give_up_hours: float = Field(24.0, ge=0, le=8760)
    """What fails in passing is FAILED after `max_attempts` attempts over at least so long."""
    retry_seconds: float = Field(2.0, gt=0, le=3600)
    """What failed in passing is tried again after so long; amid other work, after 5 times that."""
    no_progress_minutes: float = Field(15.0, gt=0, le=1440)
    """Work on a video that logs no progress for so long is stopped; that counts as an attempt."""

    @model_validator(mode="after")
    def _beats_before_stale(self) -> MonitorConfig:
        if self.heartbeat_seconds * 2 > self.stale_threshold_minutes * 60:
            raise ValueError(
                "heartbeat_seconds must be at most half of stale_threshold_minutes (in seconds)"
            )
        return self


class Config(Section):
    """The whole configuration."""

    project: ProjectName | None = "my_project"
    """The dataset's name: letters, digits, `-` and `_`."""
    projects: list[ProjectName] = []
    """Several projects in one run, instead of `project`."""
    store: str = Field("data", min_length=1)
    """The folder that everything lies under, relative to the working directory."""
    batch_videos: Literal["auto"] | Annotated[int, Field(ge=1, le=100_000)] = "auto"
    """Videos per job; `auto`: one each up to 12 on one machine, else by their estimated work."""
    input: InputConfig = InputConfig()
    download: DownloadConfig = DownloadConfig()
    extract: ExtractConfig = ExtractConfig()
    filter: FilterConfig = FilterConfig()
    dedup: DedupConfig = DedupConfig()
    detect: DetectConfig = DetectConfig()
    monitor: MonitorConfig = MonitorConfig()

    @field_validator("batch_videos", mode="wrap")
    @classmethod
    def _counts_videos(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except ValidationError as error:
            expected = "`auto` or a whole number from 1 to 100000"
            raise ValueError(f"must be {expected}, got {value!r}") from error

    @model_validator(mode="after")
    def _names_a_project(self) -> Config:
        if not self.project and not self.projects:
            raise ValueError("name a project: `project: NAME` or `projects: [A, B]`")
        return self

    @field_validator("store")
    @classmethod
    def _store_has_no_wildcard(cls, store: str) -> str:
        if "{" in store or "}" in store:
            raise ValueError("must hold no { or }, which Snakemake takes for a wildcard")
        return store

    @property
    def project_names(self) -> list[str]:
        """The projects to run, each once, in the order given."""
        return list(dict.fromkeys(self.projects or [str(self.project)]))

    @property
    def store_path(self) -> Path:
        """The store as a path, as it was written (relative stays relative)."""
        return Path(self.store)
