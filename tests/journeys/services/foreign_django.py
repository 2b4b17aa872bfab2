"""A Django application that knows nothing of nucleon: routes, a form with a file, a session-free middleware stack, a file sent."""

from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for this test",
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
)


def hello(request: HttpRequest, name: str) -> HttpResponse:
    return JsonResponse({"message": f"hello {name}", "query": request.GET.get("q"), "address": request.META["REMOTE_ADDR"]})


def upload(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"title": request.POST["title"], "bytes": request.FILES["file"].size})


def numbers(_request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        for number in range(1000):
            yield f"line {number}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


def itself(_request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"))


urlpatterns = [path("hello/<name>", hello), path("upload", upload), path("numbers", numbers), path("itself", itself)]
app = get_wsgi_application()
