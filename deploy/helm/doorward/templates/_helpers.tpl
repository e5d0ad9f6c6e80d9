{{- define "doorward.name" -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "doorward.selector" -}}
app.kubernetes.io/name: doorward
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "doorward.labels" -}}
{{ include "doorward.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "doorward.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "doorward.name" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- /* The config as the gateway reads it: what the values say, and the ports that the pod has. */ -}}
{{- define "doorward.config" -}}
{{- if not .Values.config }}{{ fail "values: config is empty; write at least public_url, a provider, and upstream or route" }}{{ end -}}
{{- $admin := mergeOverwrite (dict) (default (dict) .Values.config.admin) (dict "listen" (printf "0.0.0.0:%d" (int .Values.ports.admin))) -}}
{{- $set := dict "listen" (printf "0.0.0.0:%d" (int .Values.ports.http)) "admin" $admin -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $set) -}}
{{- end -}}

{{- /* The gateway's container and its volumes, also for the charts of apps that take this one as a dependency. */ -}}
{{- define "doorward.container" -}}
name: doorward
image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: ["run", "--config", "/etc/doorward/config.yaml"]
ports:
  - { name: http, containerPort: {{ .Values.ports.http }} }
  - { name: metrics, containerPort: {{ .Values.ports.admin }} }
# Asked inside the container: the probes need no open port.
startupProbe:
  exec: { command: ["/doorward", "health", "--live", "--config", "/etc/doorward/config.yaml"] }
  periodSeconds: 1
  failureThreshold: 30
  timeoutSeconds: 4
readinessProbe:
  exec: { command: ["/doorward", "health", "--config", "/etc/doorward/config.yaml"] }
  # Within drain.delay: after SIGTERM the pod is unready before its listener closes.
  periodSeconds: 2
  failureThreshold: 1
  timeoutSeconds: 4
livenessProbe:
  exec: { command: ["/doorward", "health", "--live", "--config", "/etc/doorward/config.yaml"] }
  periodSeconds: 10
  failureThreshold: 3
  timeoutSeconds: 4
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
volumeMounts:
  - { name: doorward-config, mountPath: /etc/doorward, readOnly: true }
  {{- if .Values.secret.name }}
  - { name: doorward-secrets, mountPath: /run/secrets/doorward, readOnly: true }
  {{- end }}
{{- end -}}

{{- define "doorward.volumes" -}}
- name: doorward-config
  configMap: { name: {{ include "doorward.name" . }} }
{{- if .Values.secret.name }}
- name: doorward-secrets
  secret: { secretName: {{ .Values.secret.name | quote }}, defaultMode: 0440 }
{{- end }}
{{- end -}}
