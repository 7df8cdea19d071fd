{{- /*
Refuses values that fit the schema and still cannot work, with every message at once. Types and unknown keys are
values.schema.json's; the contents of `config` and of the policies are checked by tracegrade when it starts.
*/ -}}
{{- define "tracegrade.checks" -}}
{{- $found := list -}}
{{- with .Values -}}
{{- if not .image.repository -}}
{{- $found = append $found "image.repository is required: no image is published; build one from a checkout as the chart's README says, and name it" -}}
{{- end -}}
{{- if gt (int .replicas) 1 -}}
{{- if .store.existingSecret -}}
{{- $found = append $found (printf "replicas: %d cannot be: decisions form one chain, which one process must write; set replicas: 1, and scale the ClickHouse server" (int .replicas)) -}}
{{- else -}}
{{- $found = append $found (printf "replicas: %d cannot be: the embedded database belongs to one process; set replicas: 1, and to grow beyond one machine keep traces on a ClickHouse server (store.existingSecret)" (int .replicas)) -}}
{{- end -}}
{{- end -}}
{{- if and .networkPolicy.from (not .networkPolicy.enabled) -}}
{{- $found = append $found "networkPolicy.from has no effect while networkPolicy.enabled is false; enable the policy, or remove `from`" -}}
{{- end -}}
{{- range $file := keys .agentPolicies | sortAlpha -}}
{{- if hasKey $.Values.policies $file -}}
{{- $found = append $found (printf "agentPolicies: policies has a file named %s, too; rename one of them" $file) -}}
{{- end -}}
{{- end -}}
{{- range $group, $policies := dict "policies" .policies "agentPolicies" .agentPolicies -}}
{{- if hasKey $policies "tracegrade.yaml" -}}
{{- $found = append $found (printf "%s: the file name tracegrade.yaml is taken by tracegrade's configuration; rename the policy's file" $group) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey (.Values.config.grading | default dict) "agent_policies" -}}
{{- $found = append $found "config.grading.agent_policies cannot be set: policies are text; put them under agentPolicies" -}}
{{- end -}}
{{- range $key, $way := dict
      "data_dir" "the chart mounts the volume there; size it with persistence"
      "insecure" "the chart sets it, and networkPolicy is the guard"
      "gate" "addresses and ports belong to the chart"
      "clickhouse" "addresses and ports belong to the chart"
      "admin" "addresses and ports belong to the chart"
      "store" "a DSN holds a password: put it into a Secret and name it in store.existingSecret"
      "policies" "policies are text: put them under policies" -}}
{{- if hasKey $.Values.config $key -}}
{{- $found = append $found (printf "config.%s cannot be set: %s" $key $way) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "buffer_dir" "grpc_host" "grpc_port" "http_host" "http_port" -}}
{{- if hasKey ($.Values.config.collector | default dict) $key -}}
{{- $found = append $found (printf "config.collector.%s cannot be set: addresses, ports and volumes belong to the chart" $key) -}}
{{- end -}}
{{- end -}}
{{- if $found -}}
{{- fail (printf "\n\n  - %s\n" (join "\n  - " $found)) -}}
{{- end -}}
{{- end -}}
