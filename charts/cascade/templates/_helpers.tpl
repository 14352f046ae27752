{{/* Prefix of every object's name; short enough for the longest suffix. */}}
{{- define "cascade.name" -}}
{{- .Release.Name | trunc 44 | trimSuffix "-" -}}
{{- end }}

{{- define "cascade.operatorName" -}}
{{ include "cascade.name" . }}-operator
{{- end }}

{{- define "cascade.prometheusName" -}}
{{ include "cascade.name" . }}-prometheus
{{- end }}

{{/*
Name of the operator's Role and binding, the same for every release: an install over a namespace, or
over the cluster, that has an operator already is refused by helm, and the operator of the cluster
knows namespaces that have their own by it.
*/}}
{{- define "cascade.grantName" -}}
cascadeservice-operator
{{- end }}

{{- define "cascade.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "cascade.operatorName" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | required "serviceAccount.create is false: name the existing account in serviceAccount.name" }}
{{- end -}}
{{- end }}

{{/* Labels that select one component. Call with (dict "root" . "component" "operator"). */}}
{{- define "cascade.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "cascade.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "cascade.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* An image reference. Call with (dict "root" . "image" .Values.image). */}}
{{- define "cascade.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* The Prometheus that the operator reads: exactly one of the bundled one and the user's. */}}
{{- define "cascade.prometheusUrl" -}}
{{- if and .Values.prometheus.bundled .Values.prometheus.url -}}
{{- fail "prometheus.url is set while prometheus.bundled is true: add prometheus.bundled=false to use your own Prometheus, or leave prometheus.url empty to use the chart's" -}}
{{- else if .Values.prometheus.bundled -}}
http://{{ include "cascade.prometheusName" . }}.{{ .Release.Namespace }}.svc:9090
{{- else -}}
{{ .Values.prometheus.url | required "prometheus.bundled is false: name your own Prometheus in prometheus.url" }}
{{- end -}}
{{- end }}

{{/*
Grants `rules` to `account` where CascadeServices are looked after: everywhere by a ClusterRole, or
by one Role in each of watchNamespaces. Call with (dict "root" . "component" "name" "account" "rules").
*/}}
{{- define "cascade.grant" -}}
{{- $call := . }}
{{- range .root.Values.watchNamespaces | default (list "") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ empty . | ternary "ClusterRole" "Role" }}
metadata:
  name: {{ $call.name }}
  {{- with . }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "cascade.labels" $call | nindent 4 }}
rules:
  {{- $call.rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ empty . | ternary "ClusterRoleBinding" "RoleBinding" }}
metadata:
  name: {{ $call.name }}
  {{- with . }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "cascade.labels" $call | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ empty . | ternary "ClusterRole" "Role" }}
  name: {{ $call.name }}
subjects:
  - kind: ServiceAccount
    name: {{ $call.account }}
    namespace: {{ $call.root.Release.Namespace }}
{{- end }}
{{- end }}
