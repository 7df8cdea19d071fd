INSERT INTO approvals
    (TraceId, Position, ConversationId, CallId, ToolName, Outcome, Mechanism, Decider, Roles, Scope, ArgumentsHash, ApprovalId, Time,
    Expires, Evidence, SpanId, WrittenAt, Generation)
SELECT
    TraceId, Position, ConversationId, CallId, ToolName, Outcome, Mechanism, Decider, Roles, Scope, ArgumentsHash, ApprovalId, Time,
    Expires, Evidence, SpanId, WrittenAt, Generation + 1
FROM
(
    SELECT * FROM approvals FINAL
    WHERE TraceId IN {trace_ids:Array(String)}
) AS r
INNER JOIN
(
    SELECT TraceId, Generation FROM graded_traces FINAL WHERE TraceId IN {trace_ids:Array(String)}
) AS m ON r.TraceId = m.TraceId AND r.Generation = m.Generation
