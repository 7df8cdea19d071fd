-- What joins the traces of one conversation: a run that waits for an approval is resumed in a new trace, and the decision is
-- in either.

CREATE TABLE IF NOT EXISTS ${spread:approvals}
(
    TraceId        String                 CODEC(ZSTD(1)),
    Position       UInt32                 CODEC(ZSTD(1)),
    ConversationId String                 CODEC(ZSTD(1)),
    CallId         String                 CODEC(ZSTD(1)),
    ToolName       LowCardinality(String) CODEC(ZSTD(1)),
    Outcome        LowCardinality(String) CODEC(ZSTD(1)),
    Mechanism      LowCardinality(String) CODEC(ZSTD(1)),
    Decider        String                 CODEC(ZSTD(1)),
    Roles          Array(String)          CODEC(ZSTD(1)),
    Scope          LowCardinality(String) CODEC(ZSTD(1)),
    ArgumentsHash  String                 CODEC(ZSTD(1)),
    ApprovalId     String                 CODEC(ZSTD(1)),
    Time           DateTime64(9)          CODEC(Delta, ZSTD(1)),
    Expires        Nullable(DateTime64(9)) CODEC(ZSTD(1)),
    Evidence       LowCardinality(String) CODEC(ZSTD(1)),
    SpanId         String                 CODEC(ZSTD(1)),
    Generation     UInt32                 CODEC(ZSTD(1)),
    WrittenAt      DateTime64(3) DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ${divided:ReplacingMergeTree(WrittenAt)}
ORDER BY (TraceId, Position, Generation)
TTL toDateTime(WrittenAt) + INTERVAL ${retention_days} DAY;

-- Which graded traces a conversation has.
CREATE TABLE IF NOT EXISTS ${spread:conversations}
(
    ConversationId String                 CODEC(ZSTD(1)),
    TraceId        String                 CODEC(ZSTD(1)),
    WrittenAt      DateTime64(3) DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ${divided:ReplacingMergeTree(WrittenAt)}
ORDER BY (ConversationId, TraceId)
TTL toDateTime(WrittenAt) + INTERVAL ${retention_days} DAY;

-- How many rows of spans a grading saw. Two inserts may overlap: the one that began first, and so has the earlier arrival, may be
-- there last, after the trace was marked with the later one.
ALTER TABLE ${spread:graded_traces} ADD COLUMN IF NOT EXISTS SpanRows UInt64 DEFAULT 0;
ALTER TABLE ${here:graded_traces} ADD COLUMN IF NOT EXISTS SpanRows UInt64 DEFAULT 0;

-- The tool calls and the approvals that count: those of the newest generation of each trace.
CREATE VIEW IF NOT EXISTS ${spread:tool_calls_v} AS
SELECT c.*
FROM ${part:tool_calls} AS c FINAL
INNER JOIN (SELECT TraceId, Generation FROM ${part:graded_traces} FINAL) AS m ON c.TraceId = m.TraceId AND c.Generation = m.Generation;

CREATE VIEW IF NOT EXISTS ${spread:approvals_v} AS
SELECT a.*
FROM ${part:approvals} AS a FINAL
INNER JOIN (SELECT TraceId, Generation FROM ${part:graded_traces} FINAL) AS m ON a.TraceId = m.TraceId AND a.Generation = m.Generation;

-- Which grading of which trace a decision rests on. It grows by rows alone, as `decisions` does.
CREATE TABLE IF NOT EXISTS ${here:decision_evidence}
(
    DecisionId String,
    TraceId    String CODEC(ZSTD(1)),
    Arm        LowCardinality(String),
    Generation UInt32 CODEC(ZSTD(1))
)
ENGINE = ${everywhere:MergeTree}
ORDER BY (DecisionId, TraceId, Arm);

-- Decisions, and how much of what each rests on was graded again since. NULL where that was not recorded.
CREATE VIEW IF NOT EXISTS ${here:decisions_v} AS
SELECT d.*, if(e.Traces > 0, e.Traces, NULL) AS EvidenceTraces, if(e.Traces > 0, e.Superseded, NULL) AS SupersededTraces
FROM decisions AS d
LEFT JOIN
(
    SELECT DecisionId, uniqExact(e.TraceId) AS Traces, uniqExactIf(e.TraceId, m.Generation > e.Generation) AS Superseded
    FROM decision_evidence AS e
    LEFT JOIN (SELECT TraceId, max(Generation) AS Generation FROM ${all:graded_traces} GROUP BY TraceId) AS m ON e.TraceId = m.TraceId
    GROUP BY DecisionId
) AS e ON d.DecisionId = e.DecisionId;
