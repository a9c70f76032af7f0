# Settings, plan and hooks of this process, shared by all rules.
from dataminer.store.layout import INFO_FILE, SHEET_FILE
from dataminer.workflow.jobs import MODELS, Jobs
from dataminer.workflow.session import WorkflowSession
from snakemake.logging import logger


wildcard_constraints:
    video_id=r"[A-Za-z0-9_-]+",
    project=r"[A-Za-z0-9_-]+",
    weights=r"[A-Za-z0-9_.-]+",
    part=r"\d+",
    parts=r"\d+",
    run=r"\d{8}-\d{6}-[0-9a-f]{6}",
    batch=r"[A-Za-z0-9_-]+",


session = WorkflowSession(workflow, config, logger)
jobs = Jobs(session)
if session.is_main:  # a job needs none of its imports
    from dataminer.workflow.hooks import Hooks

    hooks = Hooks(session)
settings, store = session.settings, session.store
