-- 0001_traces
CREATE TABLE IF NOT EXISTS otel_traces
(
    Timestamp          DateTime64(9)                       CODEC(Delta, ZSTD(1)),
    TraceId            String                              CODEC(ZSTD(1)),
    SpanId             String                              CODEC(ZSTD(1)),
    ParentSpanId       String                              CODEC(ZSTD(1)),
    TraceState         String                              CODEC(ZSTD(1)),
    SpanName           LowCardinality(String)              CODEC(ZSTD(1)),
    SpanKind           LowCardinality(String)              CODEC(ZSTD(1)),
    ServiceName        LowCardinality(String)              CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName          String                              CODEC(ZSTD(1)),
    ScopeVersion       String                              CODEC(ZSTD(1)),
    SpanAttributes     Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration           UInt64                              CODEC(ZSTD(1)),
    StatusCode         LowCardinality(String)              CODEC(ZSTD(1)),
    StatusMessage      String                              CODEC(ZSTD(1)),
    Events Nested
    (
        Timestamp  DateTime64(9),
        Name       LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    Links Nested
    (
        TraceId    String,
        SpanId     String,
        TraceState String,
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    DroppedAttributes  UInt32   DEFAULT 0     CODEC(ZSTD(1)),
    IngestedAt         DateTime DEFAULT now() CODEC(Delta, ZSTD(1)),
    INDEX idx_trace_id        TraceId                       TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_res_attr_key    mapKeys(ResourceAttributes)   TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_res_attr_value  mapValues(ResourceAttributes) TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_span_attr_key   mapKeys(SpanAttributes)       TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_span_attr_value mapValues(SpanAttributes)     TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_duration        Duration                      TYPE minmax              GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
TTL IngestedAt + INTERVAL 90 DAY
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 134217728;

CREATE TABLE IF NOT EXISTS otlp_requests
(
    resource_spans Array(Tuple(
        resource Tuple(attributes Array(Tuple(key LowCardinality(String), value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'array_value' = 5, 'kvlist_value' = 6), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, array_value Tuple(values Array(Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))), kvlist_value Tuple(values Array(Tuple(key String, value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String)))))))),
        scope_spans Array(Tuple(
            scope Tuple(name String, version String),
            spans Array(Tuple(
                trace_id String, span_id String, trace_state String, parent_span_id String, name String, kind UInt32,
                start_time_unix_nano UInt64, end_time_unix_nano UInt64,
                attributes Array(Tuple(key LowCardinality(String), value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'array_value' = 5, 'kvlist_value' = 6), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, array_value Tuple(values Array(Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))), kvlist_value Tuple(values Array(Tuple(key String, value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))))))), dropped_attributes_count UInt32,
                events Array(Tuple(time_unix_nano UInt64, name String, attributes Array(Tuple(key LowCardinality(String), value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'array_value' = 5, 'kvlist_value' = 6), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, array_value Tuple(values Array(Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))), kvlist_value Tuple(values Array(Tuple(key String, value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))))))))),
                links Array(Tuple(trace_id String, span_id String, trace_state String, attributes Array(Tuple(key LowCardinality(String), value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'array_value' = 5, 'kvlist_value' = 6), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, array_value Tuple(values Array(Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))), kvlist_value Tuple(values Array(Tuple(key String, value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))))))))),
                status Tuple(message String, code UInt32)))))))
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS otlp_requests_mv TO otel_traces AS
WITH
    
(s -> multiIf(
    s.value = 'string_value', toJSONString(s.string_value),
    s.value = 'int_value', toString(s.int_value),
    s.value = 'bool_value', if(s.bool_value, 'true', 'false'),
    s.value = 'double_value', if(isFinite(s.double_value), toString(s.double_value),
        multiIf(isNaN(s.double_value), '"NaN"', s.double_value > 0, '"Infinity"', '"-Infinity"')),
    s.value = 'bytes_value', toJSONString(base64Encode(s.bytes_value)),
    'null')) AS json,
