"""Selectors of PromQL."""


def quoted(value: str) -> str:
    """A label's value as it stands between the quotes of a selector."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
