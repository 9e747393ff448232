"""The tables. Their names differ from Optuna's, so that both can be in one database."""

from collections.abc import Iterable
from typing import get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    case,
    false,
    or_,
)

from service.domain.states import AttemptEnd, StudyState, TrialState, ValueKind, WorkerState
from trainer.protocol import FailureReason

VERSION_TABLE = "thaw_schema"
OPEN = tuple(state for state in TrialState if not state.terminal)

metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s"})

RowKey = BigInteger().with_variant(Integer, "sqlite")  # SQLite generates keys only for the type INTEGER


def _one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


database_identity = Table(
    "database_identity",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),  # always 1: the table has one row
    Column("id", String(32), nullable=False),  # random; marks the files on disk that belong to this database
    CheckConstraint("one = 1", name="single"),
)

study = Table(
    "study",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text),
    Column("spec", Text, nullable=False),
    Column("facts", Text),
    Column("recheck", Boolean, nullable=False, server_default=false()),  # data and weights have to be checked again before a trial starts
    Column("confirmation", Text),  # the compared trials, once the confirmation has begun
    Column("created", Integer, nullable=False),
    Column("exhausted", Boolean, nullable=False),  # the sampler has nothing left to suggest
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row; lost trials are not counted
    Column("seq", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("unpublished", BigInteger),  # null: visible; else the number of transactions of its import, or GIVEN_UP
    Column("idle_seconds", Double, nullable=False, server_default="0"),  # between an end of the study and its resumption
    _one_of("state", StudyState),
)

VISIBLE = study.c.unpublished.is_(None)
"""Whether the study is visible. Imports are hidden until their last transaction, deleted studies from the deletion on."""

GIVEN_UP = -1
"""Value of `unpublished` for deleted studies and failed imports, whose rows the sweeper deletes."""

manifest = Table(
    "manifest",
    metadata,
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), primary_key=True),
    Column("digests", Text, nullable=False),  # see trainer.protocol.Checked
)