(v -> multiIf(
    v.value = 'string_value', v.string_value,
    v.value = 'int_value', toString(v.int_value),
    v.value = 'bool_value', if(v.bool_value, 'true', 'false'),
    v.value = 'double_value', if(isFinite(v.double_value), toString(v.double_value),
        multiIf(isNaN(v.double_value), 'NaN', v.double_value > 0, 'Infinity', '-Infinity')),
    v.value = 'array_value', concat('[', arrayStringConcat(arrayMap(x -> json(x), v.array_value.values), ','), ']'),
    v.value = 'kvlist_value', concat('{', arrayStringConcat(
        arrayMap(x -> concat(toJSONString(x.key), ':', json(x.value)), arraySort(x -> x.key, v.kvlist_value.values)),
        ','), '}'),
    v.value = 'bytes_value', base64Encode(v.bytes_value),
    '')) AS text
SELECT
    fromUnixTimestamp64Nano(toInt64(least(span.start_time_unix_nano, 9223372036854775807))) AS Timestamp,
    lower(hex(span.trace_id)) AS TraceId,
    lower(hex(span.span_id)) AS SpanId,
    lower(hex(span.parent_span_id)) AS ParentSpanId,
    span.trace_state AS TraceState,
    span.name AS SpanName,
    transform(span.kind, [1, 2, 3, 4, 5], ['Internal', 'Server', 'Client', 'Producer', 'Consumer'], 'Unspecified') AS SpanKind,
    ResourceAttributes['service.name'] AS ServiceName,
    ResourceAttributes,
    ScopeName,
    ScopeVersion,
    CAST(arrayMap(a -> (a.key, text(a.value)), span.attributes), 'Map(LowCardinality(String), String)') AS SpanAttributes,
    if(span.end_time_unix_nano > span.start_time_unix_nano, span.end_time_unix_nano - span.start_time_unix_nano, 0) AS Duration,
    transform(span.status.code, [1, 2], ['Ok', 'Error'], 'Unset') AS StatusCode,
    span.status.message AS StatusMessage,
    arrayMap(e -> fromUnixTimestamp64Nano(toInt64(least(e.time_unix_nano, 9223372036854775807))), span.events) AS `Events.Timestamp`,
    span.events.name AS `Events.Name`,
    arrayMap(e -> CAST(arrayMap(a -> (a.key, text(a.value)), e.attributes), 'Map(LowCardinality(String), String)'), span.events) AS `Events.Attributes`,
    arrayMap(l -> lower(hex(l.trace_id)), span.links) AS `Links.TraceId`,
    arrayMap(l -> lower(hex(l.span_id)), span.links) AS `Links.SpanId`,
    span.links.trace_state AS `Links.TraceState`,
    arrayMap(l -> CAST(arrayMap(a -> (a.key, text(a.value)), l.attributes), 'Map(LowCardinality(String), String)'), span.links) AS `Links.Attributes`,
    span.dropped_attributes_count AS DroppedAttributes
FROM
(
    SELECT ResourceAttributes, scoped.scope.name AS ScopeName, scoped.scope.version AS ScopeVersion, arrayJoin(scoped.spans) AS span
    FROM
    (
        SELECT CAST(arrayMap(a -> (a.key, text(a.value)), resourced.resource.attributes), 'Map(LowCardinality(String), String)') AS ResourceAttributes, arrayJoin(resourced.scope_spans) AS scoped
        FROM (SELECT arrayJoin(resource_spans) AS resourced FROM otlp_requests)
    )
);

-- 0002_logs
CREATE TABLE IF NOT EXISTS otel_logs
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (ServiceName, TimestampTime, Timestamp)
TTL IngestedAt + INTERVAL 90 DAY
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 134217728;

CREATE TABLE IF NOT EXISTS otlp_log_requests
(
    resource_logs Array(Tuple(
        resource Tuple(attributes Array(Tuple(key LowCardinality(String), value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'array_value' = 5, 'kvlist_value' = 6), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, array_value Tuple(values Array(Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))), kvlist_value Tuple(values Array(Tuple(key String, value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String)))))))),
        schema_url String,
        scope_logs Array(Tuple(
            scope Tuple(name String, version String, attributes Array(Tuple(key LowCardinality(String), value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'array_value' = 5, 'kvlist_value' = 6), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, array_value Tuple(values Array(Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))), kvlist_value Tuple(values Array(Tuple(key String, value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String)))))))),
            schema_url String,
            log_records Array(Tuple(
                time_unix_nano UInt64, observed_time_unix_nano UInt64, severity_number UInt32, severity_text String,
                body Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'array_value' = 5, 'kvlist_value' = 6), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, array_value Tuple(values Array(Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))), kvlist_value Tuple(values Array(Tuple(key String, value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))))), attributes Array(Tuple(key LowCardinality(String), value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'array_value' = 5, 'kvlist_value' = 6), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, array_value Tuple(values Array(Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))), kvlist_value Tuple(values Array(Tuple(key String, value Tuple(value Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7), string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))))))), flags UInt32, trace_id String, span_id String, event_name String))))))
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS otlp_log_requests_mv TO otel_logs AS
WITH
    
