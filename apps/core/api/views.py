"""The base of every API view: what is decided once for all of them, and nothing else.

An action names its capability or is closed; POST honours Idempotency-Key; a route answers with and without the slash.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, register_converter
from django.urls.converters import UUIDConverter
from django.views import View
from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api import idempotency, problems
from apps.core.api.permissions import PUBLIC, SIGNED_IN
from apps.core.api.renderers import JsonRenderer

__all__ = ["PUBLIC", "SIGNED_IN", "ApiRequest", "ApiViewSet", "route", "validated"]


JSON = JsonRenderer()


class ApiRequest(Request):
    """What the actions receive: `user` is a person or a service token, None where credentials are not asked for."""

    user: Any
    data: Any


class ApiViewSet(viewsets.ViewSet):
    """A set of actions over one resource. `capabilities` maps every action to a capability, SIGNED_IN or PUBLIC."""

    capabilities: Mapping[str, str] = {}
    camel_case = False  # True: answers camelCase on both faces
    idempotent = True  # False: POST ignores Idempotency-Key

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        """There is one representation: Accept is not consulted."""
        return JSON, JSON.media_type

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {"Allow": _allowed(tuple(self.action_map))}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Who calls, and may he? There is one version of the API, and what is throttled counts for itself."""
        if self.action in (None, "metadata"):  # OPTIONS describes nothing: the OpenAPI files do
            raise problems.MethodNotAllowed
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        self.perform_authentication(request)
        self.check_permissions(request)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """DRF's dispatch with the idempotent repeat between the permission check and the handler."""
        self.args, self.kwargs = args, kwargs
        api_request = self.request = self.initialize_request(request, *args, **kwargs)
        self.headers = self.default_response_headers
        try:
            self.initial(api_request, *args, **kwargs)
            handler = getattr(self, (request.method or "").lower())
            if self._repeatable(api_request):
                return idempotency.run(api_request, lambda: self._answer(handler))
            response = handler(api_request, *args, **kwargs)
        except Exception as exc:
            response = self.handle_exception(exc)
        self.response = self.finalize_response(api_request, response, *args, **kwargs)
        return self.response

    def _repeatable(self, request: Request) -> bool:
        """Whether the answer is kept: a key belongs to a caller, so nobody's is ignored."""
        return (
            request.method == "POST"
            and self.idempotent
            and idempotency.HEADER in request.headers
            and request.user is not None
        )

    def _answer(self, handler: Any) -> Any:
        """The handler's rendered answer; a refusal rolls back to here and is an answer too."""
        try:
            with transaction.atomic():
                response = handler(self.request, *self.args, **self.kwargs)
        except Exception as exc:
            response = self.handle_exception(exc)
        response = self.finalize_response(self.request, response, *self.args, **self.kwargs)
        return response.render() if isinstance(response, Response) else response


@cache
def _allowed(methods: tuple[str, ...]) -> str:
    return ", ".join(each.upper() for each in View.http_method_names if each in {*methods, "options"})


def validated(form: type[serializers.Serializer[Any]], request: Request, *, partial: bool = False) -> dict[str, Any]:
    """The request's body as the form understands it; unknown fields are ignored.

    :raises ValidationError: 400 `validation_error` with every fault
    """
    return dict(_reader(form, partial=partial).run_validation(request.data))


@cache
def _reader(form: type[serializers.Serializer[Any]], *, partial: bool) -> serializers.Serializer[Any]:
    """One form for all requests: without data it holds nothing of any of them, and its fields are made once."""
    return form(partial=partial)


class AnyCaseUUID(UUIDConverter):
    regex = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"


register_converter(AnyCaseUUID, "id")


def route(pattern: str, view: type[ApiViewSet], **actions: str) -> list[URLPattern]:
    """The pattern with and without its slash: `*route("clients/<id:id>", ClientViewSet, get="retrieve")`."""
    handler = view.as_view(dict(actions))
    return [path(pattern, handler), path(f"{pattern}/", handler)]
