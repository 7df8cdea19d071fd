-- The graded traces of these conversations, the last graded first.
SELECT ConversationId, TraceId
FROM conversations FINAL
WHERE ConversationId IN {conversations:Array(String)}
ORDER BY ConversationId, WrittenAt DESC, TraceId
LIMIT {most:UInt32} BY ConversationId
