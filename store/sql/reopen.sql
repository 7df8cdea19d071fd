-- Take back the marks of these traces: the worker finds them ungraded and makes a new generation.
INSERT INTO graded_traces (TraceId, Generation, LastIngested, Completeness, GraderSet)
SELECT TraceId, Generation, toDateTime64(0, 3), Completeness, GraderSet
FROM graded_traces FINAL
WHERE TraceId IN {trace_ids:Array(String)} AND Generation <= {most:UInt32}
