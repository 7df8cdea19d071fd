
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
$b0682978-0780-41fa-a187-d159d10df8d2

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
$b0682978-0780-41fa-a187-d159d10df8d2

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