-- What the gate keeps: golden cases by digest, and every decision for ever.

CREATE TABLE IF NOT EXISTS ${here:suites}
(
    Suite     String,
    Digest    String,
    Document  String CODEC(ZSTD(3)),
    CreatedAt DateTime64(3) DEFAULT now64(3)
)
ENGINE = ${everywhere:ReplacingMergeTree(CreatedAt)}
ORDER BY (Suite, Digest);

CREATE TABLE IF NOT EXISTS ${here:cases}
(
    Suite       String,
    SuiteDigest String,
    CaseId      String,
    CaseDigest  String,
    Bucket      LowCardinality(String),
    Document    String CODEC(ZSTD(3)),
    CreatedAt   DateTime64(3) DEFAULT now64(3)
)
ENGINE = ${everywhere:ReplacingMergeTree(CreatedAt)}
ORDER BY (Suite, SuiteDigest, CaseId);

CREATE TABLE IF NOT EXISTS ${here:decisions}
(
    DecisionId     String,
    DecidedAt      DateTime64(3),
    Decision       LowCardinality(String),
    Reasons        Array(String),
    Suite          String,
    SuiteDigest    String,
    PolicyName     String,
    PolicyDigest   String,
    EvidenceDigest String,
    Baseline       String,
    Candidate      String,
    Digest         String,
    PreviousDigest String,
    Document       String CODEC(ZSTD(3))
)
ENGINE = ${everywhere:MergeTree}
ORDER BY (DecidedAt, DecisionId);
