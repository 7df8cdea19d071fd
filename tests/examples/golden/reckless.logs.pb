
ß
¿
"
telemetry.sdk.language
python
%
telemetry.sdk.name
opentelemetry
!
telemetry.sdk.version
1.45.2
=
service.instance.id&
$eb37a3be-4b7a-4c9a-be8c-c331fa802970

service.name
support-agent

service.version

1.2.0-rc
+
deployment.environment.name

evaluation
#
tracegrade.run.id
run-reckless

support-agent.approvals
ß
¿
"
telemetry.sdk.language
python
%
telemetry.sdk.name
opentelemetry
!
telemetry.sdk.version
1.45.2
=
service.instance.id&
$eb37a3be-4b7a-4c9a-be8c-c331fa802970

service.name
support-agent

service.version

1.2.0-rc
+
deployment.environment.name

evaluation
#
tracegrade.run.id
run-reckless

support-agent.approvals
ß
¿
"
telemetry.sdk.language
python
%
telemetry.sdk.name
opentelemetry
!
telemetry.sdk.version
1.45.2
=
service.instance.id&
$eb37a3be-4b7a-4c9a-be8c-c331fa802970

service.name
support-agent

service.version

1.2.0-rc
+
deployment.environment.name

evaluation
#
tracegrade.run.id
run-reckless

support-agent.approvals