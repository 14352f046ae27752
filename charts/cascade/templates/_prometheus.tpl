{{/*
How the operator reaches the user's own Prometheus: what contradicts itself is refused, with words
that say what to do, because a JSON schema has none of its own for that.
*/}}

{{/* Names of the values by which the operator is let in, as a list in JSON. */}}
{{- define "cascade.prometheusLogins" -}}
{{- $prometheus := .Values.prometheus }}
{{- $logins := list }}
{{- if $prometheus.bearerTokenSecret.name }}{{ $logins = append $logins "bearerTokenSecret" }}{{ end }}
{{- if $prometheus.bearerTokenFile }}{{ $logins = append $logins "bearerTokenFile" }}{{ end }}
{{- if $prometheus.serviceAccountToken.enabled }}{{ $logins = append $logins "serviceAccountToken" }}{{ end }}
{{- if $prometheus.basicAuthSecret.name }}{{ $logins = append $logins "basicAuthSecret" }}{{ end }}
{{- toJson $logins }}
{{- end }}

{{/* Names of the values that concern certificates, as a list in JSON. */}}
{{- define "cascade.prometheusTls" -}}
{{- $prometheus := .Values.prometheus }}
{{- $tls := list }}
{{- if $prometheus.caSecret.name }}{{ $tls = append $tls "caSecret" }}{{ end }}
{{- if $prometheus.caConfigMap.name }}{{ $tls = append $tls "caConfigMap" }}{{ end }}
{{- if $prometheus.caFile }}{{ $tls = append $tls "caFile" }}{{ end }}
{{- if $prometheus.insecureSkipVerify }}{{ $tls = append $tls "insecureSkipVerify" }}{{ end }}
{{- toJson $tls }}
{{- end }}

{{- define "cascade.checkPrometheus" -}}
{{- $prometheus := .Values.prometheus }}
{{- $logins := include "cascade.prometheusLogins" . | fromJsonArray }}
{{- $tls := include "cascade.prometheusTls" . | fromJsonArray }}
{{- $certificates := list }}
{{- if $prometheus.clientCertificateSecret.name }}{{ $certificates = append $certificates "clientCertificateSecret" }}{{ end }}
{{- if or $prometheus.clientCertificateFile $prometheus.clientKeyFile }}{{ $certificates = append $certificates "clientCertificateFile" }}{{ end }}
{{- $headers := list }}
{{- if or $prometheus.headers $prometheus.headersSecret }}{{ $headers = append $headers "headers" }}{{ end }}
{{- if $prometheus.labels }}{{ $headers = append $headers "labels" }}{{ end }}
{{- $all := concat $logins $tls $certificates $headers }}
{{- if and $prometheus.bundled $all }}
{{- fail (printf "prometheus.%s is for a Prometheus of your own: set prometheus.bundled=false and prometheus.url, or leave it out" (first $all)) }}
{{- end }}
{{- if gt (len $logins) 1 }}
{{- fail (printf "prometheus.%s exclude each other: set the one by which your Prometheus lets the operator in" (join " and prometheus." $logins)) }}
{{- end }}
{{- if gt (len $tls) 1 }}
{{- fail (printf "prometheus.%s exclude each other: set one" (join " and prometheus." $tls)) }}
{{- end }}
{{- if gt (len $certificates) 1 }}
{{- fail (printf "prometheus.%s exclude each other: set one" (join " and prometheus." $certificates)) }}
{{- end }}
{{- if ne (empty $prometheus.clientCertificateFile) (empty $prometheus.clientKeyFile) }}
{{- fail "prometheus.clientCertificateFile and prometheus.clientKeyFile go together: set both" }}
{{- end }}
{{- if and (hasPrefix "http://" $prometheus.url) (concat $tls $certificates) }}
{{- fail (printf "prometheus.%s is about certificates, but prometheus.url begins with http://: write https://, or leave it out" (first (concat $tls $certificates))) }}
{{- end }}
{{- range $name, $_ := $prometheus.labels }}
{{- if has $name (list "namespace" "service" "le" "le_length") }}
{{- fail (printf "prometheus.labels names %s, which is a label of the routers' own: leave it out" $name) }}
{{- end }}
{{- end }}
{{- range $name, $_ := $prometheus.headers }}
{{- if eq (lower $name) "authorization" }}
{{- fail "prometheus.headers is readable by everybody who may read the Deployment: put an Authorization header into a Secret and name it in prometheus.headersSecret, or use prometheus.bearerTokenSecret or prometheus.basicAuthSecret" }}
{{- end }}
{{- end }}
{{- end }}

