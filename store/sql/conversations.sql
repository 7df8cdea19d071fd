-- The graded traces of these conversations, the last graded first, and how many there are.
SELECT ConversationId, TraceId, Tenant, Arm, RunId, Service, count() OVER (PARTITION BY ConversationId) AS Number
FROM conversations FINAL
WHERE ConversationId IN {conversations:Array(String)}
ORDER BY ConversationId, WrittenAt DESC, TraceId
LIMIT {most:UInt32} BY ConversationId
