"""Keys may end by themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the time; the keys that are there go on until they are revoked."""
    op.add_column("keys", sa.Column("expires_at", sa.Integer))
