-- What a decision rests on that was graded again since. `Known` says whether that was recorded at all. Marks that cannot
-- supersede anything it used, by their generation or by their time less what clocks may differ, are left unread.
SELECT
    (SELECT count() > 0 FROM (SELECT 1 FROM decision_evidence WHERE DecisionId = {id:String} LIMIT 1)) AS Known,
    length(Traces) AS Number, arraySlice(arraySort(Traces), 1, {most:UInt32}) AS Shown
FROM
(
    SELECT groupArray((TraceId, Used, Newest)) AS Traces
    FROM
    (
        SELECT e.TraceId AS TraceId, min(e.Generation) AS Used, max(m.Last) AS Newest
        FROM (SELECT TraceId, Generation FROM decision_evidence WHERE DecisionId = {id:String}) AS e
        INNER JOIN
        (
            SELECT TraceId, max(Generation) AS Last
            FROM graded_traces
            WHERE Generation > (SELECT min(Generation) FROM decision_evidence WHERE DecisionId = {id:String})
              AND GradedAt >= fromUnixTimestamp64Milli({since_ms:Int64})
            GROUP BY TraceId
        ) AS m ON e.TraceId = m.TraceId
        WHERE m.Last > e.Generation
        GROUP BY TraceId
    )
)
