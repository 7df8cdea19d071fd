-- Of a trace that goes on and on, the first rows, and only then each span once: the other way round every span of it would
-- have to be remembered. A span sent at its start and again at its end is taken as it was at its end.
SELECT * FROM
(
    SELECT
        TraceId, SpanId, ParentSpanId, SpanName, Kind, Dialect,
        toUnixTimestamp64Nano(Timestamp) AS StartNs, Duration,
        StatusCode, StatusMessage, Service, ServiceVersion, ScopeName, Attributes, ResourceAttributes,
        arrayMap(t -> toUnixTimestamp64Nano(t), Events.Timestamp) AS EventTimes, Events.Name AS EventNames, Events.Attributes AS EventAttributes,
        ToolName, ToolCallId, Agent, Model, ConversationId, InputTokens, OutputTokens, TtftMs, Arm, RunId, CaseId, DroppedAttributes
    FROM agent_spans
    WHERE TraceId IN {trace_ids:Array(String)}
    ORDER BY TraceId, Timestamp, SpanId
    LIMIT {most:UInt32} BY TraceId
)
ORDER BY TraceId, StartNs, SpanId, Duration DESC
LIMIT 1 BY TraceId, SpanId
