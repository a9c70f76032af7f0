"""The budget that all nodes share, and the breakers of sources that refuse."""

from alembic import op

revision = "0004"
down_revision = "0003"

# fillfactor: each permit rewrites the row, without index work (HOT) while the page has room
_BUDGETS = """
CREATE TABLE budgets (
    source varchar NOT NULL,
    lane varchar NOT NULL,
    spacing double precision NOT NULL,
    latest_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    stated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    permits bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (source, lane),
    CONSTRAINT ck_budgets_lane CHECK (lane IN ('request', 'media', 'download')),
    CONSTRAINT ck_budgets_limits CHECK (spacing > 0 AND permits >= 0)
) WITH (fillfactor = 50)
"""

_BREAKERS = """
CREATE TABLE breakers (
    source varchar PRIMARY KEY,
    strikes integer NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    open_until timestamptz,
    reason varchar NOT NULL,
    probe_by varchar,
    probe_until timestamptz,
    CONSTRAINT ck_breakers_open CHECK (
        strikes >= 0 AND (strikes > 0) = (open_until IS NOT NULL)),
    CONSTRAINT ck_breakers_probe CHECK ((probe_by IS NULL) = (probe_until IS NULL))
)
"""


def upgrade() -> None:
    """Make the tables."""
    for statement in (_BUDGETS, _BREAKERS):
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables."""
    for table in ("breakers", "budgets"):
        op.execute(f"DROP TABLE {table}")
