"""The one view, at the path of ours, so that one load client serves both."""

from __future__ import annotations

from django.urls import path
from rest_framework import generics, serializers

from bench.peer_drf.models import Entry


class EntrySerializer(serializers.ModelSerializer):
    """What is taken and shown."""

    class Meta:
        model = Entry
        fields = ["id", "type", "payload", "status", "created_at"]
        read_only_fields = ["status"]


class Entries(generics.CreateAPIView):
    """Insert a row."""

    queryset = Entry.objects.all()
    serializer_class = EntrySerializer


urlpatterns = [path("api/v1/tasks", Entries.as_view())]
