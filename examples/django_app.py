"""Django: its WSGI application is wrapped, as in a project's wsgi.py.

pip install -e . django
python examples/django_app.py 8000 &
curl -i http://127.0.0.1:8000/
"""

import sys
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Answer, FieldOptions, Limits, Request, Rule, Verdict
from crdtbucket.http.middleware.wsgi import KEY, WSGILimitMiddleware


def home(request: HttpRequest) -> JsonResponse:
    """Tells what is left."""
    return JsonResponse({"left": request.META[KEY].decisions[0].remaining})


def sorry(_: Request, verdict: Verdict) -> Answer:
    """An answer of one's own to what is denied."""
    return Answer(429, {**verdict.fields, "Content-Type": "text/plain"}, b"slow down, please")


urlpatterns = [path("", home)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY="of-an-example")
limiter = Limiter([BucketSpec.parse("web", "3/minute")])
limits = Limits(limiter, Rule("web"), on_denied=sorry, fields=FieldOptions(legacy=True))
application = WSGILimitMiddleware(get_wsgi_application(), limits)

if __name__ == "__main__":
    port = int(sys.argv[1]) if sys.argv[1:] else 8000
    make_server("127.0.0.1", port, application).serve_forever()
