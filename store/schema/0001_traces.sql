-- Traces as they arrive. `otlp_requests` stores nothing: it is where ClickHouse decodes OTLP, and the view behind it fills
-- `otel_traces`, whose first 22 columns are those of the OpenTelemetry Collector's ClickHouse exporter.

CREATE TABLE IF NOT EXISTS ${spread:otel_traces}
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
ENGINE = ${divided:MergeTree}
-- By month of the span's own time, which a retried insert repeats exactly: deduplication is kept for each partition.
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
-- By arrival, not by the span's clock: a trace from last year that arrives today is kept as long as one from today.
TTL IngestedAt + INTERVAL ${retention_days} DAY
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, ${table_settings};

CREATE TABLE IF NOT EXISTS ${here:otlp_requests}
(
    resource_spans Array(Tuple(
        resource Tuple(attributes ${KeyValues}),
        scope_spans Array(Tuple(
            scope Tuple(name String, version String),
            spans Array(Tuple(
                trace_id String, span_id String, trace_state String, parent_span_id String, name String, kind UInt32,
                start_time_unix_nano UInt64, end_time_unix_nano UInt64,
                attributes ${KeyValues}, dropped_attributes_count UInt32,
                events Array(Tuple(time_unix_nano UInt64, name String, attributes ${KeyValues})),
                links Array(Tuple(trace_id String, span_id String, trace_state String, attributes ${KeyValues})),
                status Tuple(message String, code UInt32)))))))
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${here:otlp_requests_mv} TO ${all:otel_traces} AS
WITH
    ${texts}
SELECT
    ${time:span.start_time_unix_nano} AS Timestamp,
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
    ${map:span.attributes} AS SpanAttributes,
    if(span.end_time_unix_nano > span.start_time_unix_nano, span.end_time_unix_nano - span.start_time_unix_nano, 0) AS Duration,
    transform(span.status.code, [1, 2], ['Ok', 'Error'], 'Unset') AS StatusCode,
    span.status.message AS StatusMessage,
    arrayMap(e -> ${time:e.time_unix_nano}, span.events) AS `Events.Timestamp`,
    span.events.name AS `Events.Name`,
    arrayMap(e -> ${map:e.attributes}, span.events) AS `Events.Attributes`,
    arrayMap(l -> lower(hex(l.trace_id)), span.links) AS `Links.TraceId`,
    arrayMap(l -> lower(hex(l.span_id)), span.links) AS `Links.SpanId`,
    span.links.trace_state AS `Links.TraceState`,
    arrayMap(l -> ${map:l.attributes}, span.links) AS `Links.Attributes`,
    span.dropped_attributes_count AS DroppedAttributes
FROM
(
    SELECT ResourceAttributes, scoped.scope.name AS ScopeName, scoped.scope.version AS ScopeVersion, arrayJoin(scoped.spans) AS span
    FROM
    (
        SELECT ${map:resourced.resource.attributes} AS ResourceAttributes, arrayJoin(resourced.scope_spans) AS scoped
        FROM (SELECT arrayJoin(resource_spans) AS resourced FROM otlp_requests)
    )
);
