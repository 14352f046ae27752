"""A cluster with the release in it: where the demo and the scenarios play."""

from collections.abc import Callable
from dataclasses import dataclass

from e2e import cluster as clusters
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl
from e2e.harness.release import Helm, Images, apply_crd, images_of, values
from e2e.harness.service import Service

SYSTEM_NAMESPACE = "cascade-system"
OPERATOR_SELECTOR = "app.kubernetes.io/component=operator"


@dataclass(frozen=True)
class Platform:
    """A cluster, the images in it, and the chart installed."""

    cluster: clusters.Cluster
    images: Images
    kubectl: Kubectl
    helm: Helm

    @classmethod
    def prepare(cls, cluster: clusters.Cluster, say: Callable[[str], None]) -> "Platform":
        """Build and load the images, install or upgrade the release, wait until it is up."""
        built = clusters.build_images(cluster, say)
        cluster.load_images(built)
        platform = cls(
            cluster=cluster,
            images=images_of(built),
            kubectl=Kubectl(tuple(cluster.kubectl), "default"),
            helm=Helm(cluster.helm, cluster.kubeconfig),
        )
        say("helm upgrade --install, and waiting for the operator and Prometheus")
        platform.install()
        return platform

    def install(self) -> None:
        """`helm upgrade --install`, CRD included."""
        apply_crd(self.kubectl)
        self.helm.install(SYSTEM_NAMESPACE, values(self.images))

    def create_namespace(self, name: str) -> Kubectl:
        """A namespace under the restricted Pod Security level; fine if it is there already."""
        self.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": name,
                    "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
                },
            }
        )
        return self.kubectl.within(name)

    def kill_operator(self) -> None:
        """End the operator's pods at once, without a chance to tidy up."""
        self.kubectl.within(SYSTEM_NAMESPACE).delete(
            "pods", "-l", OPERATOR_SELECTOR, "--grace-period=0", "--force"
        )

    def scale(self, deployment: str, replicas: int) -> None:
        """Scale a Deployment of the release and wait until its pods agree."""
        system = self.kubectl.within(SYSTEM_NAMESPACE)
        system.run("scale", f"deployment/{deployment}", f"--replicas={replicas}")

        def agrees() -> bool:
            status = system.get("deployment", deployment).get("status", {})
            return {status.get("replicas", 0), status.get("readyReplicas", 0)} == {replicas}

        until(f"{deployment} at {replicas} replicas", agrees, seconds=90)


def delete_service(service: Service, *, seconds: float = 120.0) -> None:
    """Delete a CascadeService and wait until none of its pods is left."""
    service.kubectl.delete("cascadeservice", service.name)
    until(
        f"no pod of {service.name} left",
        lambda: not service.pods(),
        seconds=seconds,
        seen=service.pods,
    )
