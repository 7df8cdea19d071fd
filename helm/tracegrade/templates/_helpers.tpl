{{- define "tracegrade.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tracegrade.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tracegrade.labels" -}}
{{ include "tracegrade.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The ports in order; ClickHouse's interface exists only with the embedded database. */ -}}
{{- define "tracegrade.ports" -}}
otlp-grpc: 4317
otlp-http: 4318
gate: 8080
gate-grpc: 8081
admin: 8082
{{- if not .Values.store.existingSecret }}
clickhouse: 8123
{{- end }}
{{- end -}}

{{- /* tracegrade's configuration: the user's keys, and over them those that belong to the chart. */ -}}
{{- define "tracegrade.config" -}}
{{- $collector := dict "grpc_host" "0.0.0.0" "grpc_port" 4317 "http_host" "0.0.0.0" "http_port" 4318 -}}
{{- $own := dict
      "data_dir" "/var/lib/tracegrade"
      "insecure" true
      "collector" $collector
      "gate" (dict "host" "0.0.0.0" "port" 8080 "grpc_port" 8081)
      "admin" (dict "host" "0.0.0.0" "port" 8082) -}}
{{- if not .Values.store.existingSecret -}}
{{- $_ := set $own "clickhouse" (dict "host" "0.0.0.0" "port" 8123) -}}
{{- end -}}
{{- if .Values.policies -}}
{{- $paths := list -}}
{{- range $file := keys .Values.policies | sortAlpha -}}
{{- $paths = append $paths (printf "/etc/tracegrade/%s" $file) -}}
{{- end -}}
{{- $_ := set $own "policies" $paths -}}
{{- end -}}
{{- if .Values.agentPolicies -}}
{{- $paths := list -}}
{{- range $file := keys .Values.agentPolicies | sortAlpha -}}
{{- $paths = append $paths (printf "/etc/tracegrade/%s" $file) -}}
{{- end -}}
{{- $_ := set $own "grading" (dict "agent_policies" $paths) -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) -}}
{{- end -}}
