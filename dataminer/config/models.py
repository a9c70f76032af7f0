"""Every setting with its type, bounds and default: the source of schema, default file and docs."""

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
from dataminer.config.semantic import (
    ContentConfig,
    PromptsConfig,
    SemanticConfig,
    TextConfig,
    deciding,
)

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
    "TextConfig",
    "YouTubeRates",
    "compile_title",
]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
ProjectName = Annotated[str, Field(pattern=NAME_PATTERN)]

_DAY = r"\d{4}-?\d{2}-?\d{2}"
_AGO = r"(?:now|today|yesterday)(?:-\d{1,3}(?:day|week|month|year)s?)?"


def _spelled(value: Any) -> Any:
    """Convert YAML dates, and numbers such as 20240131, to text."""
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
    """Which videos of searches, playlists and channels to add; videos with unknown values pass."""

    min_duration: float | None = Field(None, ge=0)
    """Minimum duration in seconds."""
    max_duration: float | None = Field(None, gt=0)
    """Maximum duration in seconds."""
    after: Day | None = None
    """Uploaded on or after this day: `2024-01-31`, or `today-2years`."""
    before: Day | None = None
    """Uploaded on or before this day."""
    licence: Literal["any", "creative_commons"] = "any"
    """`creative_commons`: YouTube searches return only videos under that licence."""

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
    """YouTube searches, as you would type them into its search box."""
    query_files: list[str] = []
    """Text files of searches, one per line; lines that begin with `#` are comments."""
    urls: list[str] = []
    """YouTube videos, playlists or channels in any form, or http(s) links to video files."""
    url_files: list[str] = []
    """Files that list links or paths, one per line, or tables: CSV, TSV, JSON Lines, Parquet."""
    url_column: str | None = Field(None, min_length=1)
    """The column of links in tables of `url_files`; `null`: found by its name or content."""
    files: list[str] = []
    """Local video files, or folders to search for files with a video extension."""
    max_results_per_query: int = Field(50, ge=1, le=1000)
    """Maximum number of results per search."""
    max_videos_per_playlist: int = Field(1000, ge=1, le=100_000)
    """Maximum number of videos per playlist or channel; the first ones, in its order."""
    filters: ListFilters = ListFilters()

    @property
    def names_nothing(self) -> bool:
        """Whether all lists of sources are empty."""
        lists = (self.searches, self.query_files, self.urls, self.url_files, self.files)
        return not any(lists)


