"""Which store the database goes with; rows that only name other paths have not changed."""

from alembic import op

revision = "0009"
down_revision = "0008"

_STORE = """
CREATE TABLE dataminer_store (
    one boolean PRIMARY KEY DEFAULT true,
    token varchar NOT NULL,
    path varchar NOT NULL,
    root varchar NOT NULL,
    inode bigint NOT NULL,
    place varchar NOT NULL,
    CONSTRAINT ck_dataminer_store_one CHECK (one)
)
"""
# roles that others have let in go on working
_GRANTS = """
DO $$
DECLARE found record;
BEGIN
    FOR found IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS who,
            privilege_type AS what
        FROM pg_class, aclexplode(relacl) WHERE oid = 'videos'::regclass AND grantee <> relowner
    LOOP
        EXECUTE format('GRANT %s ON dataminer_store TO %s', found.what, found.who);
    END LOOP;
    IF (SELECT relowner::regrole::text FROM pg_class WHERE oid = 'videos'::regclass)
        <> quote_ident(current_user) THEN
        EXECUTE format('ALTER TABLE dataminer_store OWNER TO %s',
            (SELECT relowner::regrole::text FROM pg_class WHERE oid = 'videos'::regclass));
    END IF;
END $$
"""
_TOUCH = """
CREATE OR REPLACE FUNCTION dataminer_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
{}
    RETURN NEW;
END $$
"""
_UNLESS_MOVED = """    IF current_setting('dataminer.store_moves', true) IS DISTINCT FROM 'on' THEN
        NEW.updated_at = clock_timestamp();
    END IF;"""


def upgrade() -> None:
    """Make the table; the next run finds out which store it is."""
    op.execute(_STORE)
    op.execute(_GRANTS)
    op.execute(_TOUCH.format(_UNLESS_MOVED))


def downgrade() -> None:
    """Drop it."""
    op.execute(_TOUCH.format("    NEW.updated_at = clock_timestamp();"))
    op.execute("DROP TABLE dataminer_store")