(s -> multiIf(
    s.value = 'string_value', toJSONString(s.string_value),
    s.value = 'int_value', toString(s.int_value),
    s.value = 'bool_value', if(s.bool_value, 'true', 'false'),
    s.value = 'double_value', if(isFinite(s.double_value), toString(s.double_value),
        multiIf(isNaN(s.double_value), '"NaN"', s.double_value > 0, '"Infinity"', '"-Infinity"')),
    s.value = 'bytes_value', toJSONString(base64Encode(s.bytes_value)),
    'null')) AS json,
(v -> multiIf(
    v.value = 'string_value', v.string_value,
    v.value = 'int_value', toString(v.int_value),
    v.value = 'bool_value', if(v.bool_value, 'true', 'false'),
    v.value = 'double_value', if(isFinite(v.double_value), toString(v.double_value),
        multiIf(isNaN(v.double_value), 'NaN', v.double_value > 0, 'Infinity', '-Infinity')),
    v.value = 'array_value', concat('[', arrayStringConcat(arrayMap(x -> json(x), v.array_value.values), ','), ']'),
    v.value = 'kvlist_value', concat('{', arrayStringConcat(
        arrayMap(x -> concat(toJSONString(x.key), ':', json(x.value)), arraySort(x -> x.key, v.kvlist_value.values)),
        ','), '}'),
    v.value = 'bytes_value', base64Encode(v.bytes_value),
    '')) AS text
SELECT
    fromUnixTimestamp64Nano(toInt64(least(if(record.time_unix_nano != 0, record.time_unix_nano, record.observed_time_unix_nano), 9223372036854775807))) AS Timestamp,
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
    CAST(arrayMap(a -> (a.key, text(a.value)), record.attributes), 'Map(LowCardinality(String), String)') AS LogAttributes,
    record.event_name AS EventName
FROM
(
    SELECT
        ResourceAttributes, ResourceSchemaUrl,
        scoped.scope.name AS ScopeName, scoped.scope.version AS ScopeVersion, scoped.schema_url AS ScopeSchemaUrl,
        CAST(arrayMap(a -> (a.key, text(a.value)), scoped.scope.attributes), 'Map(LowCardinality(String), String)') AS ScopeAttributes,
        arrayJoin(scoped.log_records) AS record
    FROM
    (
        SELECT
            CAST(arrayMap(a -> (a.key, text(a.value)), resourced.resource.attributes), 'Map(LowCardinality(String), String)') AS ResourceAttributes,
            resourced.schema_url AS ResourceSchemaUrl,
            arrayJoin(resourced.scope_logs) AS scoped
        FROM (SELECT arrayJoin(resource_logs) AS resourced FROM otlp_log_requests)
    )
);

CREATE TABLE IF NOT EXISTS agent_events
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (TraceId, Timestamp)
TTL IngestedAt + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 134217728;

CREATE MATERIALIZED VIEW IF NOT EXISTS agent_events_mv TO agent_events AS
SELECT
    TraceId, Timestamp, SpanId,
    if(EventName != '', EventName, LogAttributes['event.name']) AS EventName,
    Body, LogAttributes AS Attributes, ScopeName
FROM otel_logs
WHERE TraceId != '' AND (EventName != '' OR mapContains(LogAttributes, 'event.name'));

-- 0003_agents
CREATE TABLE IF NOT EXISTS agent_spans
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (TraceId, Timestamp)
TTL IngestedAt + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 134217728;

