"""What every operation of the OpenAPI files shares: the face's spelling, refusals, versions, idempotency, pages."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from apps.core.api.faces import GATEWAY_PREFIX, camel
from apps.core.api.permissions import PUBLIC, SIGNED_IN

DESCRIPTIONS = {
    400: "Malformed input; `errors` names the fields.",
    401: "No credentials, or bad ones.",
    403: "The role may not do this.",
    404: "Not there, or not visible to the caller.",
    409: "The rule refuses it now.",
    412: "The record has changed since it was read; `ETag` is its version now.",
    413: "The body is over 1 MiB.",
    415: "The body is not JSON.",
    422: "The Idempotency-Key was used for another request.",
    428: "If-Match is required here (STRICT_IF_MATCH).",
    429: "Too many wrong attempts; see Retry-After.",
    503: "Not available right now; see Retry-After.",
}
PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem document.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "For programs."},
        "detail": {"type": "string", "description": "For people."},
        "message": {"type": "string", "description": "Equal to `detail`."},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "Dotted path, spelled as the face spells it."},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                },
                "required": ["field", "code", "message"],
            },
        },
        "blockers": {
            "type": "array",
            "description": "With `deletion_blocked`: what forbids it.",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "id": {"type": "string", "format": "uuid", "nullable": True},
                    "label": {"type": "string"},
                    "reason": {"type": "string"},
                },
            },
        },
    },
    "required": ["type", "title", "status", "code", "detail", "message", "trace_id"],
    "additionalProperties": True,
}


class ContractSchema(AutoSchema):
    """drf-spectacular's reading of a view, with what `ApiViewSet` adds to every one."""

    view: Any  # an ApiViewSet

    @property
    def _camel(self) -> bool:
        return self.path.startswith(GATEWAY_PREFIX) or bool(getattr(self.view, "camel_case", False))

    def get_tags(self) -> list[str]:
        parts = [part for part in self.path.removeprefix("/api/v1/").split("/") if part and part[0] != "{"]
        return [parts[1] if parts[0] == "crm" else parts[0]]

    def get_description(self) -> str:  # type: ignore[override]
        """The action's own docstring; the class's speaks to programmers."""
        return str(getattr(getattr(self.view, str(self.view.action), None), "__doc__", None) or "")

    def get_operation_id(self) -> str:
        words = [word for word in self.path.removeprefix("/api/v1/").strip("/").split("/") if not word.startswith("{")]
        action = str(getattr(self.view, "action", self.method.lower()))
        words = [word.replace("-", "_") for word in words]
        return "_".join([*words, action] if words[-1] != action else words)

    def get_override_parameters(self) -> list[Any]:
        parameters = [
            OpenApiParameter(
                "X-Trace-Id", str, OpenApiParameter.HEADER, description="Given back in the answer.", required=False
            ),
            OpenApiParameter(
                "X-Trace-Id", str, OpenApiParameter.HEADER, response=True, description="Names this request in the logs."
            ),
        ]
        if self.method in ("PATCH", "DELETE"):
            parameters.append(
                OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="The version read, or `*`.")
            )
        if self.method == "POST" and getattr(self.view, "idempotent", False):
            parameters += [
                OpenApiParameter(
                    "Idempotency-Key", str, OpenApiParameter.HEADER, description="1 to 255 visible ASCII characters."
                ),
                OpenApiParameter(
                    "Idempotency-Replayed", bool, OpenApiParameter.HEADER, response=True, description="On a replay."
                ),
            ]
        return parameters + self._answer_headers()

    def _answer_headers(self) -> list[Any]:
        answer = self._success()
        if isinstance(answer, serializers.ListSerializer):
            return [
                OpenApiParameter("Link", str, OpenApiParameter.HEADER, response=[200], description="The next page."),
                OpenApiParameter(
                    "X-Total-Count", int, OpenApiParameter.HEADER, response=[200], description="With `count=true`."
                ),
            ]
        if isinstance(answer, serializers.Serializer) and "version" in answer.fields:
            return [
                OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200, 201], description="The version.")
            ]
        return []

    def _success(self) -> Any:
        answers = self.get_response_serializers()
        if isinstance(answers, dict):
            answers = next((answer for code, answer in answers.items() if str(code).startswith("20")), None)
        return answers() if isinstance(answers, type) else answers

    def _get_parameters(self) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super()._get_parameters()
        if self._camel:
            for each in parameters:
                if each["in"] == "query":
                    each["name"] = camel(each["name"])
        return parameters

    def _map_serializer(self, serializer: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        schema = super()._map_serializer(serializer, direction, bypass_extensions)
        if self._camel and "properties" in schema:
            schema["properties"] = {camel(name): value for name, value in schema["properties"].items()}
            if "required" in schema:
                schema["required"] = sorted(camel(name) for name in schema["required"])
        return schema

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        problem = ResolvedComponent(name="Problem", type=ResolvedComponent.SCHEMA, schema=PROBLEM, object="problem")
        self.registry.register_on_missing(problem)
        content = {"application/problem+json": {"schema": problem.ref}}
        for status in self._refusals():
            bodies.setdefault(str(status), {"content": content, "description": DESCRIPTIONS[status]})
        return bodies

    def _refusals(self) -> list[int]:
        capability = self.view.capabilities.get(self.view.action)
        statuses = {400, 503}
        if capability != PUBLIC:
            statuses.add(401)
        if capability not in (PUBLIC, SIGNED_IN):
            statuses.add(403)
        if "{" in self.path or self.method == "POST":
            statuses.add(404)
        if self.method != "GET":
            statuses |= {409, 412, 428} if self.method in ("PATCH", "DELETE") else {409}
        if self.method in ("POST", "PATCH"):
            statuses |= {413, 415}
        if self.method == "POST" and getattr(self.view, "idempotent", False):
            statuses.add(422)
        if capability == PUBLIC:
            statuses |= {403, 429}
        return sorted(statuses)

    def map_parsers(self) -> list[str]:
        return ["application/json"]
