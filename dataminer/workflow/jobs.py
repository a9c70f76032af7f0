"""What Snakemake asks about jobs: their inputs, parameters and resources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dataminer.sync.batches.batch_list import BatchList
from dataminer.vision.checkpoint import require_transformers
from dataminer.vision.hub import CONFIG_FILE
from dataminer.vision.weights import file_of, to_fetch, weights_path
from dataminer.workflow.run import RUNS
from dataminer.workflow.session import WorkflowSession, or_exit
from dataminer.workflow.snakemake_compat import ancient

MODELS = Path("models")

_T = TypeVar("_T")
Function = Callable[..., Any]
"""What Snakemake calls for an input, a parameter or a resource, with the wildcards of a job."""


class Jobs:
    """The functions that rules name.

    In the main process they answer from the plan. A job on a node reads the Snakefile again: there
    they answer from the list of batches, or with nothing.

    Parameters
    ----------
    session : WorkflowSession
        This process.
    """

    def __init__(self, session: WorkflowSession) -> None:
        self._session = session
        self._is_main = session.is_main
        self._settings, self._store = session.settings, session.store
        self._models = session.frame_models

    # ---- batches -------------------------------------------------------------------------------

    def of_run(self, name: str) -> str:
        """Return the path of something that the jobs of a run leave to say that they are done."""
        return str(RUNS / "{run}" / name)

    def done_files(self, rule: str) -> list[str]:
        """Return what the jobs of a batch rule leave; a job on a node asks for none of it."""
        return self._session.run.listed.done_files(rule) if self._is_main else []

    def batch_list(self, wildcards: Any = None) -> str:
        """Return the list of this run's batches: what it is made for is due."""
        return str(self._session.run.listed.path)

    def batch_list_of_run(self, wildcards: Any) -> str:
        """Return the list of batches that a job reads."""
        return self.of_run("batches.json").format(run=wildcards.run)

    def listed(self, wildcards: Any) -> Any:
        """Return the contents of the list of batches; a job on a node is given the file."""
        return self._session.run.listed.as_json() if self._is_main else None

    def reasons(self, wildcards: Any) -> Any:
        """Return why something is left to do."""
        return self._session.run.plan.reasons() if self._is_main else None

    def adopted(self, wildcards: Any) -> str | list[str]:
        """Return what says that rows agree with files, if they did not."""
        return (
            str(self._session.run.adopted) if self._is_main and self._session.run.to_adopt else []
        )

    def of_batch(self, tell: Callable[[BatchList, str, str], _T], rule: str) -> Callable[..., _T]:
        """Return a function of a batch: as it was planned or, on a node, as it is listed."""

        def of(wildcards: Any) -> _T:
            if self._is_main:
                batches = self._session.run.listed
            else:
                batches = BatchList.read(Path(self.batch_list_of_run(wildcards)))
            return tell(batches, rule.format(**wildcards), wildcards.batch)

        return of

    def workers(self, rule: str) -> Function:
        """Return the workers of a batch: its threads here, and the cores that it asks Slurm for."""
        return self.of_batch(BatchList.workers, rule)

    def first_videos(self, rule: str) -> Function:
        """Return what names the first videos of a batch, for its message."""
        return self.of_batch(BatchList.first_videos, rule)

    def after(self, rule: str) -> Function:
        """Return what must be done before a batch; the list of batches if nothing must.

        On a node as well: of two jobs of a group it must know the order.
        """
        done_files = self.of_batch(BatchList.done_files_of_batch, rule)
        return lambda wildcards: done_files(wildcards) or self.batch_list_of_run(wildcards)

    def downloads(self, wildcards: Any) -> int:
        """Return how many videos a batch downloads at once."""
        most = int(self._session.snakemake.limit("downloads") or 1)
        return max(1, min(self.of_batch(BatchList.downloads_at_once, "download")(wildcards), most))

    # ---- resources -----------------------------------------------------------------------------

    def growing(self, amount: int) -> Function:
        """Return a resource that grows with each attempt: a job killed for lack of it gets more."""

        def resource(wildcards: Any, attempt: int) -> int:
            return amount * attempt

        return resource

    def per_worker(self, amount: int, rule: str) -> Function:
        """Return memory that grows with the videos that a batch works on at once, and attempts."""
        count = self.workers(rule)

        def resource(wildcards: Any, attempt: int) -> int:
            return int(amount * count(wildcards) * attempt)

        return resource

    def minutes(self, rule: str) -> Function:
        """Return the run time that a batch is given."""

        def resource(wildcards: Any, attempt: int) -> int:
            if not self._is_main:
                return 1
            return self._session.run.minutes(rule.format(**wildcards), wildcards.batch, attempt)

        return resource

    # ---- results of projects -------------------------------------------------------------------

    def _unless_due(self, stage: str, project: str) -> str:
        """Return a project's result that is to be made before, or is up to date."""
        path = self._result(project, stage)
        if not self._is_main or self._session.run.plan.is_due(project, stage):
            return str(path)
        return ancient(str(path))

    def _is_remade(self, project: str, stage: str) -> bool:
        """Tell whether a stage is due whose result exists, so that Snakemake must be told."""
        is_due = self._session.run.plan.is_due(project, stage)
        return is_due and self._result(project, stage).exists()

    def _result(self, project: str, stage: str) -> Path:
        return {
            "dedup": self._store.dedup(project) / "frames.parquet",
            "detect": self._store.detect(project) / "annotations.json",
            "report": self._store.report(project) / "index.html",
        }[stage]

    def if_due(self, stage: str) -> Function:
        """Return what has a stage of a project run again if it is due: a file new in each run."""

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
        """Return the file of a model's weights: as given, or models/NAME, which is fetched."""
        resolve = to_fetch if self._is_main else weights_path
        file = file_of(or_exit(resolve, model, MODELS), model)
        return ancient(str(file)) if file.exists() else str(file)

    def detect_weights(self, wildcards: Any) -> str:
        """Return the file of the detector's weights."""
        return self.weights_file(self._settings.detect.model)

    def shards(self, wildcards: Any) -> list[str]:
        """Return what the jobs leave that share a project's frames; nothing if one has them all."""
        parts = self._settings.detect.jobs
        folder = self._store.detect_shards(wildcards.project)
        names = (f"{part}-of-{parts}.done" for part in range(parts))
        return [str(folder / name) for name in names] if parts > 1 else []

    def checkpoint(self) -> list[str]:
        """Return the file that stands for the model of the semantic filter, if it is used."""
        if not self._models.embeds:
            return []
        # with --sdm conda the libraries are where the jobs run, and need not be here
        if self._is_main and not self._session.snakemake.deployment_methods:
            or_exit(require_transformers)
        return [str(or_exit(lambda: self._models.checkpoint) / CONFIG_FILE)]

    def model_files(self, wildcards: Any) -> list[str]:
        """Return the files of the models that are run on frames; rule weights fetches them."""
        content = self._settings.filter.content
        return [*self.checkpoint(), *([self.weights_file(content.model)] if content.on else [])]

    def model_outputs(self, wildcards: Any) -> list[str]:
        """Return what must be there before a batch is filtered."""
        if not self._models.on or not self._is_main:
            return []
        prompts = [self._models.prompts] if self._settings.filter.semantic.on else []
        outputs = self._session.run.model_outputs(wildcards.project, wildcards.batch)
        return [*(ancient(str(file)) for file in prompts), *outputs]

    def model_outputs_of_project(self, wildcards: Any) -> list[str]:
        """Return what must be there before dedup compares embeddings."""
        if not self._models.compares or not self._is_main:
            return []
        return self._session.run.model_outputs(wildcards.project)

    def frames_of_batch(self, wildcards: Any) -> list[str]:
        """Return what must be done before models are run on a batch."""
        return self._session.run.extracted(wildcards.batch) if self._is_main else []

    # ---- targets -------------------------------------------------------------------------------

    def filtered(self, wildcards: Any) -> list[str]:
        """Return what the jobs leave that filter frames, for all projects."""
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

        Asked for by targets, as Snakemake makes missing inputs only if something else asks for
        them. Otherwise a file that exists: a target without any input always runs.
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