trial = Table(
    "trial",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("params", JSON, nullable=False),
    Column("params_key", String(64), nullable=False),  # SHA-256 of the canonical JSON of params
    Column("value", Double),
    Column("value_kind", String(8), nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("step", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # fencing token: 0 until the first claim
    Column("lost", Integer, nullable=False),  # number of lost workers
    Column("crashes", Integer, nullable=False, server_default="0"),  # number of crashed trainer processes
    Column("heartbeat", BigInteger, nullable=False),
    Column("worker", String(128)),
    Column("checkpoints", JSON, nullable=False),
    Column("reason", String(16)),
    Column("detail", Text),
    Column("duplicate_of", Integer),
    Column("source", String(16), nullable=False),
    Column("confirms", Integer),  # number of the trial of the search that it repeats
    Column("round", Integer),  # of the confirmation, from 1
    Column("memory", JSON, nullable=False),
    Column("result", JSON, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("queued_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("least_device_bytes", BigInteger),  # memory of a device that may claim it, after it ran out of memory on a smaller one
    UniqueConstraint("study_id", "number"),
    Index(None, "study_id", "params_key"),
    Index(None, "study_id", "state"),
    Index(None, "study_id", "changed"),
    _one_of("state", TrialState),
    _one_of("value_kind", ValueKind),
    _one_of("reason", get_args(FailureReason)),
    CheckConstraint("(value_kind = 'finite') = (value IS NOT NULL)", name="value_is_finite"),
    CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name="failure_has_reason"),
    CheckConstraint("(source = 'confirmation') = (confirms IS NOT NULL AND round IS NOT NULL)", name="confirmation_has_round"),
    CheckConstraint("state <> 'running' OR (worker IS NOT NULL AND attempt > 0)", name="running_has_lease"),
)

FITS = or_(trial.c.least_device_bytes.is_(None), trial.c.least_device_bytes <= bindparam("device_bytes"))
"""Whether a device with `device_bytes` of memory may start the trial."""

CLAIM_ORDER = (case((trial.c.attempt > 0, 0), else_=1), trial.c.number)
"""Trials that were started before come first, then by number."""

metric = Table(
    "metric",
    metadata,
    Column("trial", ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("name", String(64), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("value", Double),
    Column("kind", String(8), nullable=False),
    Column("seq", BigInteger, nullable=False),
    _one_of("kind", ValueKind),
    CheckConstraint("(kind = 'finite') = (value IS NOT NULL)", name="value_is_finite"),
    sqlite_with_rowid=False,
)

attempt = Table(
    "attempt",
    metadata,
    Column("trial", ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("worker", String(128), nullable=False),
    Column("resumed", Integer, nullable=False),  # step of the checkpoint that it resumed from; 0: from the beginning
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("ending", String(16)),
    Column("step", Integer),  # last reported step at its end
    Column("detail", Text),
    Column("log_bytes", Integer, nullable=False, server_default="0"),
    Column("token_sha256", String(64)),  # of the token of a claim over REST; null for an attempt of a worker process
    _one_of("ending", AttemptEnd),
    CheckConstraint("(ending IS NULL) = (ended_at IS NULL)", name="ending_has_time"),
    sqlite_with_rowid=False,
)

log = Table(
    "log",
    metadata,
    Column("trial", ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),  # of the chunk within the attempt, from 1
    Column("at", Double, nullable=False),
    Column("text", Text, nullable=False),  # whole lines
    sqlite_with_rowid=False,
)

standstill = Table(
    "standstill",
    metadata,
    Column("trial", ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True),
    Column("heartbeats", BigInteger, nullable=False),  # of the stale lease; a different number on the trial makes the row void
    Column("seconds", Double, nullable=False),  # of observation by successive reapers, each by its own monotonic clock
    sqlite_with_rowid=False,
)

event = Table(
    "event",
    metadata,
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("body", JSON, nullable=False),
    Column("at", Double, nullable=False),
    sqlite_with_rowid=False,
)

worker = Table(
    "worker",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("devices", JSON, nullable=False),
    Column("memory", JSON(none_as_null=True)),  # bytes of each device, null if unknown
    Column("device_names", JSON(none_as_null=True)),  # readable names, in the order of `devices`
    Column("unusable", JSON(none_as_null=True)),  # devices that the worker cannot use: device, name, detail, remedy
    Column("scripts", JSON(none_as_null=True)),  # folders in which it may run scripts; null: in none
    Column("set_aside", Integer, nullable=False, server_default="0"),  # results on its disk that the database refused
    Column("state", String(16), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    _one_of("state", WorkerState),
)

unavailable = Table(
    "unavailable",  # studies whose data or weights a worker cannot read
    metadata,
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), primary_key=True),
    Column("worker", String(128), primary_key=True),
    Column("what", String(8), nullable=False),
    Column("detail", Text, nullable=False),
    Column("since", Double, nullable=False),
    _one_of("what", ("data", "weights", "script")),
    sqlite_with_rowid=False,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("answer", Text),
    Column("at", Double, nullable=False, index=True),
    Column("study_id", String(16), index=True),  # of the answer; deleting the study deletes the answer
)

session_key = Table(
    "session_key",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("key", String(64), nullable=False),
    CheckConstraint("one = 1", name="single"),
)
"""One row, inserted by the migration: the key that signs session cookies on all servers of this database."""

sink = Table(
    "sink",  # a receiver of events outside: a webhook, a tracking server
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(32)),  # the process that delivers; null: none
    Column(
        "beats", BigInteger, nullable=False, server_default="0"
    ),  # of the owner; other processes watch it as a reaper watches heartbeats
    Column("seen_at", Double, nullable=False),
    Column("delivered", BigInteger, nullable=False, server_default="0"),  # events
    Column("skipped", BigInteger, nullable=False, server_default="0"),  # events that the receiver refused
    Column("delivered_at", Double),
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row
    Column("failed_at", Double),
    Column("error", Text),  # of the last failure
)

sink_cursor = Table(
    "sink_cursor",
    metadata,
    Column("sink", ForeignKey("sink.name", ondelete="CASCADE"), primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, nullable=False),  # of the last delivered event
    sqlite_with_rowid=False,
)
