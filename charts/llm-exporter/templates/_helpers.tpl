{{- define "llm-exporter.name" -}}
{{- if contains "llm-exporter" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-llm-exporter{{ end -}}
{{- end }}

{{- define "llm-exporter.selector" -}}
app.kubernetes.io/name: llm-exporter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "llm-exporter.labels" -}}
{{ include "llm-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "llm-exporter.metadata" -}}
name: {{ include "llm-exporter.name" . }}
labels: {{- include "llm-exporter.labels" . | nindent 2 }}
{{- end }}

{{- define "llm-exporter.secret" -}}
{{ .Values.auth.existingSecret | default (include "llm-exporter.name" .) }}
{{- end }}

{{- define "llm-exporter.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "llm-exporter.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}
