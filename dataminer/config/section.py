"""The base class of all sections of the configuration."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidatorFunctionWrapHandler, field_validator


class Section(BaseModel):
    """A section of the configuration: immutable, and unknown keys are errors."""

    # lax: `snakemake --config 'extract={every_seconds: 2}'` passes values as text
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)
    _only_how: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*", mode="wrap")
    @classmethod
    def _refuse_bool_as_number(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        taken = handler(value)
        if isinstance(value, bool) and not isinstance(taken, bool):  # lax: true counts as 1
            raise ValueError(f"must be a number, got {value}")
        return taken

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that affect the result, not those that only affect how it is made."""
        return self.model_dump(exclude=set(self._only_how))


@cache
def set_descriptions(model: type[Section]) -> None:
    """Set the descriptions of a section's fields, recursively, from the docstrings below them.

    Pydantic's ``use_attribute_docstrings`` does the same when a class is created, which takes half
    a second in a process with many modules: too long for something that only the docs need.
    """
    texts = dict(_attribute_docstrings(model))
    for name, field in model.model_fields.items():
        field.description = texts.get(name, field.description)
        if inspect.isclass(field.annotation) and issubclass(field.annotation, Section):
            set_descriptions(field.annotation)
    model.model_rebuild(force=True)


def _attribute_docstrings(model: type[Section]) -> Iterator[tuple[str, str]]:
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(made, ast.ClassDef)
    for field, text in itertools.pairwise(made.body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(docstring))),
            ):
                yield name, inspect.cleandoc(docstring)
