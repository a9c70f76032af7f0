"""All jobs of a project, one after the other in one process: `python -m` this, and the last stage.

What a run must come to, for a fraction of its processor time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dataminer import planning
from dataminer.config import load_files
from dataminer.store.layout import Store
from dataminer.sync.claims.stage_rows import STAGES
from dataminer.sync.jobs.dedup import dedup_project
from dataminer.sync.jobs.detect import detect_project
from dataminer.sync.jobs.download import download_video
from dataminer.sync.jobs.extract import extract_video
from dataminer.sync.jobs.filter import filter_video


def main(last: str) -> None:
    """Do all stages up to ``last`` in the working directory, as its configuration says."""
    config = load_files()
    stages = list(STAGES)[: list(STAGES).index(last) + 1]
    for project in config.project_names:
        for video_id in sorted(planning.plan(config, [project]).members[project]):
            if "download" in stages:
                download_video(config, video_id)
            if "extract" in stages:
                extract_video(config, video_id)
            if "filter" in stages:
                filter_video(config, project, video_id)
        if "dedup" in stages:
            dedup_project(config, project)
        if "detect" in stages:
            sheet = Store(config.store_path).report(project) / "contact_sheet.jpg"
            sheet.parent.mkdir(parents=True)
            detect_project(config, project, Path(config.detect.model), sheet)


if __name__ == "__main__":
    main(sys.argv[1])
