"""``dataminer budget``: show the rate limits and pauses of sources, and end pauses."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Optional

import typer

from dataminer.text import tell

app = typer.Typer(
    help="The rate limits that all nodes share, and the sources that pause because they refused "
    "requests. Set the limits in the configuration, under download.budget.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show requests and rate limit of each source, and the sources that pause; changes nothing.

    Example: dataminer budget show
    """
    from dataminer.monitor.status import pause_end
    from dataminer.sync.rate_limit import breakers

    seen = breakers.read_budget()
    if as_json:
        print(json.dumps(seen, indent=2, default=datetime.isoformat))
        return
    for row in seen["budgets"]:
        ahead = f", the next in {row['seconds_ahead']:.0f} s" if row["seconds_ahead"] > 0 else ""
        text = f"{row['permits']:,} so far, at least {row['spacing']:.3g} s apart{ahead}"
        print(f"{row['source']}  {row['lane']}s: {text}")
    for row in seen["pauses"]:
        tell(f"{row['source']}  pauses: {pause_end(row)}: {row['reason']}")
    if not seen["budgets"]:
        print("no requests yet")


@app.command()
def reset(
    source: Annotated[
        Optional[str],
        typer.Argument(help="Only this source, as `show` names it.", show_default="all"),
    ] = None,
) -> None:
    """End the pauses of sources; waiting jobs continue within seconds.

    The limits do not change.

    Example: dataminer budget reset youtube
    """
    from dataminer.sync.rate_limit import breakers

    gone = breakers.reset(source)
    print(f"no longer paused: {', '.join(gone)}" if gone else "nothing paused")
