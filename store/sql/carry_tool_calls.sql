INSERT INTO tool_calls
    (TraceId, CallKey, Position, CallId, ToolName, SpanId, RequestSpanId, Start, DurationNs, Arguments, ArgumentsState, Result,
    ResultState, Executed, Error, ApprovalState, Agent, WrittenAt, Generation)
SELECT
    TraceId, CallKey, Position, CallId, ToolName, SpanId, RequestSpanId, Start, DurationNs, Arguments, ArgumentsState, Result,
    ResultState, Executed, Error, ApprovalState, Agent, WrittenAt, Generation + 1
FROM
(
    SELECT * FROM tool_calls FINAL
    WHERE TraceId IN {trace_ids:Array(String)}
) AS r
INNER JOIN
(
    SELECT TraceId, Generation FROM graded_traces FINAL WHERE TraceId IN {trace_ids:Array(String)}
) AS m ON r.TraceId = m.TraceId AND r.Generation = m.Generation
