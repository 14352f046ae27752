"""Upstream Kubernetes on this machine: real components, one node, no way out.

Owns the cluster's processes, its namespaces and its state folder. All components run in one
network, mount and process namespace of their own, held open by one process: when that process
ends, the kernel ends all others, and takes mounts, links and packet filters away with them.
Knows nothing of the project's images beyond archives to import.
"""
