"""The routes of the example pages, mounted at /examples/ by config/urls.py."""

from __future__ import annotations

from django.urls import URLPattern, path

from notifications.examples.views import example_page

urlpatterns: list[URLPattern] = [
    path("", example_page, name="examples"),
    path("<slug:name>", example_page, name="example"),
]
