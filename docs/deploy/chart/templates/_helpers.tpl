{{- define "wan-mcp.labels" -}}
app.kubernetes.io/name: wan-mcp
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wan-mcp.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "wan-mcp.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "wan-mcp.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* What the proxy and the ingress let through: never the health checks and the metrics. */ -}}
{{- define "wan-mcp.paths" -}}
{{- $paths := list "/mcp" "/uploads" -}}
{{- if .Values.signIn.by -}}
{{- $paths = concat $paths (list "/token/mcp" "/key" "/.well-known/oauth-protected-resource") -}}
{{- end -}}
{{ $paths | toJson }}
{{- end -}}
