"""A plain run as its plan has it, without Snakemake and its seconds: for long walks."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from dataminer.config import Config, load
from dataminer.store.layout import Store
from dataminer.sync.batches.batch import Batch
from dataminer.sync.batches.job import run_batch
from dataminer.sync.jobs.dedup import dedup_project
from dataminer.sync.repair.record_results import record_results
from dataminer.sync.repair.run_hooks import bring_up_to_date
from dataminer.workflow.run import Run
from tests.support.site import Site

_MEMORY_MB = 16_000  # a worker is a copy of this process, with all that tests have loaded


class Planned:
    """A run at work in a process of its own, up to the unique frames."""

    def __init__(self, site: Site) -> None:
        self.output = site.folder / "run.txt"
        self._process = get_context("fork").Process(target=_begin, args=(site, self.output))
        self._process.start()

    @property
    def ended(self) -> bool:
        return not self._process.is_alive()

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid or 0, number)

    def end(self, patience: float) -> int:
        self._process.join(patience)
        assert self._process.exitcode is not None, self.printed
        return self._process.exitcode

    @property
    def printed(self) -> str:
        return self.output.read_text()


def _begin(site: Site, output: Path) -> None:
    os.setsid()
    with output.open("w") as printed:
        for number in (1, 2):
            os.dup2(printed.fileno(), number)
    sys.stdout = sys.stderr = os.fdopen(1, "w")
    with site.inside():
        try:
            run(load(site.config()))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    sys.stderr.flush()
    os._exit(0)


def run(config: Config) -> None:
    """Do what is due up to the unique frames."""
    store, found = Store(config.store_path), Run(config, cores=2)
    assert found.pairing_step
    plan = found.plan
    print(*plan.reasons(), sep="\n", file=sys.stderr)
    bring_up_to_date(config.project_names, config.monitor, store)
    if plan.to_adopt:
        record_results(config)
    for rule, parts in found.members.items():
        stage, _, project = rule.partition("/")
        for videos in parts.values():
            part = Batch(stage, videos, project or None)
            run_batch(part, config, workers=len(videos), memory_mb=_MEMORY_MB)
    for project in config.project_names:
        if plan.is_due(project, "dedup"):
            dedup_project(config, project)
    bring_up_to_date(config.project_names, config.monitor, store)


def nothing_left(site: Site) -> None:
    """See that a plan finds nothing to do up to the unique frames."""
    with site.inside():
        found = Run(load(site.config()))
        dedup = [f"{p}: {stages['dedup']}" for p, stages in found.plan.projects.items()]
        due = [rule for rule, parts in found.members.items() if parts]
        due += [project for project in found.plan.projects if found.plan.is_due(project, "dedup")]
        assert not due, [*found.plan.reasons(), *dedup]
        assert not found.plan.to_adopt, [found.plan.videos, found.plan.members, dedup]