class ExtractConfig(Section):
    """Which frames to extract from a video. Projects with the same settings share the frames."""

    # max_memory_mb: a change keeps results, and only undoes refusals
    _only_how = frozenset({"timeout_minutes", "max_memory_mb"})

    strategy: Literal["time", "interval", "keyframe", "scene"] = "time"
    """`time`, `interval`: regular steps; `keyframe`: keyframes only; `scene`: starts of shots."""
    every_seconds: float = Field(1.0, gt=0, le=86400)
    """For `time`, and within a shot for `scene`: seconds between frames."""
    every_frames: int = Field(30, ge=1, le=10_000_000)
    """For `interval`: keep every N-th frame."""
    scene_threshold: float = Field(0.1, gt=0, le=1)
    """For `scene`: a change of the picture above this share of full scale counts as a cut."""
    image_format: Literal["jpg", "png", "webp"] = "jpg"
    """File format of the frames."""
    quality: int = Field(95, ge=1, le=100)
    """Encoder quality for JPEG and WebP; PNG is lossless and ignores it."""
    max_frames: int = Field(5000, ge=1)
    """Maximum number of frames per video; the rest of the video is not extracted."""
    max_minutes: float = Field(720.0, gt=0)
    """Maximum minutes of presentation time per video; the rest is not extracted."""
    max_output_gb: float = Field(20.0, gt=0)
    """Maximum size of the images of a video in GB; the rest is not extracted."""
    max_video_gb: float = Field(100.0, gt=0)
    """A larger video file (in GB) is FAILED."""
    max_megapixels: float = Field(40.0, gt=0, le=178)
    """A video with larger pictures is FAILED; 8K has 33 megapixels, 12K has 75."""
    max_memory_mb: float = Field(512.0, ge=16)
    """A video that needs more MB of memory to open is FAILED; see `download.max_memory_mb`."""
    max_error_share: float = Field(0.5, ge=0, le=1)
    """A video is FAILED if more than this share of its packets cannot be decoded."""
    timeout_minutes: float = Field(120.0, gt=0)
    """End an attempt at one video after this many minutes; a later attempt retries it."""
    geometry: Literal["display", "stored"] = "display"
    """`display`: turned and cropped as players do, in square pixels; `stored`: as stored."""
    hdr: Literal["tone_map", "keep"] = "tone_map"
    """HDR (PQ, HLG) and wide gamuts: `tone_map` to SDR in BT.709, or `keep` code values."""
    crop_borders: bool = False
    """Crop black bars (letterbox, pillarbox) from each frame before it is written."""
    frame_store: Literal["files", "tar"] = "files"
    """`files`: one file per image; `tar`: one archive per video, for quotas on files."""

    def result_settings(self) -> dict[str, Any]:
        """Return the settings in use: `every_frames` only if the strategy counts frames."""
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
    """Which frames are good enough, by the quality measures that extract computed."""

    _only_how = frozenset({"videos_per_job"})

    min_sharpness: float = Field(0.06, ge=0, le=10)
    """Minimum sharpness (ratio of fine to coarse detail); 0 disables the check."""
    min_brightness: float = Field(0.05, ge=0, le=1)
    """Minimum mean grey level (0 black, 1 white)."""
    max_brightness: float = Field(0.98, ge=0, le=1)
    """Maximum mean grey level (0 black, 1 white)."""
    min_contrast: float = Field(0.02, ge=0, le=0.5)
    """Minimum standard deviation of the grey level (0 black, 1 white)."""
    min_entropy: float = Field(0.05, ge=0, le=8)
    """Minimum entropy of the grey levels in bits (0: one level, 8: all levels equally often)."""
    max_black: float = Field(0.98, ge=0, le=1)
    """Maximum share of pixels that are darker than 0.1."""
    max_blank: float = Field(0.995, ge=0, le=1)
    """Maximum share of the picture that is blank; 1 disables the check."""
    max_border: float = Field(0.75, ge=0, le=1)
    """Maximum share of the decoded picture that black bars cover; 1 disables the check."""
    max_flash: float = Field(0.2, ge=0, le=1)
    """Maximum brightness of one frame above its neighbours (flash); 1 disables the check."""
    min_change: float = Field(0.01, ge=0, le=0.02)
    """Minimum difference from the last frame kept (stills repeat); 0 disables the check."""
    damaged: Literal["drop", "keep"] = "drop"
    """Frames that may be smeared, because a part of the video is missing or broken."""
    videos_per_job: int = Field(100, ge=1, le=10_000)
    """How many videos one job runs through the models of `semantic`, `content` and `text`."""
    semantic: SemanticConfig = SemanticConfig()
    content: ContentConfig = ContentConfig()
    text: TextConfig = TextConfig()

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> FilterConfig:
        if self.min_brightness >= self.max_brightness:
            raise ValueError("min_brightness must be below max_brightness")
        return self

    def result_settings(self) -> dict[str, Any]:
        """Return the thresholds, and the sections of the models that are in use."""
        models: dict[str, SemanticConfig | ContentConfig | TextConfig] = {
            "semantic": self.semantic,
            "content": self.content,
            "text": self.text,
        }
        dumped = self.model_dump(exclude={*models, *self._only_how})
        return dumped | {name: deciding(model) for name, model in models.items() if model.on}


