SELECT
    TraceId, Outcome, TimeNs, Mechanism, CallId, ToolName, Decider, Scope, ArgumentsHash, ExpiresNs, Evidence, SpanId, Roles, ApprovalId
FROM
(
    SELECT
        TraceId, Generation, Position, toString(Outcome) AS Outcome, toUnixTimestamp64Nano(Time) AS TimeNs,
        toString(Mechanism) AS Mechanism, CallId, toString(ToolName) AS ToolName, Decider, toString(Scope) AS Scope,
        ArgumentsHash, toUnixTimestamp64Nano(Expires) AS ExpiresNs, toString(Evidence) AS Evidence, SpanId, Roles, ApprovalId
    FROM approvals FINAL
    WHERE TraceId IN {trace_ids:Array(String)}
) AS a
INNER JOIN
(
    SELECT TraceId, Generation FROM graded_traces FINAL WHERE TraceId IN {trace_ids:Array(String)}
) AS m ON a.TraceId = m.TraceId AND a.Generation = m.Generation
ORDER BY TraceId, Position
LIMIT {most:UInt32} BY TraceId
