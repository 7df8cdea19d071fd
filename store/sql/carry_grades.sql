-- The grades that count of these traces, as those of the next generation; not those of the graders that are run anew.
INSERT INTO grades
    (TraceId, SpanId, Grader, Subject, GraderVersion, ConfigDigest, Outcome, Score, Label, Reason, Severity, Evidence, Completeness,
    CaseDigest, GradedAt, Generation)
SELECT
    TraceId, SpanId, Grader, Subject, GraderVersion, ConfigDigest, Outcome, Score, Label, Reason, Severity, Evidence, Completeness,
    CaseDigest, GradedAt, Generation + 1
FROM
(
    SELECT * FROM grades FINAL
    WHERE TraceId IN {trace_ids:Array(String)}
      AND Grader NOT IN {graders:Array(String)} AND NOT startsWith(Grader, 'worker/')
) AS r
INNER JOIN
(
    SELECT TraceId, Generation FROM graded_traces FINAL WHERE TraceId IN {trace_ids:Array(String)}
) AS m ON r.TraceId = m.TraceId AND r.Generation = m.Generation
