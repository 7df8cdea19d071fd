-- The spans that made these traces fail.
SELECT TraceId, SpanId, toString(Grader) AS Grader, Subject, Label, Severity, Reason
FROM grades_v
WHERE Outcome = 'fail' AND Grader IN {graders:Array(String)} AND TraceId IN {traces:Array(String)}
ORDER BY TraceId, Grader, SpanId, Subject
LIMIT 20 BY TraceId, Grader
