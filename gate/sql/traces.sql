-- One row of columns: a million small rows would cost more than everything the gate does with them.
WITH arm AS (${arm}),
tokens AS
(
    -- A model call that does not tell makes the sum unknown, not smaller.
    SELECT
        TraceId,
        if(count() = count(InputTokens), sum(InputTokens), NULL) AS Input,
        if(count() = count(OutputTokens), sum(OutputTokens), NULL) AS Output
    FROM
    (
        -- Only model calls count, and of those inside others the inner ones: the spans around them may repeat their sum. A
        -- client may send a span twice.
        SELECT TraceId, SpanId, InputTokens, OutputTokens
        FROM agent_spans
        WHERE Kind = 'llm' AND TraceId IN (SELECT TraceId FROM arm)
            AND (TraceId, SpanId) NOT IN (
                SELECT TraceId, ParentSpanId FROM agent_spans WHERE Kind = 'llm' AND TraceId IN (SELECT TraceId FROM arm))
        LIMIT 1 BY TraceId, SpanId
    )
    GROUP BY TraceId
),
failures AS
(
    SELECT TraceId, arrayStringConcat(groupArray(Text), ' ') AS Error
    FROM
    (
        SELECT
            TraceId,
            concat(
                Attributes['error.type'], ' ', StatusMessage, ' ',
                arrayStringConcat(
                    arrayMap(a -> concat(a['exception.type'], ' ', a['exception.message']), Events.Attributes), ' ')
            ) AS Text
        FROM agent_spans
        WHERE ParentSpanId = '' AND StatusCode = 'Error' AND TraceId IN (SELECT TraceId FROM arm)
        LIMIT 1 BY TraceId, SpanId
    )
    GROUP BY TraceId
)
SELECT
    groupArray(TraceId) AS TraceIds,
    groupArray(CaseId) AS CaseIds,
    groupArray(DurationNs / 1e6) AS LatencyMs,
    groupArray(ifNull(toFloat64(Input), nan)) AS InputTokens,
    groupArray(ifNull(toFloat64(Output), nan)) AS OutputTokens,
    groupArray(Error) AS Errors,
    groupUniqArray(Service) AS Services
FROM
(
    SELECT
        arm.TraceId AS TraceId, arm.CaseId AS CaseId, arm.DurationNs AS DurationNs, arm.Service AS Service,
        tokens.Input AS Input, tokens.Output AS Output, failures.Error AS Error
    FROM arm
    LEFT JOIN tokens ON tokens.TraceId = arm.TraceId
    LEFT JOIN failures ON failures.TraceId = arm.TraceId
    ORDER BY CaseId, TraceId
)
