"""A module that needs an extra says how to install it."""

from __future__ import annotations

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("integrations.fastmcp", "fastmcp", "mcp"),
        ("integrations.grpc", "grpc", "grpc"),
        ("integrations.langchain", "langchain_core", "langchain"),
        ("integrations.litellm", "litellm", "litellm"),
        ("integrations.litellm", "fastapi", "litellm"),
        ("integrations.rest_framework", "rest_framework", "rest"),
        ("metrics.open_telemetry", "opentelemetry", "otel"),
        ("upstream.requests_adapter", "requests", "requests"),
    ],
)
def test_a_module_without_its_extra_says_what_to_install(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"crdtbucket.{module}", raising=False)
    with pytest.raises(ModuleNotFoundError) as raised:
        importlib.import_module(f"crdtbucket.{module}")
    missing = raised.value.name
    assert missing is not None
    assert str(raised.value) == f"this module needs {missing}: pip install 'crdtbucket[{extra}]'"
