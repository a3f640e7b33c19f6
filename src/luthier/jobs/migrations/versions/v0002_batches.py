"""Batches: the first schema had a table for them, into which no version wrote; this is the one that is used."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table anew."""
    op.drop_table("batches")
    op.create_table(
        "batches",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.Integer, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("endpoint", sa.String, nullable=False),
        sa.Column("model", sa.String),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("request_hash", sa.String, nullable=False),
        sa.Column("key", sa.String),
        sa.Column("input_file", sa.String, nullable=False),
        sa.Column("output_file", sa.String),
        sa.Column("error_file", sa.String),
        sa.Column("errors", sa.JSON(none_as_null=True)),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("usage", sa.JSON, nullable=False),
        sa.Column("times", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_index("ix_batches_project_id", "batches", ["project_id"])
    op.create_index("ix_batches_status", "batches", ["status"])
