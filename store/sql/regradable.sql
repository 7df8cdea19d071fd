-- Closed traces whose last arrival lies between `since` and `until` and whose grades are not those the graders would give now:
-- never graded, grown since, graded by another set (without `graders`), or lacking a grade by one of `graders` as it is configured
-- now. What was graded before `before` counts as not graded. By trace id, from behind `after`.
SELECT
    t.TraceId AS TraceId, toUnixTimestamp64Milli(t.LastIngested) AS LastIngested, g.Generation AS Generation,
    t.Spans AS Spans, t.ConversationId AS ConversationId, t.CaseId AS CaseId, g.GraderSet AS GraderSet,
    toUInt8(g.Generation = 0 OR t.LastIngested > g.LastIngested OR (g.SpanRows > 0 AND t.Spans != g.SpanRows)) AS Grown
FROM
(
    SELECT TraceId, max(RootSeen) AS Root, max(LastIngested) AS LastIngested, sum(AgentSpanRows) AS AgentSpans, sum(SpanRows) AS Spans,
        max(ConversationId) AS ConversationId, max(CaseId) AS CaseId, if(max(RootService) != '', max(RootService), max(AnyService)) AS Service
    FROM traces
    WHERE TraceId > {after:String} AND cityHash64(TraceId) % {shards:UInt32} = {shard:UInt32}
    GROUP BY TraceId
) AS t
LEFT JOIN
(
    SELECT TraceId, Generation, LastIngested, SpanRows, GraderSet, GradedAt FROM graded_traces FINAL WHERE TraceId > {after:String}
) AS g ON t.TraceId = g.TraceId
LEFT JOIN
(
    SELECT TraceId, Generation, uniqExact(Grader) AS Graders
    FROM grades
    WHERE notEmpty({graders:Array(String)}) AND TraceId > {after:String}
      AND concat(Grader, ' ', GraderVersion, ' ', ConfigDigest) IN {graders:Array(String)}
      AND toUnixTimestamp64Milli(GradedAt) >= {before_ms:Int64}
    GROUP BY TraceId, Generation
) AS n ON t.TraceId = n.TraceId AND g.Generation = n.Generation
WHERE t.AgentSpans > 0
  AND toUnixTimestamp64Milli(t.LastIngested) >= {since_ms:Int64} AND toUnixTimestamp64Milli(t.LastIngested) < {until_ms:Int64}
  AND ({service:String} = '' OR t.Service = {service:String})
  AND (
      Grown
      OR if(
          empty({graders:Array(String)}),
          g.GraderSet != {grader_set:String} OR toUnixTimestamp64Milli(g.GradedAt) < {before_ms:Int64},
          n.Graders < {number:UInt32})
  )
  AND (
      (t.Root = 1 AND t.LastIngested <= now64(3) - toIntervalMillisecond({grace_ms:UInt64}))
      OR t.LastIngested <= now64(3) - toIntervalMillisecond({idle_ms:UInt64})
  )
ORDER BY TraceId
LIMIT {limit:UInt32}
