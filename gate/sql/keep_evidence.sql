-- Which grading of which trace of the arm counts now; 0 for none.
INSERT INTO decision_evidence (DecisionId, TraceId, Arm, Generation)
WITH arm AS (${arm})
SELECT {id:String}, arm.TraceId, {arm:String}, mark.Generation
FROM arm
LEFT JOIN (SELECT TraceId, Generation FROM graded_traces FINAL) AS mark ON mark.TraceId = arm.TraceId
