-- What the spans mean to an agent, in one vocabulary, and one row for each trace.

CREATE TABLE IF NOT EXISTS ${spread:agent_spans}
(
    TraceId            String                              CODEC(ZSTD(1)),
    Timestamp          DateTime64(9)                       CODEC(Delta, ZSTD(1)),
    SpanId             String                              CODEC(ZSTD(1)),
    ParentSpanId       String                              CODEC(ZSTD(1)),
    SpanName           LowCardinality(String)              CODEC(ZSTD(1)),
    Kind               LowCardinality(String)              CODEC(ZSTD(1)),
    Dialect            LowCardinality(String)              CODEC(ZSTD(1)),
    MappingVersion     LowCardinality(String)              CODEC(ZSTD(1)),
    Service            LowCardinality(String)              CODEC(ZSTD(1)),
    ServiceVersion     LowCardinality(String)              CODEC(ZSTD(1)),
    Arm                LowCardinality(String)              CODEC(ZSTD(1)),
    RunId              LowCardinality(String)              CODEC(ZSTD(1)),
    CaseId             String                              CODEC(ZSTD(1)),
    Suite              LowCardinality(String)              CODEC(ZSTD(1)),
    Replay             UInt32                              CODEC(ZSTD(1)),
    Agent              LowCardinality(String)              CODEC(ZSTD(1)),
    ToolName           LowCardinality(String)              CODEC(ZSTD(1)),
    ToolCallId         String                              CODEC(ZSTD(1)),
    Model              LowCardinality(String)              CODEC(ZSTD(1)),
    ConversationId     String                              CODEC(ZSTD(1)),
    InputTokens        Nullable(UInt64)                    CODEC(ZSTD(1)),
    OutputTokens       Nullable(UInt64)                    CODEC(ZSTD(1)),
    TtftMs             Nullable(Float64)                   CODEC(ZSTD(1)),
    Duration           UInt64                              CODEC(ZSTD(1)),
    StatusCode         LowCardinality(String)              CODEC(ZSTD(1)),
    StatusMessage      String                              CODEC(ZSTD(1)),
    ScopeName          LowCardinality(String)              CODEC(ZSTD(1)),
    Attributes         Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Events Nested
    (
        Timestamp  DateTime64(9),
        Name       LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    DroppedAttributes  UInt32                              CODEC(ZSTD(1)),
    IngestedAt         DateTime DEFAULT now()              CODEC(Delta, ZSTD(1))
)
ENGINE = ${divided:MergeTree}
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (TraceId, Timestamp)
TTL IngestedAt + INTERVAL ${retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, ${table_settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${here:agent_spans_mv} TO ${part:agent_spans} AS
SELECT
    TraceId, Timestamp, SpanId, ParentSpanId, SpanName, Kind, Dialect,
    ${agent_columns},
    ServiceName AS Service,
    -- `s.`, because the bare name is what is kept of them below.
    s.ResourceAttributes['service.version'] AS ServiceVersion,
    ${arm} AS Arm,
    ${attribute:tracegrade.run.id} AS RunId,
    ${attribute:tracegrade.case.id} AS CaseId,
    ${attribute:tracegrade.suite} AS Suite,
    toUInt32OrZero(${attribute:tracegrade.replay}) AS Replay,
    Duration, StatusCode, StatusMessage, ScopeName,
    -- A span no dialect recognises keeps its place in the tree; its attributes stay in otel_traces alone.
    if(Dialect != '', SpanAttributes, map()) AS Attributes,
    if(Dialect != '' AND Kind = 'agent' OR ParentSpanId = '', s.ResourceAttributes, map()) AS ResourceAttributes,
    Events.Timestamp, Events.Name, Events.Attributes,
    DroppedAttributes
FROM ${recognised:otel_traces} AS s;

CREATE TABLE IF NOT EXISTS ${spread:traces}
(
    TraceId        String,
    Start          SimpleAggregateFunction(min, DateTime64(9)),
    End            SimpleAggregateFunction(max, DateTime64(9)),
    SpanRows       SimpleAggregateFunction(sum, UInt64),
    RootSeen       SimpleAggregateFunction(max, UInt8),
    RootService    SimpleAggregateFunction(max, String),
    AnyService     SimpleAggregateFunction(max, String),
    RootVersion    SimpleAggregateFunction(max, String),
    AnyVersion     SimpleAggregateFunction(max, String),
    Arm            SimpleAggregateFunction(max, String),
    RunId          SimpleAggregateFunction(max, String),
    CaseId         SimpleAggregateFunction(max, String),
    Suite          SimpleAggregateFunction(max, String),
    Replay         SimpleAggregateFunction(max, UInt32),
    ConversationId SimpleAggregateFunction(max, String),
    AgentSpanRows  SimpleAggregateFunction(sum, UInt64),
    ErrorRows      SimpleAggregateFunction(sum, UInt64),
    LastIngested   SimpleAggregateFunction(max, DateTime64(3)),
    INDEX idx_last_ingested LastIngested TYPE minmax GRANULARITY 1
)
ENGINE = ${divided:AggregatingMergeTree}
ORDER BY TraceId
TTL toDateTime(LastIngested) + INTERVAL ${retention_days} DAY
SETTINGS ${table_settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${here:traces_mv} TO ${part:traces} AS
SELECT
    TraceId,
    min(s.Timestamp) AS Start,
    -- Both terms are below 2^63, so the sum cannot overflow before it is cut to what a time can hold.
    max(fromUnixTimestamp64Nano(toInt64(least(
        toUInt64(greatest(toUnixTimestamp64Nano(s.Timestamp), 0)) + least(s.Duration, 9223372036854775807),
        9223372036854775807)))) AS End,
    count() AS SpanRows,
    max(ParentSpanId = '') AS RootSeen,
    max(if(ParentSpanId = '', s.Service, '')) AS RootService,
    max(s.Service) AS AnyService,
    max(if(ParentSpanId = '', s.ServiceVersion, '')) AS RootVersion,
    max(s.ServiceVersion) AS AnyVersion,
    max(s.Arm) AS Arm,
    max(s.RunId) AS RunId,
    max(s.CaseId) AS CaseId,
    max(s.Suite) AS Suite,
    max(s.Replay) AS Replay,
    max(s.ConversationId) AS ConversationId,
    countIf(Dialect != '') AS AgentSpanRows,
    countIf(StatusCode = 'Error') AS ErrorRows,
    now64(3) AS LastIngested
FROM ${part:agent_spans} AS s
-- Spans without a trace id, or with one of zeros alone, belong together no more than any others: they make no trace.
WHERE replaceAll(TraceId, '0', '') != ''
GROUP BY TraceId;

-- A log event that comes late reopens its trace. It says nothing about the trace's extent: hence the neutral times. A verdict
-- does not: ours may come back by way of other collectors, and each would have the trace graded, and told about, again.
CREATE MATERIALIZED VIEW IF NOT EXISTS ${here:traces_events_mv} TO ${part:traces} AS
SELECT
    TraceId,
    fromUnixTimestamp64Nano(toInt64(9223372036854775807)) AS Start,
    fromUnixTimestamp64Nano(toInt64(0)) AS End,
    now64(3) AS LastIngested
FROM ${part:agent_events}
WHERE replaceAll(TraceId, '0', '') != '' AND EventName != 'gen_ai.evaluation.result'
GROUP BY TraceId;

-- One finished row for each trace. `SpanRows` counts what arrived: OTLP clients repeat a batch whose answer they lost.
CREATE VIEW IF NOT EXISTS ${spread:traces_v} AS
SELECT
    TraceId,
    min(t.Start) AS Start,
    max(t.End) AS End,
    toUInt64(greatest(0, toUnixTimestamp64Nano(End) - toUnixTimestamp64Nano(Start))) AS DurationNs,
    sum(t.SpanRows) AS SpanCount,
    max(t.RootSeen) AS RootSeen,
    if(max(t.RootService) != '', max(t.RootService), max(t.AnyService)) AS Service,
    if(max(t.RootVersion) != '', max(t.RootVersion), max(t.AnyVersion)) AS ServiceVersion,
    max(t.Arm) AS Arm,
    max(t.RunId) AS RunId,
    max(t.CaseId) AS CaseId,
    max(t.Suite) AS Suite,
    max(t.Replay) AS Replay,
    max(t.ConversationId) AS ConversationId,
    sum(t.AgentSpanRows) AS AgentSpanCount,
    sum(t.ErrorRows) AS ErrorCount,
    max(t.LastIngested) AS LastIngested
FROM ${part:traces} AS t
GROUP BY TraceId
HAVING SpanCount > 0;

-- The exporter's table of where in time a trace lies, which dashboards use to find its spans.
CREATE VIEW IF NOT EXISTS ${spread:otel_traces_trace_id_ts} AS
SELECT TraceId, toDateTime(Start) AS Start, toDateTime(End) AS End
FROM ${part:traces}
WHERE SpanRows > 0;
