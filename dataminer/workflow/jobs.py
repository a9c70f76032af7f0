"""Inputs, parameters and resources of Snakemake's jobs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from dataminer.sync.batches.batch_list import BatchList
from dataminer.vision.checkpoint import (
    DEDUP_MODEL,
    SEMANTIC_MODEL,
    require_text_tower,
    require_transformers,
)
from dataminer.vision.hub import CONFIG_FILE
from dataminer.vision.scene_text import require_rapidocr
from dataminer.vision.weights import file_of, to_fetch, weights_path
from dataminer.workflow.run import RUNS
from dataminer.workflow.session import WorkflowSession, or_exit
from dataminer.workflow.snakemake_compat import ancient

MODELS = Path("models")

_T = TypeVar("_T")
Function = Callable[..., Any]
"""A function that Snakemake calls with a job's wildcards for an input, parameter or resource."""


class Jobs:
    """The functions that rules use.

    In the main process they use the plan. A job on a node reads the Snakefile again: there they use
    the list of batches, or return nothing.

    Parameters
    ----------
    session : WorkflowSession
        The session of this process.
    """

    def __init__(self, session: WorkflowSession) -> None:
        self._session = session
        self._is_main = session.is_main
        self._settings, self._store = session.settings, session.store
        self._models = session.frame_models
        self._require_transformers = cache(require_transformers)  # asked for each job

    # ---- batches -------------------------------------------------------------------------------

    def of_run(self, name: str) -> str:
        """Return the path of a file by which the jobs of a run record that they are done."""
        return str(RUNS / "{run}" / name)

    def done_files(self, rule: str) -> list[str]:
        """Return the marker files of a batch rule's jobs; none in a job on a node."""
        return self._session.run.listed.done_files(rule) if self._is_main else []

    def batch_list(self, wildcards: Any = None) -> str:
        """Return the path of the list of this run's batches, which is made if something is due."""
        return str(self._session.run.listed.path)

    def batch_list_of_run(self, wildcards: Any) -> str:
        """Return the path of the list of batches that a job reads."""
        return self.of_run("batches.json").format(run=wildcards.run)

    def listed(self, wildcards: Any) -> Any:
        """Return the contents of the list of batches; a job on a node reads the file."""
        return self._session.run.listed.as_json() if self._is_main else None

    def reasons(self, wildcards: Any) -> Any:
        """Return the reasons for what is left to do."""
        return self._session.run.plan.reasons() if self._is_main else None

    def adopted(self, wildcards: Any) -> str | list[str]:
        """Return the marker that rows agree with files, if they did not before."""
        return (
            str(self._session.run.adopted) if self._is_main and self._session.run.to_adopt else []
        )

    def of_batch(self, tell: Callable[[BatchList, str, str], _T], rule: str) -> Callable[..., _T]:
        """Return a function of a batch: from the plan or, on a node, from the list of batches."""

        def of(wildcards: Any) -> _T:
            if self._is_main:
                batches = self._session.run.listed
            else:
                batches = BatchList.read(Path(self.batch_list_of_run(wildcards)))
            return tell(batches, rule.format(**wildcards), wildcards.batch)

        return of

    def workers(self, rule: str) -> Function:
        """Return the workers of a batch: its threads here, or its cores in a Slurm job."""
        return self.of_batch(BatchList.workers, rule)

    def first_videos(self, rule: str) -> Function:
        """Return a text that names the first videos of a batch, for its message."""
        return self.of_batch(BatchList.first_videos, rule)

    def after(self, rule: str) -> Function:
        """Return the inputs of a batch; the list of batches if there are no others.

        Also used on a node, which must know the order of the jobs in a group.
        """
        done_files = self.of_batch(BatchList.done_files_of_batch, rule)
        return lambda wildcards: done_files(wildcards) or self.batch_list_of_run(wildcards)

    def downloads(self, wildcards: Any) -> int:
        """Return how many videos a batch downloads at once."""
        most = int(self._session.snakemake.limit("downloads") or 1)
        return max(1, min(self.of_batch(BatchList.downloads_at_once, "download")(wildcards), most))

    # ---- resources -----------------------------------------------------------------------------

    def growing(self, amount: int) -> Function:
        """Return a resource that grows with each attempt: a job that ran out of it gets more."""

        def resource(wildcards: Any, attempt: int) -> int:
            return amount * attempt

        return resource

    def per_worker(self, amount: int, rule: str) -> Function:
        """Return the memory, which grows with the number of attempts and of parallel videos."""
        count = self.workers(rule)

        def resource(wildcards: Any, attempt: int) -> int:
            return int(amount * count(wildcards) * attempt)

        return resource

    def minutes(self, rule: str) -> Function:
        """Return the run time of a batch."""

        def resource(wildcards: Any, attempt: int) -> int:
            if not self._is_main:
                return 1
            return self._session.run.minutes(rule.format(**wildcards), wildcards.batch, attempt)

        return resource

    # ---- results of projects -------------------------------------------------------------------

    def _unless_due(self, stage: str, project: str) -> str:
        """Return a project's result as an input: it is due, or up to date."""
        path = self._result(project, stage)
        if not self._is_main or self._session.run.plan.is_due(project, stage):
            return str(path)
        return ancient(str(path))

    def _is_remade(self, project: str, stage: str) -> bool:
        """Return whether a stage is due although its result exists, so Snakemake must rerun it."""
        is_due = self._session.run.plan.is_due(project, stage)
        return is_due and self._result(project, stage).exists()

    def _result(self, project: str, stage: str) -> Path:
        return {
            "dedup": self._store.dedup(project) / "frames.parquet",
            "detect": self._store.detect(project) / "annotations.json",
            "report": self._store.report(project) / "index.html",
        }[stage]

    def if_due(self, stage: str) -> Function:
        """Return an input that reruns a due stage of a project: a file that is new in each run."""

        def due(wildcards: Any) -> str | list[str]:
            if not self._is_main:
                return []
            is_due = stage in self._session.run.forced or self._is_remade(wildcards.project, stage)
            return self.batch_list() if is_due else []

        return due

    def unique_frames(self, wildcards: Any) -> str:
        """Return the unique frames of a project."""
        return self._unless_due("dedup", wildcards.project)

    def annotations(self, wildcards: Any) -> str:
        """Return the annotations of a project."""
        return self._unless_due("detect", wildcards.project)

    # ---- models --------------------------------------------------------------------------------

    def weights_file(self, model: str) -> str:
        """Return the file of a model's weights: the given one, or models/NAME to be downloaded."""
        resolve = to_fetch if self._is_main else weights_path
        file = file_of(or_exit(resolve, model, MODELS), model)
        return ancient(str(file)) if file.exists() else str(file)

    def detect_weights(self, wildcards: Any) -> str:
        """Return the file of the detector's weights."""
        return self.weights_file(self._settings.detect.model)

    def shards(self, wildcards: Any) -> list[str]:
        """Return the marker files of jobs that share a project's frames; none for a single job."""
        parts = self._settings.detect.jobs
        folder = self._store.detect_shards(wildcards.project)
        names = (f"{part}-of-{parts}.done" for part in range(parts))
        return [str(folder / name) for name in names] if parts > 1 else []

    def checkpoint(self) -> list[str]:
        """Return the file that represents the semantic filter's model, if there are prompts."""
        files = self.checkpoints()  # as a rule is defined, so that faults end the run at once
        return files[:1] if self._settings.filter.semantic.on else []

    def checkpoints(self) -> list[str]:
        """Return the files that represent the models that embed frames, the filter's first."""
        if not self._models.embeds:
            return []
        prompts = self._settings.filter.semantic.on
        # With --sdm conda, the libraries are in the environments of the jobs
        if self._is_main and not self._session.snakemake.deployment_methods:
            or_exit(self._require_transformers, SEMANTIC_MODEL if prompts else DEDUP_MODEL)
        folders = [
            or_exit(lambda model=model: model.checkpoint)
            for model in self._models.embedding_models.values()
        ]
        if prompts:
            or_exit(require_text_tower, folders[0])
        return [str(folder / CONFIG_FILE) for folder in folders]

    def model_files(self, wildcards: Any) -> list[str]:
        """Return the files of the models that are run on frames; rule weights downloads them."""
        content, text = self._settings.filter.content, self._settings.filter.text
        if text.on and self._is_main and not self._session.snakemake.deployment_methods:
            or_exit(require_rapidocr)  # its wheel has the weights
        return [*self.checkpoints(), *([self.weights_file(content.model)] if content.on else [])]

    def model_outputs(self, wildcards: Any) -> list[str]:
        """Return the inputs for filtering a batch."""
        if not self._models.on or not self._is_main:
            return []
        prompts = [self._models.prompts] if self._settings.filter.semantic.on else []
        outputs = self._session.run.model_outputs(wildcards.project, wildcards.batch)
        return [*(ancient(str(file)) for file in prompts), *outputs]

    def model_outputs_of_project(self, wildcards: Any) -> list[str]:
        """Return the inputs that dedup needs to compare embeddings."""
        if not self._models.compares or not self._is_main:
            return []
        return self._session.run.model_outputs(wildcards.project)

    def frames_of_batch(self, wildcards: Any) -> list[str]:
        """Return the inputs for running models on a batch."""
        return self._session.run.extracted(wildcards.batch) if self._is_main else []

    # ---- targets -------------------------------------------------------------------------------

    def filtered(self, wildcards: Any) -> list[str]:
        """Return the marker files of the filter jobs for all projects."""
        return [
            file
            for project in self._session.projects
            for file in self.done_files(f"filter/{project}")
        ]

    def results(self, stage: str) -> Function:
        """Return the results of a stage for all projects."""

        def results(wildcards: Any) -> list[str]:
            if not self._is_main:
                return []
            return [self._unless_due(stage, project) for project in self._session.projects]

        return results

    def begins_with(self, *stages: str) -> Function:
        """Return the list of batches if a stage of a project is due, or rows lag behind files.

        Targets have it as an input, because Snakemake makes missing inputs only if another rule
        needs them. Otherwise a file that exists is returned: a target without inputs always runs.
        """

        def begin(wildcards: Any) -> str | list[str]:
            if not self._is_main:
                return []
            projects = self._session.projects
            is_due = self._session.run.to_adopt or any(
                self._is_remade(project, stage) for project in projects for stage in stages
            )
            return self.batch_list() if is_due else ancient(self._session.snakemake.main_file)

        return begin
