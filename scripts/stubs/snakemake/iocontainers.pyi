"""The object that Snakemake gives to a script.

Snakemake sets the names of files, wildcards and resources at run time, so mypy learns of them here.
"""

from collections.abc import Iterator
from typing import Any, TypeVar, overload

T = TypeVar("T")

class Namedlist(list[T]):
    def __getattr__(self, name: str) -> T: ...
    @overload
    def get(self, key: str) -> T | None: ...
    @overload
    def get(self, key: str, default_value: T) -> T: ...
    def items(self) -> Iterator[tuple[str, T]]: ...

class Snakemake:
    input: Namedlist[str]
    output: Namedlist[str]
    params: Namedlist[Any]
    wildcards: Namedlist[str]
    threads: int
    resources: Namedlist[int]
    log: Namedlist[str]
    config: dict[str, Any]

snakemake: Snakemake
