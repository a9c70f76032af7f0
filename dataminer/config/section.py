"""What all parts of the configuration have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors, and values never change."""

    # lax: what `snakemake --config 'extract={every_seconds: 2}'` gives arrives as text
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, coerce_numbers_to_str=True
    )
    _only_how: ClassVar[frozenset[str]] = frozenset()

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that decide what comes out, without those of only how or how fast."""
        return self.model_dump(exclude=set(self._only_how))
