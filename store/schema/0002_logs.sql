-- Log records. Agents increasingly send message content and decisions as log events, so those that belong to a trace are
-- also kept in the order the graders read them.

CREATE TABLE IF NOT EXISTS ${spread:otel_logs}
(
    Timestamp          DateTime64(9)                       CODEC(Delta, ZSTD(1)),
    TimestampTime      DateTime DEFAULT toDateTime(Timestamp),
    TraceId            String                              CODEC(ZSTD(1)),
    SpanId             String                              CODEC(ZSTD(1)),
    TraceFlags         UInt8,
    SeverityText       LowCardinality(String)              CODEC(ZSTD(1)),
    SeverityNumber     UInt8,
    ServiceName        LowCardinality(String)              CODEC(ZSTD(1)),
    Body               String                              CODEC(ZSTD(1)),
    ResourceSchemaUrl  LowCardinality(String)              CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeSchemaUrl     LowCardinality(String)              CODEC(ZSTD(1)),
    ScopeName          String                              CODEC(ZSTD(1)),
    ScopeVersion       LowCardinality(String)              CODEC(ZSTD(1)),
    ScopeAttributes    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    LogAttributes      Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    EventName          String                              CODEC(ZSTD(1)),
    IngestedAt         DateTime DEFAULT now()              CODEC(Delta, ZSTD(1)),
    INDEX idx_trace_id       TraceId                     TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_res_attr_key   mapKeys(ResourceAttributes) TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_log_attr_key   mapKeys(LogAttributes)      TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_log_attr_value mapValues(LogAttributes)    TYPE bloom_filter(0.01)  GRANULARITY 1
)
ENGINE = ${divided:MergeTree}
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (ServiceName, TimestampTime, Timestamp)
TTL IngestedAt + INTERVAL ${retention_days} DAY
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, ${table_settings};

CREATE TABLE IF NOT EXISTS ${here:otlp_log_requests}
(
    resource_logs Array(Tuple(
        resource Tuple(attributes ${KeyValues}),
        schema_url String,
        scope_logs Array(Tuple(
            scope Tuple(name String, version String, attributes ${KeyValues}),
            schema_url String,
            log_records Array(Tuple(
                time_unix_nano UInt64, observed_time_unix_nano UInt64, severity_number UInt32, severity_text String,
                body ${AnyValue}, attributes ${KeyValues}, flags UInt32, trace_id String, span_id String, event_name String))))))
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${here:otlp_log_requests_mv} TO ${all:otel_logs} AS
WITH
    ${texts}
SELECT
    ${time:if(record.time_unix_nano != 0, record.time_unix_nano, record.observed_time_unix_nano)} AS Timestamp,
    lower(hex(record.trace_id)) AS TraceId,
    lower(hex(record.span_id)) AS SpanId,
    toUInt8(bitAnd(record.flags, 255)) AS TraceFlags,
    record.severity_text AS SeverityText,
    toUInt8(least(record.severity_number, 255)) AS SeverityNumber,
    ResourceAttributes['service.name'] AS ServiceName,
    text(record.body) AS Body,
    ResourceSchemaUrl,
    ResourceAttributes,
    ScopeSchemaUrl,
    ScopeName,
    ScopeVersion,
    ScopeAttributes,
    ${map:record.attributes} AS LogAttributes,
    record.event_name AS EventName
FROM
(
    SELECT
        ResourceAttributes, ResourceSchemaUrl,
        scoped.scope.name AS ScopeName, scoped.scope.version AS ScopeVersion, scoped.schema_url AS ScopeSchemaUrl,
        ${map:scoped.scope.attributes} AS ScopeAttributes,
        arrayJoin(scoped.log_records) AS record
    FROM
    (
        SELECT
            ${map:resourced.resource.attributes} AS ResourceAttributes,
            resourced.schema_url AS ResourceSchemaUrl,
            arrayJoin(resourced.scope_logs) AS scoped
        FROM (SELECT arrayJoin(resource_logs) AS resourced FROM otlp_log_requests)
    )
);

CREATE TABLE IF NOT EXISTS ${spread:agent_events}
(
    TraceId    String                              CODEC(ZSTD(1)),
    Timestamp  DateTime64(9)                       CODEC(Delta, ZSTD(1)),
    SpanId     String                              CODEC(ZSTD(1)),
    EventName  LowCardinality(String)              CODEC(ZSTD(1)),
    Body       String                              CODEC(ZSTD(1)),
    Attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName  LowCardinality(String)              CODEC(ZSTD(1)),
    IngestedAt DateTime DEFAULT now()              CODEC(Delta, ZSTD(1))
)
ENGINE = ${divided:MergeTree}
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (TraceId, Timestamp)
TTL IngestedAt + INTERVAL ${retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, ${table_settings};

-- A decision that names no trace is kept under its conversation, where there is one: coding agents log them so. Whose it is stands
-- among its attributes then, whatever it says there itself.
CREATE MATERIALIZED VIEW IF NOT EXISTS ${here:agent_events_mv} TO ${part:agent_events} AS
SELECT
    if(l.TraceId != '', l.TraceId, concat('conversation ', Conversation)) AS TraceId,
    Timestamp, SpanId,
    if(EventName != '', EventName, LogAttributes['event.name']) AS EventName,
    Body,
    if(Conversation = '', LogAttributes, CAST(
        mapUpdate(LogAttributes, map(
            'tracegrade.tenant', ResourceAttributes['tracegrade.tenant'],
            'tracegrade.arm', multiIf(
                ResourceAttributes['tracegrade.arm'] IN ('production', 'shadow'), ResourceAttributes['tracegrade.arm'],
                ResourceAttributes['deployment.environment.name'] = 'shadow', 'shadow', 'production'),
            'service.name', ResourceAttributes['service.name'])),
        'Map(LowCardinality(String), String)')) AS Attributes,
    ScopeName
FROM
(
    SELECT
        *,
        if(TraceId != '' OR NOT hasAny(mapKeys(LogAttributes), ['decision', 'gen_ai.tool.call.decision.outcome']), '', coalesce(
            nullIf(LogAttributes['gen_ai.conversation.id'], ''), nullIf(LogAttributes['session.id'], ''),
            LogAttributes['conversation.id'])) AS Conversation
    FROM ${part:otel_logs}
) AS l
WHERE (l.TraceId != '' OR Conversation != '') AND (l.EventName != '' OR mapContains(LogAttributes, 'event.name'));
