"""``dataminer budget``: what sources are asked, which of them pause, and an end to that."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Optional

import typer

from dataminer.text import tell

app = typer.Typer(
    help="The budget that all nodes share: how often each source may be asked, and which sources "
    "refuse and are left alone for a while. The limits stand in the configuration, under "
    "download.budget.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show what each source was asked and how often it may be, and which pause; reads only.

    Example: dataminer budget show
    """
    from dataminer.monitor.status import told_until
    from dataminer.sync.rate_limit import shared

    seen = shared.show()
    if as_json:
        print(json.dumps(seen, indent=2, default=datetime.isoformat))
        return
    for row in seen["budgets"]:
        ahead = f", the next in {row['seconds_ahead']:.0f} s" if row["seconds_ahead"] > 0 else ""
        told = f"{row['permits']:,} so far, at least {row['spacing']:.3g} s apart{ahead}"
        print(f"{row['source']}  {row['lane']}s: {told}")
    for row in seen["pauses"]:
        tell(f"{row['source']}  pauses: {told_until(row)}: {row['reason']}")
    if not seen["budgets"]:
        print("nothing was asked yet")


@app.command()
def reset(
    source: Annotated[
        Optional[str],
        typer.Argument(help="Only this one, as `show` names it.", show_default="all"),
    ] = None,
) -> None:
    """Let sources that pause be asked again at once; waiting jobs go on within seconds.

    The limits stay as they are.

    Example: dataminer budget reset youtube
    """
    from dataminer.sync.rate_limit import shared

    gone = shared.reset(source)
    print(f"no pause any more: {', '.join(gone)}" if gone else "nothing paused")
