SELECT t.TraceId AS TraceId, c.CaseDigest AS CaseDigest, c.Document AS Document
FROM (SELECT TraceId, CaseId, Suite FROM traces_v WHERE TraceId IN {trace_ids:Array(String)} AND CaseId != '') AS t
INNER JOIN
(
    SELECT Suite, CaseId, argMax(CaseDigest, (s.CreatedAt, s.Digest)) AS CaseDigest, argMax(Document, (s.CreatedAt, s.Digest)) AS Document
    FROM (SELECT Suite, SuiteDigest, CaseId, CaseDigest, Document FROM cases FINAL) AS c
    INNER JOIN (SELECT Suite, Digest, CreatedAt FROM suites FINAL) AS s ON c.Suite = s.Suite AND c.SuiteDigest = s.Digest
    GROUP BY Suite, CaseId
) AS c ON t.CaseId = c.CaseId AND t.Suite = c.Suite
