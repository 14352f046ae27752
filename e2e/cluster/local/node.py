"""Configuration and command lines of the node: containerd, kubelet, kube-proxy, CoreDNS."""

import json
from typing import Any

from e2e.cluster.local.layout import (
    CONTAINERD_SOCKET,
    DNS_DOMAIN,
    DNS_SERVICE_ADDRESS,
    NODE,
    NODE_ADDRESS,
    PAUSE_IMAGE,
    POD_NETWORK,
    Layout,
)


def files(layout: Layout) -> dict[str, str]:
    """Configuration files by path under `config/`."""
    return {
        "containerd.toml": containerd_config(layout),
        "cni/10-cascade.conflist": json.dumps(network_config(), indent=1),
        "kubelet.yaml": json.dumps(kubelet_config(layout), indent=1),
        "kube-proxy.yaml": json.dumps(proxy_config(layout), indent=1),
        "Corefile": corefile(layout),
        "resolv.conf": f"nameserver {DNS_SERVICE_ADDRESS}\n",
    }


def containerd_config(layout: Layout) -> str:
    """containerd with its CRI plugin alone.

    restrict_oom_score_adj: where root lacks CAP_SYS_RESOURCE, runc may not lower OOM scores, and
    no sandbox would start. AppArmor profiles would stay in the kernel when the cluster goes.
    """
    return f"""\
version = 2
root = "{layout.inside}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{layout.cni}"
    conf_dir = "{layout.config}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"""


def network_config() -> dict[str, Any]:
    """Pod network: each pod on a routed link of its own.

    With a bridge, an answer from a Service's pod to its neighbour would pass the packet filter
    only where the br_netfilter module is loaded; a routed link always passes it.
    """
    return {
        "cniVersion": "0.4.0",
        "name": "cascade",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_NETWORK}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def kubelet_config(layout: Layout) -> dict[str, Any]:
    """KubeletConfiguration for a small machine that has other things to do as well."""
    pki = layout.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDomain": DNS_DOMAIN,
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "resolvConf": str(layout.config / "resolv.conf"),
        "podLogsDir": str(layout.inside / "pod-logs"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "failCgroupV1": False,
        "makeIPTablesUtilChains": False,
        "localStorageCapacityIsolation": False,
        "maxPods": 250,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        # Quick failure of a throwaway node is worth more than patience.
        "shutdownGracePeriod": "0s",
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "registryPullQPS": 0,
        "serializeImagePulls": False,
    }


def proxy_config(layout: Layout) -> dict[str, Any]:
    """KubeProxyConfiguration: nftables, and no change to the machine's conntrack limits."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(layout.config / "kube-proxy")},
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": NODE,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {
            "maxPerCore": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "nftables": {"minSyncPeriod": "0.1s", "syncPeriod": "30s"},
    }


def corefile(layout: Layout) -> str:
    """CoreDNS for the cluster's own names: there is no way out, so it forwards nothing."""
    return f"""\
{DNS_DOMAIN}:53 in-addr.arpa:53 {{
    bind {NODE_ADDRESS}
    errors
    health {NODE_ADDRESS}:8080
    ready {NODE_ADDRESS}:8181
    cache 5
    kubernetes {DNS_DOMAIN} in-addr.arpa {{
        kubeconfig {layout.config / "coredns"}
        ttl 5
    }}
}}
"""


def containerd(layout: Layout) -> list[str]:
    """containerd's command line."""
    return ["containerd", f"--config={layout.config / 'containerd.toml'}", "--log-level=warn"]


def kubelet(layout: Layout) -> list[str]:
    """kubelet's command line."""
    return [
        str(layout.programs / "kubelet"),
        f"--config={layout.config / 'kubelet.yaml'}",
        f"--kubeconfig={layout.config / 'kubelet'}",
        f"--root-dir={layout.inside / 'kubelet'}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
    ]


def proxy(layout: Layout) -> list[str]:
    """kube-proxy's command line."""
    return [
        str(layout.programs / "kube-proxy"),
        f"--config={layout.config / 'kube-proxy.yaml'}",
    ]


def coredns(layout: Layout) -> list[str]:
    """CoreDNS's command line."""
    return [str(layout.programs / "coredns"), "-conf", str(layout.config / "Corefile")]


def dns_objects() -> list[dict[str, Any]]:
    """What makes CoreDNS, a process on the node, the cluster's DNS."""
    return [*_dns_service(), *_dns_permissions()]


def _dns_service() -> list[dict[str, Any]]:
    """A Service without selector that leads to the node's own address."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {"clusterIP": DNS_SERVICE_ADDRESS, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        },
    ]


def _dns_permissions() -> list[dict[str, Any]]:
    """What CoreDNS may read."""
    name = "system:coredns"
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": name,
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        },
    ]
