"""Limits in HTTP: header fields, client addresses, and middleware for the common frameworks."""

from __future__ import annotations

from crdtbucket.http.answers import Answer, Verdict
from crdtbucket.http.fields import FieldOptions
from crdtbucket.http.limits import Limits
from crdtbucket.http.request import Request, by_address
from crdtbucket.http.request_rules import Rule

__all__ = ["Answer", "FieldOptions", "Limits", "Request", "Rule", "Verdict", "by_address"]
