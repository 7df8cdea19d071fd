SELECT TraceId, toUnixTimestamp64Nano(Timestamp) AS TimeNs, SpanId, EventName, Body, Attributes, ScopeName
FROM agent_events
WHERE TraceId IN {trace_ids:Array(String)}
ORDER BY TraceId, Timestamp
LIMIT {most:UInt32} BY TraceId
