-- One verdict a trace and grader, folded from the grades of its spans: the worst speaks for the trace, and a trace is
-- only skipped if every span is. Columns in arrays, one row a grader.
WITH arm AS (${arm})
SELECT
    Grader,
    groupArray(TraceId) AS TraceIds,
    groupArray(Verdict) AS Outcomes,
    groupArray(Mean) AS Scores,
    groupArray(CaseDigest) AS CaseDigests,
    groupUniqArrayArray(Versions) AS GraderVersions,
    groupUniqArrayArray(Configs) AS ConfigDigests
FROM
(
    SELECT
        toString(g.Grader) AS Grader,
        g.TraceId AS TraceId,
        multiIf(
            countIf(g.Outcome = 'fail') > 0, 'fail',
            countIf(g.Outcome = 'error') > 0, 'error',
            countIf(g.Outcome = 'unknown') > 0, 'unknown',
            countIf(g.Outcome = 'pass') > 0, 'pass',
            'skip') AS Verdict,
        ifNull(avg(g.Score), nan) AS Mean,
        max(toString(g.CaseDigest)) AS CaseDigest,
        groupUniqArray(toString(g.GraderVersion)) AS Versions,
        groupUniqArray(toString(g.ConfigDigest)) AS Configs
    FROM grades_v AS g
    WHERE g.Grader IN {graders:Array(String)} AND g.TraceId IN (SELECT TraceId FROM arm)
    GROUP BY Grader, TraceId
    ORDER BY Grader, TraceId
)
GROUP BY Grader
ORDER BY Grader
