"""What the demo and the scenarios share: a release, a CascadeService, load on it, eyes on its pods.

Acts as a user does, through kubectl and helm. Knows nothing of how a cluster is obtained.
"""
