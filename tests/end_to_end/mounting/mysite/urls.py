"""The page."""

from django.http import HttpRequest, HttpResponse
from django.urls import path


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page of Django")


urlpatterns = [path("page", page)]
