-- The newest version of a suite, or the one with this digest.
SELECT Digest, Document
FROM suites FINAL
WHERE Suite = {suite:String} AND ({digest:String} = '' OR Digest = {digest:String})
ORDER BY CreatedAt DESC, Digest
LIMIT 1
