-- Traces of the arm that are not graded, or got something new since.
WITH arm AS (${arm})
SELECT count() AS Pending
FROM arm
LEFT JOIN (SELECT TraceId, LastIngested, SpanRows FROM graded_traces FINAL) AS mark ON mark.TraceId = arm.TraceId
WHERE (mark.LastIngested < arm.LastIngested OR (mark.SpanRows > 0 AND mark.SpanRows != arm.SpanCount)) AND arm.AgentSpanCount > 0
