"""The tables of the server's database.

`number` columns grow by one a row and order what is listed; `id` is what the API shows. Times are whole UTC seconds;
a lease is counted on the machine's monotonic clock instead, which no clock change moves, and is worth nothing after a
reboot.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

projects = sa.Table(
    "projects", metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("created_at", sa.Integer, nullable=False),
)  # fmt: skip

keys = sa.Table(
    "keys", metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("hash", sa.String, nullable=False, unique=True),
    sa.Column("hint", sa.String, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("last_used_at", sa.Integer),
    sa.Column("revoked_at", sa.Integer),
    sa.Column("expires_at", sa.Integer),
)  # fmt: skip

files = sa.Table(
    "files", metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), nullable=False, index=True),
    sa.Column("filename", sa.String, nullable=False),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("expires_at", sa.Integer),
    sqlite_autoincrement=True,
)  # fmt: skip

jobs = sa.Table(
    "jobs", metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), nullable=False, index=True),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("finished_at", sa.Integer),
    sa.Column("status", sa.String, nullable=False, index=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("base", sa.String, nullable=False),
    sa.Column("warm_from", sa.String),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("request_hash", sa.String, nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("training_file", sa.String, nullable=False),
    sa.Column("validation_file", sa.String),
    sa.Column("hyperparameters", sa.JSON, nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("fine_tuned_model", sa.String),
    sa.Column("result_file", sa.String),
    sa.Column("trained_tokens", sa.Integer),
    sa.Column("estimated_finish", sa.Integer),
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("token", sa.Integer, nullable=False, default=0),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("lease_boot", sa.String),
    sa.Column("lease_until", sa.Float),
    sa.Column("worker_pid", sa.Integer),
    sa.Column("worker_start", sa.Float),
    sqlite_autoincrement=True,
)  # fmt: skip

events = sa.Table(
    "events", metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("job_id", sa.String, sa.ForeignKey("jobs.id"), nullable=False, index=True),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("level", sa.String, nullable=False),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("message", sa.String, nullable=False),
    sa.Column("data", sa.JSON(none_as_null=True)),
    sqlite_autoincrement=True,
)  # fmt: skip

checkpoints = sa.Table(
    "checkpoints", metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("job_id", sa.String, sa.ForeignKey("jobs.id"), nullable=False, index=True),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.UniqueConstraint("job_id", "step"),
    sqlite_autoincrement=True,
)  # fmt: skip

models = sa.Table(
    "models", metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), nullable=False, index=True),
    sa.Column("job_id", sa.String, sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("base", sa.String, nullable=False),
    sa.Column("checkpoint", sa.String, nullable=False),
    sa.Column("package", sa.String),
    sqlite_autoincrement=True,
)  # fmt: skip

batches = sa.Table(
    "batches", metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), nullable=False, index=True),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("expires_at", sa.Integer, nullable=False),
    sa.Column("status", sa.String, nullable=False, index=True),
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

idempotency = sa.Table(
    "idempotency", metadata,
    sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("request_hash", sa.String, nullable=False),
    sa.Column("job_id", sa.String, sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
)  # fmt: skip
