-- Long texts come cut and are no longer `present`: another trace's call is context, not what is judged.
SELECT
    TraceId, CallKey, ToolName, Position, StartNs, DurationNs, CallId, ArgumentsText, ArgumentsHow, ResultText, ResultHow, Ran,
    Error, SpanId, RequestSpanId, Agent
FROM
(
    SELECT
        TraceId, Generation, CallKey, toString(ToolName) AS ToolName, Position, toUnixTimestamp64Nano(Start) AS StartNs,
        DurationNs, CallId,
        substringUTF8(Arguments, 1, {longest:UInt32}) AS ArgumentsText,
        if(lengthUTF8(Arguments) > {longest:UInt32}, 'truncated', toString(ArgumentsState)) AS ArgumentsHow,
        substringUTF8(Result, 1, {longest:UInt32}) AS ResultText,
        if(lengthUTF8(Result) > {longest:UInt32}, 'truncated', toString(ResultState)) AS ResultHow,
        toString(Executed) AS Ran, substringUTF8(Error, 1, {longest:UInt32}) AS Error, SpanId, RequestSpanId,
        toString(Agent) AS Agent
    FROM tool_calls FINAL
    WHERE TraceId IN {trace_ids:Array(String)}
) AS c
INNER JOIN
(
    SELECT TraceId, Generation FROM graded_traces FINAL WHERE TraceId IN {trace_ids:Array(String)}
) AS m ON c.TraceId = m.TraceId AND c.Generation = m.Generation
ORDER BY TraceId, Position
LIMIT {most:UInt32} BY TraceId
