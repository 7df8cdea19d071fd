-- Whose a trace of a conversation is: the id of a conversation is anybody's to claim, and what a stranger decides counts for nobody.
ALTER TABLE ${spread:conversations} ADD COLUMN IF NOT EXISTS Tenant LowCardinality(String);
ALTER TABLE ${here:conversations} ADD COLUMN IF NOT EXISTS Tenant LowCardinality(String);
ALTER TABLE ${spread:conversations} ADD COLUMN IF NOT EXISTS Arm LowCardinality(String) DEFAULT 'production';
ALTER TABLE ${here:conversations} ADD COLUMN IF NOT EXISTS Arm LowCardinality(String) DEFAULT 'production';
ALTER TABLE ${spread:conversations} ADD COLUMN IF NOT EXISTS RunId String;
ALTER TABLE ${here:conversations} ADD COLUMN IF NOT EXISTS RunId String;
ALTER TABLE ${spread:conversations} ADD COLUMN IF NOT EXISTS Service LowCardinality(String);
ALTER TABLE ${here:conversations} ADD COLUMN IF NOT EXISTS Service LowCardinality(String);
