"""Reads the body of a request into its model."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from rest_framework.request import Request

from tasks_app.services.json_values import validation_failed

T = TypeVar("T", bound=BaseModel)


def read_body(model: type[T], request: Request) -> T:
    """Give the body as an instance of the model.

    Raises:
        ValidationFailed: it does not fit; each error points to its place.
    """
    try:
        return model.model_validate(request.data)
    except ValidationError as error:
        raise validation_failed(error) from error
