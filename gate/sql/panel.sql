-- One row a run of the arm: what the agent did last, whether that is what its case expects, and whether it made a call the
-- case forbids. No label where the run is not graded, or its last move could not be told.
WITH arm AS (${arm})
SELECT arm.TraceId AS TraceId, arm.CaseId AS CaseId, g.Found AS Label, g.Judged AS Outcome, g.Against AS CaseDigest, g.Forbidden AS Forbidden
FROM arm
LEFT JOIN
(
    SELECT
        TraceId,
        anyIf(toString(Label), Grader = 'action/class') AS Found,
        anyIf(toString(Outcome), Grader = 'action/class') AS Judged,
        anyIf(toString(CaseDigest), Grader = 'action/class') AS Against,
        countIf(Grader = 'tools/forbidden' AND Outcome = 'fail') > 0 AS Forbidden
    FROM grades_v
    WHERE Grader IN ('action/class', 'tools/forbidden') AND TraceId IN (SELECT TraceId FROM arm)
    GROUP BY TraceId
) AS g ON g.TraceId = arm.TraceId
ORDER BY CaseId, TraceId
