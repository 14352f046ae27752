"""Sets of values that users may have, for tests that hold for all of them."""

from tests.charts.chart import Values

OWN_PROMETHEUS: Values = {
    "prometheus": {"bundled": False, "url": "http://prometheus.monitoring.svc:9090"}
}
SECURED_PROMETHEUS: Values = {
    "prometheus": {
        "bundled": False,
        "url": "https://mimir.example/prometheus",
        "caSecret": {"name": "mimir-ca"},
        "clientCertificateSecret": {"name": "mimir-client"},
        "basicAuthSecret": {"name": "mimir-login", "username": "user"},
        "headers": {"X-Scope-OrgID": "team-a|team-b"},
        "headersSecret": "mimir-headers",
        "labels": {"cluster": "eu-1"},
        "timeoutSeconds": 20,
    }
}
OPENSHIFT_PROMETHEUS: Values = {
    "prometheus": {
        "bundled": False,
        "url": "https://thanos-querier.openshift-monitoring.svc:9091",
        "caConfigMap": {"name": "openshift-service-ca.crt", "key": "service-ca.crt"},
        "serviceAccountToken": {"enabled": True, "expirationSeconds": 8640000},
    }
}
EVERYTHING_SET: Values = {
    "watchNamespaces": ["team-a", "team-b"],
    "imagePullSecrets": [{"name": "registry"}],
    "image": {
        "repository": "registry.example/cascade/operator",
        "tag": "1.2.3",
        "pullPolicy": "Always",
    },
    "router": {"image": {"repository": "registry.example/cascade/router", "tag": "1.2.4"}},
    "simulatedEngine": {
        "image": {"repository": "registry.example/cascade/simulator", "tag": "1.2.5"}
    },
    "vllm": {"image": "registry.example/vllm:1"},
    "replicas": 3,
    "logLevel": "DEBUG",
    "resyncSeconds": 5,
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"note": "operator"},
    "podLabels": {"team": "serving"},
    "priorityClassName": "system-cluster-critical",
    "serviceAccount": {"annotations": {"note": "account"}},
    "prometheus": {
        "storage": {"persistent": True, "size": "10Gi", "storageClassName": "fast"},
        "scrapeInterval": "15s",
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
}
