-- Traces that have gone quiet and hold something newer than their last grading. Only what arrived after `since` can be
-- ungraded, or what had its mark taken back (regrade.sql): everything else is left unread.
WITH candidates AS
(
    SELECT TraceId FROM traces WHERE LastIngested >= fromUnixTimestamp64Milli({since_ms:Int64})
    UNION DISTINCT
    SELECT TraceId FROM graded_traces WHERE LastIngested = toDateTime64(0, 3)
)
SELECT
    t.TraceId AS TraceId, toUnixTimestamp64Milli(t.LastIngested) AS LastIngested, g.Generation AS Generation,
    t.Spans AS Spans, t.ConversationId AS ConversationId, t.CaseId AS CaseId
FROM
(
    SELECT TraceId, max(RootSeen) AS Root, max(LastIngested) AS LastIngested, sum(AgentSpanRows) AS AgentSpans, sum(SpanRows) AS Spans,
        max(ConversationId) AS ConversationId, max(CaseId) AS CaseId
    FROM traces
    WHERE TraceId IN (SELECT TraceId FROM candidates)
    GROUP BY TraceId
) AS t
LEFT JOIN
(
    SELECT TraceId, Generation, LastIngested, SpanRows
    FROM graded_traces FINAL
    WHERE TraceId IN (SELECT TraceId FROM candidates)
) AS g ON t.TraceId = g.TraceId
WHERE t.AgentSpans > 0
  AND (g.Generation = 0 OR t.LastIngested > g.LastIngested OR (g.SpanRows > 0 AND t.Spans != g.SpanRows))
  AND (
      (t.Root = 1 AND t.LastIngested <= now64(3) - toIntervalMillisecond({grace_ms:UInt64}))
      OR t.LastIngested <= now64(3) - toIntervalMillisecond({idle_ms:UInt64})
  )
ORDER BY t.LastIngested, t.TraceId
LIMIT {limit:UInt32}
