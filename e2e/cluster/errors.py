"""What can go wrong between a user and a cluster."""


class ClusterError(Exception):
    """Says what happened, to what, and what to do."""


class Unsupported(ClusterError):
    """The provider in use cannot do this; another one can."""