CREATE MATERIALIZED VIEW IF NOT EXISTS agent_spans_mv TO agent_spans AS
SELECT
    TraceId, Timestamp, SpanId, ParentSpanId, SpanName,
    multiIf(has(['chat', 'generate_content', 'text_completion', 'fetch_response', 'llm_request', 'llm_call', 'embeddings', 'retrieval', 'vector_db_retrieve', 'rerank', 'execute_tool', 'tool_call', 'invoke_agent', 'create_agent', 'agent_call', 'invoke_workflow', 'plan', 'workflow', 'agent_step', 'execute_task', 'execute_method', 'schedule_tool_calls', 'guardrail_check', 'apply_guardrail', 'run_guardrail', 'agent_handoff', 'search_memory'], SpanAttributes['gen_ai.operation.name']), transform(SpanAttributes['gen_ai.operation.name'], ['chat', 'generate_content', 'text_completion', 'fetch_response', 'llm_request', 'llm_call', 'embeddings', 'retrieval', 'vector_db_retrieve', 'rerank', 'execute_tool', 'tool_call', 'invoke_agent', 'create_agent', 'agent_call', 'invoke_workflow', 'plan', 'workflow', 'agent_step', 'execute_task', 'execute_method', 'schedule_tool_calls', 'guardrail_check', 'apply_guardrail', 'run_guardrail', 'agent_handoff', 'search_memory'], ['llm', 'llm', 'llm', 'llm', 'llm', 'llm', 'embedding', 'retrieval', 'retrieval', 'rerank', 'tool', 'tool', 'agent', 'agent', 'agent', 'wrapper', 'wrapper', 'wrapper', 'wrapper', 'wrapper', 'wrapper', 'wrapper', 'guardrail', 'guardrail', 'guardrail', 'handoff', 'retrieval'], ''), has(['LLM', 'TOOL', 'AGENT', 'CHAIN', 'RETRIEVER', 'EMBEDDING', 'RERANKER', 'GUARDRAIL', 'EVALUATOR', 'PROMPT', 'DECISION', 'UNKNOWN'], SpanAttributes['openinference.span.kind']), transform(SpanAttributes['openinference.span.kind'], ['LLM', 'TOOL', 'AGENT', 'CHAIN', 'RETRIEVER', 'EMBEDDING', 'RERANKER', 'GUARDRAIL', 'EVALUATOR', 'PROMPT', 'DECISION', 'UNKNOWN'], ['llm', 'tool', 'agent', 'wrapper', 'retrieval', 'embedding', 'rerank', 'guardrail', 'evaluator', 'wrapper', 'other', 'other'], ''), has(['tools/call', 'resources/read'], SpanAttributes['mcp.method.name']), transform(SpanAttributes['mcp.method.name'], ['tools/call', 'resources/read'], ['tool', 'retrieval'], ''), match(SpanName, '^(execute_tool|running tool:?) '), 'tool', match(SpanName, '^invoke_agent( |$)'), 'agent', match(SpanName, '^(chat|generate_content|text_completion) '), 'llm', match(SpanName, '^retrieval( |$)'), 'retrieval', match(SpanName, '^embeddings '), 'embedding', 'other') AS Kind,
    multiIf(mapContains(SpanAttributes, 'openinference.span.kind') OR startsWith(ScopeName, 'openinference.instrumentation') OR startsWith(ScopeName, '@arizeai/openinference'), 'openinference', startsWith(ScopeName, 'pydantic-ai'), 'pydantic_ai', mapContains(SpanAttributes, 'gen_ai.system') OR mapContains(SpanAttributes, 'gen_ai.prompt') OR mapContains(SpanAttributes, 'gen_ai.completion') OR arrayExists(k -> startsWith(k, 'gen_ai.prompt.'), mapKeys(SpanAttributes)) OR arrayExists(k -> startsWith(k, 'gen_ai.completion.'), mapKeys(SpanAttributes)), 'otel_genai_legacy', arrayExists(k -> startsWith(k, 'gen_ai.'), mapKeys(SpanAttributes)) OR arrayExists(k -> startsWith(k, 'mcp.'), mapKeys(SpanAttributes)), 'otel_genai', arrayExists(k -> startsWith(k, 'tracegrade.'), mapKeys(SpanAttributes)), 'tracegrade', '') AS Dialect,
    '1' AS MappingVersion,
    if(has(['tool'], Kind), multiIf(NOT has([''], SpanAttributes['gen_ai.tool.name']), SpanAttributes['gen_ai.tool.name'], NOT has([''], SpanAttributes['tool.name']), SpanAttributes['tool.name'], NOT has([''], SpanAttributes['tool_name']), SpanAttributes['tool_name'], extract(SpanName, '^(?:execute_tool|running tool:?) (.+)$')), '') AS ToolName,
    multiIf(NOT has(['', '<not specified>'], SpanAttributes['gen_ai.tool.call.id']), SpanAttributes['gen_ai.tool.call.id'], NOT has(['', '<not specified>'], SpanAttributes['tool.id']), SpanAttributes['tool.id'], NOT has(['', '<not specified>'], SpanAttributes['tool_call.id']), SpanAttributes['tool_call.id'], NOT has(['', '<not specified>'], SpanAttributes['gen_ai.tool.call_id']), SpanAttributes['gen_ai.tool.call_id'], '') AS ToolCallId,
    multiIf(NOT has([''], SpanAttributes['gen_ai.agent.name']), SpanAttributes['gen_ai.agent.name'], NOT has([''], SpanAttributes['agent.name']), SpanAttributes['agent.name'], NOT has([''], SpanAttributes['agent_name']), SpanAttributes['agent_name'], NOT has([''], SpanAttributes['graph.node.id']), SpanAttributes['graph.node.id'], '') AS Agent,
    multiIf(NOT has([''], SpanAttributes['gen_ai.response.model']), SpanAttributes['gen_ai.response.model'], NOT has([''], SpanAttributes['gen_ai.request.model']), SpanAttributes['gen_ai.request.model'], NOT has([''], SpanAttributes['llm.response.model_name']), SpanAttributes['llm.response.model_name'], NOT has([''], SpanAttributes['llm.model_name']), SpanAttributes['llm.model_name'], NOT has([''], SpanAttributes['llm.request.model_name']), SpanAttributes['llm.request.model_name'], '') AS Model,
    multiIf(NOT has([''], SpanAttributes['gen_ai.conversation.id']), SpanAttributes['gen_ai.conversation.id'], NOT has([''], SpanAttributes['session.id']), SpanAttributes['session.id'], '') AS ConversationId,
    accurateCastOrNull(toFloat64OrNull(multiIf(NOT has([''], SpanAttributes['gen_ai.usage.input_tokens']), SpanAttributes['gen_ai.usage.input_tokens'], NOT has([''], SpanAttributes['gen_ai.usage.prompt_tokens']), SpanAttributes['gen_ai.usage.prompt_tokens'], NOT has([''], SpanAttributes['llm.token_count.prompt']), SpanAttributes['llm.token_count.prompt'], NOT has([''], SpanAttributes['llm.usage.prompt_tokens']), SpanAttributes['llm.usage.prompt_tokens'], '')), 'UInt64') AS InputTokens,
    accurateCastOrNull(toFloat64OrNull(multiIf(NOT has([''], SpanAttributes['gen_ai.usage.output_tokens']), SpanAttributes['gen_ai.usage.output_tokens'], NOT has([''], SpanAttributes['gen_ai.usage.completion_tokens']), SpanAttributes['gen_ai.usage.completion_tokens'], NOT has([''], SpanAttributes['llm.token_count.completion']), SpanAttributes['llm.token_count.completion'], NOT has([''], SpanAttributes['llm.usage.completion_tokens']), SpanAttributes['llm.usage.completion_tokens'], '')), 'UInt64') AS OutputTokens,
    coalesce(toFloat64OrNull(SpanAttributes['gen_ai.response.time_to_first_chunk']) * 1000, toFloat64OrNull(SpanAttributes['gen_ai.client.operation.time_to_first_chunk']) * 1000, toFloat64OrNull(SpanAttributes['gen_ai.server.time_to_first_token']) * 1) AS TtftMs,
    ServiceName AS Service,
    ResourceAttributes['service.version'] AS ServiceVersion,
    if(ResourceAttributes['deployment.environment.name'] = 'shadow' OR position(TraceState, 'tracegrade=shadow') > 0, 'shadow', 'production') AS Arm,
    if(SpanAttributes['tracegrade.run.id'] != '', SpanAttributes['tracegrade.run.id'], ResourceAttributes['tracegrade.run.id']) AS RunId,
    if(SpanAttributes['tracegrade.case.id'] != '', SpanAttributes['tracegrade.case.id'], ResourceAttributes['tracegrade.case.id']) AS CaseId,
    if(SpanAttributes['tracegrade.suite'] != '', SpanAttributes['tracegrade.suite'], ResourceAttributes['tracegrade.suite']) AS Suite,
    toUInt32OrZero(if(SpanAttributes['tracegrade.replay'] != '', SpanAttributes['tracegrade.replay'], ResourceAttributes['tracegrade.replay'])) AS Replay,
    Duration, StatusCode, StatusMessage, ScopeName,
    if(Dialect != '', SpanAttributes, map()) AS Attributes,
    if(Dialect != '' AND Kind = 'agent' OR ParentSpanId = '', ResourceAttributes, map()) AS ResourceAttributes,
    Events.Timestamp, Events.Name, Events.Attributes,
    DroppedAttributes
