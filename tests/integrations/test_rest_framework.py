"""Views of the Django REST framework take from a bucket."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import django
from django.conf import settings

from crdtbucket import BucketSpec, Limiter

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []},
    )
    django.setup()

from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from crdtbucket.integrations.rest_framework import BucketThrottle

ASK = APIRequestFactory()


def view(**attributes: Any) -> Any:
    """A view with a throttle that has these attributes."""
    spec = BucketSpec("api", capacity=2, refill_rate=1, refill_interval="1h")
    bucket = Limiter([spec]).bucket("api")
    throttle = type("Throttle", (BucketThrottle,), {"bucket": bucket, **attributes})

    class Hello(APIView):
        throttle_classes: ClassVar[list[Any]] = [throttle]

        def get(self, request: Any) -> Response:
            return Response("hello")

    return Hello.as_view()


def statuses(hello: Any, times: int, user: Any = None, **of_request: str) -> list[int]:
    found = []
    for _ in range(times):
        request = ASK.get("/", **of_request)
        force_authenticate(request, user=user)
        found.append(hello(request).status_code)
    return found


def test_each_address_has_its_own_limit_whatever_it_forwards() -> None:
    hello = view()
    assert statuses(hello, 1, REMOTE_ADDR="203.0.113.9") == [200]
    assert statuses(hello, 1, REMOTE_ADDR="203.0.113.9", HTTP_X_FORWARDED_FOR="1.2.3.4") == [200]
    assert statuses(hello, 1, REMOTE_ADDR="203.0.113.9", HTTP_X_FORWARDED_FOR="1.2.3.5") == [429]
    assert statuses(hello, 1, REMOTE_ADDR="203.0.113.10") == [200]
    denied = hello(ASK.get("/", REMOTE_ADDR="203.0.113.9"))
    assert 3_500 < int(denied["Retry-After"]) <= 3_600


def test_proxies_that_are_trusted_name_the_client() -> None:
    hello = view(trusted=["10.0.0.0/8"])
    for client in ("203.0.113.9", "203.0.113.10"):
        asked = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": client}
        assert statuses(hello, 3, **asked) == [200, 200, 429]


def test_a_client_that_sends_no_address_as_its_own_gets_400() -> None:
    """Uvicorn puts what a client writes into `X-Forwarded-For` in place of the peer."""
    assert statuses(view(), 1, REMOTE_ADDR="unknown") == [400]


def test_a_user_has_one_limit_at_every_address() -> None:
    hello = view()
    ann = SimpleNamespace(pk=7, is_authenticated=True)
    assert statuses(hello, 2, ann, REMOTE_ADDR="203.0.113.1") == [200, 200]
    assert statuses(hello, 1, ann, REMOTE_ADDR="203.0.113.2") == [429]


def test_cost_and_key_may_be_overridden() -> None:
    def key(self: Any, request: Any, view: Any) -> str | None:
        return request.headers.get("X-Tenant")

    hello = view(get_key=key, get_cost=lambda self, request, view: 2)
    assert statuses(hello, 2, HTTP_X_TENANT="acme") == [200, 429]
    assert statuses(hello, 3) == [200, 200, 200]  # without a key nobody is limited
