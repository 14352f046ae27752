"""The operator at scale: the real API server and controllers, no kubelet, many instances."""