FROM otel_traces;

CREATE TABLE IF NOT EXISTS traces
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
ENGINE = AggregatingMergeTree
ORDER BY TraceId
TTL toDateTime(LastIngested) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 134217728;

CREATE MATERIALIZED VIEW IF NOT EXISTS traces_mv TO traces AS
SELECT
    TraceId,
    min(s.Timestamp) AS Start,
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
FROM agent_spans AS s
GROUP BY TraceId;

CREATE MATERIALIZED VIEW IF NOT EXISTS traces_events_mv TO traces AS
SELECT
    TraceId,
    fromUnixTimestamp64Nano(toInt64(9223372036854775807)) AS Start,
    fromUnixTimestamp64Nano(toInt64(0)) AS End,
    now64(3) AS LastIngested
FROM agent_events
GROUP BY TraceId;

CREATE VIEW IF NOT EXISTS traces_v AS
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
FROM traces AS t
GROUP BY TraceId
HAVING SpanCount > 0;

CREATE VIEW IF NOT EXISTS otel_traces_trace_id_ts AS
SELECT TraceId, toDateTime(Start) AS Start, toDateTime(End) AS End
FROM traces
WHERE SpanRows > 0;

-- 0004_grades
CREATE TABLE IF NOT EXISTS grades
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
ENGINE = ReplacingMergeTree(GradedAt)
ORDER BY (TraceId, SpanId, Grader, Subject, Generation)
TTL toDateTime(GradedAt) + INTERVAL 90 DAY;

