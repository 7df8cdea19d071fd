-- What the graders found, and the calls they judged.

CREATE TABLE IF NOT EXISTS ${spread:grades}
(
    TraceId       String                 CODEC(ZSTD(1)),
    SpanId        String                 CODEC(ZSTD(1)),
    Grader        LowCardinality(String) CODEC(ZSTD(1)),
    Subject       String                 CODEC(ZSTD(1)),
    GraderVersion LowCardinality(String) CODEC(ZSTD(1)),
    ConfigDigest  LowCardinality(String) CODEC(ZSTD(1)),
    Outcome       Enum8('pass' = 1, 'fail' = 2, 'unknown' = 3, 'skip' = 4, 'error' = 5),
    Score         Nullable(Float64)      CODEC(ZSTD(1)),
    Label         LowCardinality(String) CODEC(ZSTD(1)),
    Reason        String                 CODEC(ZSTD(1)),
    Severity      LowCardinality(String) CODEC(ZSTD(1)),
    Evidence      String                 CODEC(ZSTD(1)),
    Completeness  LowCardinality(String) CODEC(ZSTD(1)),
    Generation    UInt32                 CODEC(ZSTD(1)),
    CaseDigest    LowCardinality(String) CODEC(ZSTD(1)),
    GradedAt      DateTime64(3) DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ${divided:ReplacingMergeTree(GradedAt)}
ORDER BY (TraceId, SpanId, Grader, Subject, Generation)
TTL toDateTime(GradedAt) + INTERVAL ${retention_days} DAY;

CREATE TABLE IF NOT EXISTS ${spread:tool_calls}
(
    TraceId         String                 CODEC(ZSTD(1)),
    CallKey         String                 CODEC(ZSTD(1)),
    Position        UInt32                 CODEC(ZSTD(1)),
    CallId          String                 CODEC(ZSTD(1)),
    ToolName        LowCardinality(String) CODEC(ZSTD(1)),
    SpanId          String                 CODEC(ZSTD(1)),
    RequestSpanId   String                 CODEC(ZSTD(1)),
    Start           DateTime64(9)          CODEC(Delta, ZSTD(1)),
    DurationNs      UInt64                 CODEC(ZSTD(1)),
    Arguments       String                 CODEC(ZSTD(1)),
    ArgumentsState  LowCardinality(String) CODEC(ZSTD(1)),
    Result          String                 CODEC(ZSTD(1)),
    ResultState     LowCardinality(String) CODEC(ZSTD(1)),
    Executed        Enum8('unknown' = 0, 'yes' = 1, 'no' = 2),
    Error           String                 CODEC(ZSTD(1)),
    ApprovalState   LowCardinality(String) CODEC(ZSTD(1)),
    Agent           LowCardinality(String) CODEC(ZSTD(1)),
    Generation      UInt32                 CODEC(ZSTD(1)),
    WrittenAt       DateTime64(3) DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ${divided:ReplacingMergeTree(WrittenAt)}
ORDER BY (TraceId, CallKey, Generation)
TTL toDateTime(WrittenAt) + INTERVAL ${retention_days} DAY;

-- Written last: a trace without its mark is graded again, which replaces rows and adds none.
CREATE TABLE IF NOT EXISTS ${spread:graded_traces}
(
    TraceId      String,
    Generation   UInt32,
    LastIngested DateTime64(3),
    Completeness LowCardinality(String),
    GraderSet    LowCardinality(String),
    GradedAt     DateTime64(3) DEFAULT now64(3),
    INDEX idx_last_ingested LastIngested TYPE minmax GRANULARITY 1
)
ENGINE = ${divided:ReplacingMergeTree(GradedAt)}
ORDER BY TraceId
TTL toDateTime(GradedAt) + INTERVAL ${retention_days} DAY;

-- The grades that count: those of the newest generation of each trace, unless its mark was taken back.
CREATE VIEW IF NOT EXISTS ${spread:grades_v} AS
SELECT g.*
FROM ${part:grades} AS g FINAL
INNER JOIN (SELECT TraceId, Generation FROM ${part:graded_traces} FINAL WHERE LastIngested > toDateTime64(0, 3)) AS m ON g.TraceId = m.TraceId AND g.Generation = m.Generation;
