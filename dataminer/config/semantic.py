"""Settings of the filters that use models: by prompts, and by objects and text in a frame."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from dataminer.config.section import Section

Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
LEAST_CONFIDENCE = 0.05
"""Boxes with a lower score are not stored, so no threshold can be lower."""
LEAST_TEXT_CONFIDENCE = 0.3
"""The same for regions of text, whose detector takes weaker traces for background."""


class PromptsConfig(Section):
    """Text prompts; the semantic filter is off if there are none."""

    positive: list[Text] = []
    """Descriptions of wanted frames; the one that matches a frame best is used for it."""
    negative: list[Text] = []
    """Similar but unwanted: a frame must match a positive prompt better."""
    junk: list[Text] = []
    """Never wanted, such as title cards, black screens or blur."""

    @model_validator(mode="after")
    def _negatives_have_a_counterpart(self) -> PromptsConfig:
        if self.negative and not self.positive:
            raise ValueError("negative prompts need a positive one to compare with: add one")
        return self

    @property
    def all(self) -> list[str]:
        """All prompts, without duplicates."""
        return list(dict.fromkeys([*self.positive, *self.negative, *self.junk]))


class SemanticConfig(Section):
    """Which frames match text prompts; docs/semantic.md explains the scales."""

    model: str = Field("google/siglip2-base-patch16-224", min_length=1)
    """A SigLIP, SigLIP 2 or CLIP checkpoint: a name on the Hugging Face hub, or a folder."""
    prompts: PromptsConfig = PromptsConfig()
    min_score: float | None = Field(None, ge=0, le=1)
    """Minimum probability of the best positive prompt: sigmoid (SigLIP) or softmax (CLIP)."""
    min_cosine: float | None = Field(None, ge=-1, le=1)
    """Minimum cosine similarity of a frame and its best positive prompt."""
    min_margin: float = Field(0.0, ge=-100, le=100)
    """Minimum margin, in logits, of the best positive prompt over the best negative one."""
    max_junk: float = Field(0.5, ge=0, le=1)
    """Maximum probability of the best junk prompt; 1 disables the check."""
    batch: int = Field(32, ge=1, le=4096)
    """Frames per batch of the model."""
    device: Device = "auto"
    """`auto` uses a GPU if there is one; otherwise `cpu`, `mps`, `cuda` or `cuda:N`."""

    @model_validator(mode="after")
    def _can_reject(self) -> SemanticConfig:
        alone = self.prompts.positive and not (self.prompts.negative or self.prompts.junk)
        if alone and self.min_score is None and self.min_cosine is None:
            raise ValueError(
                "positive prompts alone reject nothing: "
                "add negative or junk prompts, min_score or min_cosine"
            )
        if not self.prompts.positive and (self.min_score, self.min_cosine) != (None, None):
            raise ValueError("min_score and min_cosine need a positive prompt: add one")
        return self

    @property
    def on(self) -> bool:
        """Whether there are any prompts."""
        return bool(self.prompts.all)


class ContentConfig(Section):
    """Which frames show certain objects; off if `require` and `exclude` are empty."""

    model: str = Field("yolo26n.pt", min_length=1)
    """A detector with fixed classes, given as for `detect.model`: a name or a path."""
    require: list[Text] = []
    """Class names that must all be in the frame; `car|truck` matches either."""
    exclude: list[Text] = []
    """Class names that must not be in the frame."""
    min_size: float = Field(0.0, ge=0, le=1)
    """Objects that cover a smaller share of the picture are ignored."""
    confidence: float = Field(0.3, ge=LEAST_CONFIDENCE, le=1)
    """Minimum score of an object."""
    image_size: int = Field(640, ge=32, le=8192, multiple_of=32)
    """The model gets frames scaled to this many pixels on the longer side."""
    batch: int = Field(16, ge=1, le=1024)
    """Frames per batch of the model."""
    device: Device = "auto"
    """`auto` uses a GPU if there is one; otherwise `cpu`, `mps`, `cuda` or `cuda:N`."""

    @property
    def on(self) -> bool:
        """Whether something is required or excluded."""
        return bool(self.require or self.exclude)


class TextConfig(Section):
    """How much text, such as titles and subtitles, may cover a frame; off if `max_area` is null."""

    max_area: float | None = Field(None, ge=0, le=1)
    """Maximum share of the picture that text covers; 1 only measures, `null`: nothing runs."""
    confidence: float = Field(0.5, ge=LEAST_TEXT_CONFIDENCE, le=1)
    """Minimum score of a region of text."""
    image_size: int = Field(640, ge=32, le=8192, multiple_of=32)
    """Larger frames are scaled to this many pixels on the longer side; more shows smaller text."""

    @property
    def on(self) -> bool:
        """Whether there is a maximum."""
        return self.max_area is not None


_HOW = {"batch", "device"}


def deciding(settings: SemanticConfig | ContentConfig | TextConfig) -> dict[str, Any]:
    """Return the settings that decide which frames pass, without those that affect only speed."""
    return settings.model_dump(exclude=_HOW)
