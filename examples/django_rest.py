"""Django REST framework: a view with a throttle, and clients that ask it.

pip install -e '.[rest]'
python examples/django_rest.py
"""

import django
from django.conf import settings

if not settings.configured:  # as your project does
    without = {"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []}
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"], REST_FRAMEWORK=without)
    django.setup()

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from crdtbucket import BucketSpec, Limiter
from crdtbucket.integrations.rest_framework import BucketThrottle

limiter = Limiter([BucketSpec.parse("api", "3/minute")])


class ApiThrottle(BucketThrottle):
    """A report costs more than a look. Each user, or else each address, has the limit."""

    bucket = limiter.bucket("api")

    def get_cost(self, request: Request, view: APIView) -> int:
        return 2 if request.method == "POST" else 1


class Reports(APIView):
    """What is limited."""

    throttle_classes = (ApiThrottle,)

    def get(self, request: Request) -> Response:
        return Response("a list")

    def post(self, request: Request) -> Response:
        return Response("a report", status=201)


urlpatterns = [path("reports", Reports.as_view())]

if __name__ == "__main__":
    client = APIClient()
    for method, address in (("get", 9), ("post", 9), ("get", 9), ("get", 10)):
        answer = getattr(client, method)("/reports", REMOTE_ADDR=f"203.0.113.{address}")
        wait = answer.headers.get("Retry-After")
        said = f"again in {wait} s" if wait else answer.data
        print(f"203.0.113.{address} {method.upper()}: {answer.status_code}, {said}")
