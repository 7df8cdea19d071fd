-- Take back the marks of every trace that ran the suite: the worker finds them ungraded and makes a new generation.
INSERT INTO graded_traces (TraceId, Generation, LastIngested, Completeness, GraderSet)
SELECT TraceId, Generation, toDateTime64(0, 3), Completeness, GraderSet
FROM graded_traces FINAL
WHERE TraceId IN (SELECT TraceId FROM traces_v WHERE Suite = {suite:String} AND CaseId != '')