{{/* What of it the operator's environment says. */}}
{{- define "cascade.prometheusEnv" -}}
{{- include "cascade.checkPrometheus" . }}
{{- $prometheus := .Values.prometheus }}
{{- $folder := "/etc/cascade/prometheus" }}
- name: CASCADE_PROMETHEUS_URL
  value: {{ include "cascade.prometheusUrl" . | quote }}
- name: CASCADE_PROMETHEUS_TIMEOUT_SECONDS
  value: {{ $prometheus.timeoutSeconds | quote }}
{{- if or $prometheus.caSecret.name $prometheus.caConfigMap.name $prometheus.caFile }}
- name: CASCADE_PROMETHEUS_CA_FILE
  value: {{ $prometheus.caFile | default (print $folder "/ca.crt") | quote }}
{{- end }}
{{- if or $prometheus.clientCertificateSecret.name $prometheus.clientCertificateFile }}
- name: CASCADE_PROMETHEUS_CERTIFICATE_FILE
  value: {{ $prometheus.clientCertificateFile | default (print $folder "/tls.crt") | quote }}
- name: CASCADE_PROMETHEUS_KEY_FILE
  value: {{ $prometheus.clientKeyFile | default (print $folder "/tls.key") | quote }}
{{- end }}
{{- if or $prometheus.bearerTokenSecret.name $prometheus.bearerTokenFile $prometheus.serviceAccountToken.enabled }}
- name: CASCADE_PROMETHEUS_TOKEN_FILE
  value: {{ $prometheus.bearerTokenFile | default (print $folder "/token") | quote }}
{{- end }}
{{- if $prometheus.basicAuthSecret.name }}
- name: CASCADE_PROMETHEUS_USERNAME_FILE
  value: {{ print $folder "/username" }}
- name: CASCADE_PROMETHEUS_PASSWORD_FILE
  value: {{ print $folder "/password" }}
{{- end }}
{{- with $prometheus.headers }}
- name: CASCADE_PROMETHEUS_HEADERS
  value: {{ toJson . | quote }}
{{- end }}
{{- if $prometheus.headersSecret }}
- name: CASCADE_PROMETHEUS_HEADERS_FOLDER
  value: /etc/cascade/prometheus-headers
{{- end }}
{{- if $prometheus.insecureSkipVerify }}
- name: CASCADE_PROMETHEUS_INSECURE_SKIP_VERIFY
  value: "true"
{{- end }}
{{- with $prometheus.labels }}
- name: CASCADE_PROMETHEUS_LABELS
  value: {{ toJson . | quote }}
{{- end }}
{{- end }}

{{/*
Sources of the volume with all files of it; empty without any. A volume, because the kubelet keeps
it as the Secrets are, which it does not do for environment variables.
*/}}
{{- define "cascade.prometheusFiles" -}}
{{- with .Values.prometheus.caSecret }}{{ if .name }}
- secret:
    name: {{ .name }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end }}{{ end }}
{{- with .Values.prometheus.caConfigMap }}{{ if .name }}
- configMap:
    name: {{ .name }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end }}{{ end }}
{{- with .Values.prometheus.clientCertificateSecret }}{{ if .name }}
- secret:
    name: {{ .name }}
    items: [{key: {{ .certificate | quote }}, path: tls.crt}, {key: {{ .key | quote }}, path: tls.key}]
{{- end }}{{ end }}
{{- with .Values.prometheus.bearerTokenSecret }}{{ if .name }}
- secret:
    name: {{ .name }}
    items: [{key: {{ .key | quote }}, path: token}]
{{- end }}{{ end }}
{{- with .Values.prometheus.serviceAccountToken }}{{ if .enabled }}
- serviceAccountToken:
    path: token
    expirationSeconds: {{ int64 .expirationSeconds }}
    {{- with .audience }}
    audience: {{ . | quote }}
    {{- end }}
{{- end }}{{ end }}
{{- with .Values.prometheus.basicAuthSecret }}{{ if .name }}
- secret:
    name: {{ .name }}
    items: [{key: {{ .username | quote }}, path: username}, {key: {{ .password | quote }}, path: password}]
{{- end }}{{ end }}
{{- end }}