CREATE TABLE IF NOT EXISTS tool_calls
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
ENGINE = ReplacingMergeTree(WrittenAt)
ORDER BY (TraceId, CallKey, Generation)
TTL toDateTime(WrittenAt) + INTERVAL 90 DAY;

CREATE TABLE IF NOT EXISTS graded_traces
(
    TraceId      String,
    Generation   UInt32,
    LastIngested DateTime64(3),
    Completeness LowCardinality(String),
    GraderSet    LowCardinality(String),
    GradedAt     DateTime64(3) DEFAULT now64(3),
    INDEX idx_last_ingested LastIngested TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(GradedAt)
ORDER BY TraceId
TTL toDateTime(GradedAt) + INTERVAL 90 DAY;

CREATE VIEW IF NOT EXISTS grades_v AS
SELECT g.*
FROM grades AS g FINAL
INNER JOIN (SELECT TraceId, Generation FROM graded_traces FINAL WHERE LastIngested > toDateTime64(0, 3)) AS m ON g.TraceId = m.TraceId AND g.Generation = m.Generation;

-- 0005_releases
CREATE TABLE IF NOT EXISTS suites
(
    Suite     String,
    Digest    String,
    Document  String CODEC(ZSTD(3)),
    CreatedAt DateTime64(3) DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(CreatedAt)
ORDER BY (Suite, Digest);

CREATE TABLE IF NOT EXISTS cases
(
    Suite       String,
    SuiteDigest String,
    CaseId      String,
    CaseDigest  String,
    Bucket      LowCardinality(String),
    Document    String CODEC(ZSTD(3)),
    CreatedAt   DateTime64(3) DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(CreatedAt)
ORDER BY (Suite, SuiteDigest, CaseId);

CREATE TABLE IF NOT EXISTS decisions
(
    DecisionId     String,
    DecidedAt      DateTime64(3),
    Decision       LowCardinality(String),
    Reasons        Array(String),
    Suite          String,
    SuiteDigest    String,
    PolicyName     String,
    PolicyDigest   String,
    EvidenceDigest String,
    Baseline       String,
    Candidate      String,
    Digest         String,
    PreviousDigest String,
    Document       String CODEC(ZSTD(3))
)
ENGINE = MergeTree
ORDER BY (DecidedAt, DecisionId);

