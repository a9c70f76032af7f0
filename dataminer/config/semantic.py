"""Settings of the filters that look at the pictures: by what is meant, and by what is in them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from dataminer.config.section import Section

Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
LEAST_CONFIDENCE = 0.05
"""Boxes below it are not kept; so no threshold can be lower."""


class PromptsConfig(Section):
    """What is looked for in words; without any the semantic filter is off."""

    positive: list[Text] = []
    """Descriptions of what is wanted: a frame is held against the one that it is nearest to."""
    negative: list[Text] = []
    """What is like it and not wanted: a frame must be nearer to a positive one."""
    junk: list[Text] = []
    """What is never wanted: title cards, black screens, blur."""

    @model_validator(mode="after")
    def _negatives_have_a_counterpart(self) -> PromptsConfig:
        if self.negative and not self.positive:
            raise ValueError("negative prompts are held against positive ones: give one of those")
        return self

    @property
    def all(self) -> list[str]:
        """Every prompt once."""
        return list(dict.fromkeys([*self.positive, *self.negative, *self.junk]))


class SemanticConfig(Section):
    """Which frames show what words describe; docs/semantic.md explains the scales."""

    model: str = Field("google/siglip2-base-patch16-224", min_length=1)
    """A SigLIP, SigLIP 2 or CLIP checkpoint: a name on the Hugging Face hub, or a folder."""
    prompts: PromptsConfig = PromptsConfig()
    min_score: float | None = Field(None, ge=0, le=1)
    """Least probability of the best positive prompt: sigmoid (SigLIP), or softmax (CLIP)."""
    min_cosine: float | None = Field(None, ge=-1, le=1)
    """Least cosine between a frame and the best positive prompt."""
    min_margin: float = Field(0.0, ge=-100, le=100)
    """How far, in logits, the best positive prompt must be above the best negative one."""
    max_junk: float = Field(0.5, ge=0, le=1)
    """Greatest probability of the best junk prompt; 1 takes any."""
    batch: int = Field(32, ge=1, le=4096)
    """Frames that go through the model at once."""
    device: Device = "auto"
    """`auto` takes a GPU where there is one; else `cpu`, `mps`, `cuda` or `cuda:N`."""

    @model_validator(mode="after")
    def _can_reject(self) -> SemanticConfig:
        alone = self.prompts.positive and not (self.prompts.negative or self.prompts.junk)
        if alone and self.min_score is None and self.min_cosine is None:
            raise ValueError(
                "positive prompts alone reject nothing: "
                "give negative or junk prompts, min_score or min_cosine"
            )
        if not self.prompts.positive and (self.min_score, self.min_cosine) != (None, None):
            raise ValueError("min_score and min_cosine are about positive prompts: give one")
        return self

    @property
    def on(self) -> bool:
        """Whether there is a prompt."""
        return bool(self.prompts.all)


class ContentConfig(Section):
    """Which frames show certain objects; off while `require` and `exclude` are empty."""

    model: str = Field("yolo26n.pt", min_length=1)
    """A detector with classes of its own, as `detect.model` takes it: a name or a path."""
    require: list[Text] = []
    """Class names; each must be in the frame. `car|truck` is either of the two."""
    exclude: list[Text] = []
    """Class names of which none may be in the frame."""
    min_size: float = Field(0.0, ge=0, le=1)
    """Objects that take a smaller share of the picture's area do not count."""
    confidence: float = Field(0.3, ge=LEAST_CONFIDENCE, le=1)
    """Least score of an object that counts."""
    image_size: int = Field(640, ge=32, le=8192, multiple_of=32)
    """Frames are scaled to this many pixels on the longer side for the model."""
    batch: int = Field(16, ge=1, le=1024)
    """Frames that go through the model at once."""
    device: Device = "auto"
    """`auto` takes a GPU where there is one; else `cpu`, `mps`, `cuda` or `cuda:N`."""

    @property
    def on(self) -> bool:
        """Whether something is required or excluded."""
        return bool(self.require or self.exclude)


_HOW = {"batch", "device"}


def deciding(settings: SemanticConfig | ContentConfig) -> dict[str, Any]:
    """Return the settings that decide which frames pass, without those of only how fast."""
    return settings.model_dump(exclude=_HOW)
