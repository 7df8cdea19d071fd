-- The newest decisions; with an id, that one.
SELECT
    DecisionId, toUnixTimestamp64Milli(DecidedAt) AS DecidedAtMs, toString(Decision) AS Decision, Reasons,
    Suite, SuiteDigest, PolicyName, PolicyDigest, EvidenceDigest, Baseline, Candidate, Digest, PreviousDigest, Document
FROM decisions
WHERE ({id:String} = '' OR DecisionId = {id:String}) AND ({suite:String} = '' OR Suite = {suite:String})
ORDER BY DecidedAt DESC, DecisionId DESC
LIMIT {limit:UInt32}
