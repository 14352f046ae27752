"""Times as the API writes them."""

from datetime import UTC, datetime


def timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 in whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
