"""What a source that pauses has refused with: too many requests, or a check for robots."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; which of the two an older pause was for is not known."""
    op.execute(
        "ALTER TABLE breakers ADD error_class varchar NOT NULL DEFAULT 'rate_limit',"
        " ADD CONSTRAINT ck_breakers_error_class"
        " CHECK (error_class IN ('rate_limit', 'bot_check'))"
    )


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE breakers DROP error_class")