class DedupConfig(Section):
    """When two frames of a project count as near-duplicates."""

    method: Literal["hash", "embedding"] = "hash"
    """What to compare: perceptual hashes, or embeddings of `model`."""
    model: str | None = Field(None, min_length=1)
    """For `embedding`: a SigLIP, CLIP, DINOv2 or DINOv3; `null`: `filter.semantic.model`."""
    hash: Literal["phash", "dhash", "both"] = "both"
    """Which 64-bit hash to compare; `both`: frames match if either hash matches."""
    threshold: int = Field(8, ge=0, le=32)
    """Frames whose hashes differ in at most this many of 64 bits are near-duplicates."""
    min_object: float = Field(0.012, ge=0, le=1)
    """For `hash`: frames differ if at least this share of the picture changed; 0: hashes decide."""
    similarity: float = Field(0.95, gt=0, le=1)
    """For `embedding`: frames with at least this cosine similarity are near-duplicates."""
    exclude: list[Annotated[str, Field(min_length=1)]] = []
    """Folders of images, COCO files and earlier exports: frames near their images are left out."""

    def result_settings(self) -> dict[str, Any]:
        """Return the settings in use: `similarity` only if embeddings are compared.

        `exclude` is not among them: kept frames stay kept if it changes, and its pictures count by
        their state (:class:`dataminer.stages.dedup.references.listing.ReferencePictures`).
        Without `min_object` and `model`, they are those of versions that did not have them.
        """
        by_model = self.method == "embedding"
        unused = {"hash", "threshold", "min_object"} if by_model else {"similarity", "model"}
        unused.add("exclude")
        off = {name for name in ("min_object", "model") if not getattr(self, name)}
        return self.model_dump(exclude=unused | off | self._only_how)


# full stops separate the prompts that a model gets
Prompt = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^[^.\n]+$", min_length=1, max_length=200),
]


class DetectConfig(Section):
    """Which objects to detect in the unique frames, and with which model."""

    _only_how = frozenset({"batch", "device", "shard_images", "jobs", "trusted_programs"})

    model: str = Field("yolo26n.pt", min_length=1)
    """An ultralytics weights file, or a Hugging Face model: a name (`owner/name`) or a path."""
    prompts: list[Prompt] = Field([], max_length=1000)
    """What to detect, for open-vocabulary models (owlv2, grounding-dino, yoloe, yolo-world)."""
    confidence: float = Field(0.3, ge=0, le=1)
    """Minimum score of a detection."""
    image_size: int = Field(640, ge=32, le=8192, multiple_of=32)
    """The model gets frames scaled to this many pixels on the longer side."""
    batch: int = Field(16, ge=1, le=1024)
    """Frames per batch of the model."""
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """`auto` uses a GPU if there is one; otherwise `cpu`, `mps`, `cuda` or `cuda:N`."""
    shard_images: int = Field(1000, ge=1, le=1_000_000)
    """Frames per shard, approximately; a killed run repeats at most one shard per job."""
    jobs: int = Field(1, ge=1, le=1000)
    """How many jobs share the frames of a project, for example one per GPU."""

    trusted_programs: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = []
    """SHA-256 of the TorchScript programs that may run, such as the text encoders of YOLOE."""

    @field_validator("prompts")
    @classmethod
    def _differ(cls, prompts: list[str]) -> list[str]:
        if len(set(prompts)) < len(prompts):
            raise ValueError("contains the same prompt twice")
        return prompts


class MonitorConfig(Section):
    """How claims are kept alive, when they expire, and how failures are retried."""

    heartbeat_seconds: float = Field(30.0, gt=0, le=3600)
    """How often a job renews its claim on a video."""
    stale_threshold_minutes: float = Field(2.0, gt=0, le=1440)
    """Another job may take over a claim that was not renewed for this long."""
    max_attempts: int = Field(3, ge=1, le=100)
    """A video is FAILED after this many attempts without a result."""
    give_up_hours: float = Field(24.0, ge=0, le=8760)
    """Temporary failures become FAILED after `max_attempts` attempts over at least this time."""
    retry_seconds: float = Field(2.0, gt=0, le=3600)
    """Wait before a retry within a job; five times as long while other videos are left."""
    no_progress_minutes: float = Field(15.0, gt=0, le=1440)
    """Work on a video that makes no progress for this long is stopped; it counts as an attempt."""

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
    """Several projects for one run, instead of `project`."""
    store: str = Field("data", min_length=1)
    """The folder for all data, relative to the working directory."""
    batch_videos: Literal["auto"] | Annotated[int, Field(ge=1, le=100_000)] = "auto"
    """Videos per job; `auto`: one if up to 12 run on one machine, otherwise by estimated work."""
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
            raise ValueError("must contain no { or }, which Snakemake reads as a wildcard")
        return store

    @property
    def project_names(self) -> list[str]:
        """The projects to run, each once, in the order given."""
        return list(dict.fromkeys(self.projects or [str(self.project)]))

    @property
    def store_path(self) -> Path:
        """The store as a path, as configured (a relative path stays relative)."""
        return Path(self.store)
