-- Traces of the arm that are not graded, or got something new since.
WITH arm AS (${arm})
SELECT count() AS Pending
FROM arm
LEFT JOIN (SELECT TraceId, LastIngested FROM graded_traces FINAL) AS mark ON mark.TraceId = arm.TraceId
WHERE mark.LastIngested < arm.LastIngested AND arm.AgentSpanCount > 0
