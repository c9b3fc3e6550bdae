{{/* Names, labels and what every pod has in common. Called with (dict "root" $ "part" "scheduler"). */}}

{{- define "orrery.name" -}}
{{- printf "%s-%s" (.root.Release.Name | trunc 40 | trimSuffix "-") .part -}}
{{- end }}

{{- define "orrery.selector" -}}
app.kubernetes.io/name: orrery
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "orrery.labels" -}}
{{ include "orrery.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "orrery.blobs" -}}
{{- if .Values.blobs.existingClaim -}}
{{ .Values.blobs.existingClaim }}
{{- else -}}
{{ include "orrery.name" (dict "root" . "part" "blobs") }}
{{- end -}}
{{- end }}

{{- define "orrery.blobsUrl" -}}
{{- get .Values.settings "ORRERY_BLOBS_URL" | default "file:///var/lib/orrery/blobs" -}}
{{- end }}

{{/* Jobs have a namespace of their own: their executor reads Secrets there, and those of this release are none of its business. */}}
{{- define "orrery.jobsNamespace" -}}
{{- .Values.jobs.namespace | default (printf "%s-jobs" .Release.Name) -}}
{{- end }}

{{/* The claim that Jobs mount: a claim belongs to one namespace. */}}
{{- define "orrery.jobsBlobs" -}}
{{- if eq (include "orrery.jobsNamespace" .) .Release.Namespace -}}
{{ include "orrery.blobs" . }}
{{- else if .Values.jobs.blobsClaim -}}
{{ .Values.jobs.blobsClaim }}
{{- else if hasPrefix "file:" (include "orrery.blobsUrl" .) -}}
{{ fail "jobs: name in jobs.blobsClaim a claim of their namespace on the volume of blobs, or give an object store as ORRERY_BLOBS_URL in settings" }}
{{- end -}}
{{- end }}

{{/* The part of a pod's spec that is the same for all; only `runtimes` and `jobs` talk to the Kubernetes API. */}}
{{- define "orrery.pod" -}}
serviceAccountName: {{ include "orrery.name" . }}
automountServiceAccountToken: {{ has .part (list "runtimes" "jobs") }}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "orrery.selector" . | nindent 8 }}
{{- end }}

{{/* The part of a container that is the same for all. */}}
{{- define "orrery.container" -}}
imagePullPolicy: {{ .root.Values.imagePullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
livenessProbe:
  httpGet: { path: /livez, port: admin }
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 2
  failureThreshold: 1
startupProbe:
  httpGet: { path: /livez, port: admin }
  periodSeconds: 1
  failureThreshold: 60
envFrom:
  - configMapRef:
      name: {{ include "orrery.name" (dict "root" .root "part" "settings") }}
{{- end }}
