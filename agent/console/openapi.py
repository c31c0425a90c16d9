"""The description of the API that the device serves; a test compares it with the routes."""

from __future__ import annotations

from typing import Final

_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"
_RESULT: Final = "application/vnd.doorward.result"

_BYTES: Final[dict[str, object]] = {"type": "string", "format": "binary", "maxLength": 262144}
_OBJECT: Final[dict[str, object]] = {"type": "object"}
_ENVELOPE: Final[dict[str, object]] = {"$ref": "#/components/schemas/Envelope"}
_AGENCY: Final[dict[str, object]] = {
    "name": "agency",
    "in": "path",
    "required": True,
    "description": "The agency's link name: 32 hex digits of its key id.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


def _answer(text: str, content_type: str | None = None, schema: object = None) -> dict[str, object]:
    if content_type is None:
        return {"description": text}
    return {"description": text, "content": {content_type: {"schema": schema}}}


def _operation(
    operation: str,
    summary: str,
    *,
    body: tuple[str, object] | None = None,
    answers: dict[str, object],
    errors: tuple[str, ...],
    **more: object,
) -> dict[str, object]:
    """One operation; ``errors`` are the statuses of its own, beside those every route can answer."""
    described: dict[str, object] = {"operationId": operation, "summary": summary, **more}
    if body is not None:
        content_type, schema = body
        described["requestBody"] = {"required": True, "content": {content_type: {"schema": schema}}}
        errors = (*errors, "408", "413", "415")
    responses = {
        status: {"$ref": "#/components/responses/Error"} for status in sorted({*errors, "429"}, key=int)
    }
    described["responses"] = {**answers, **responses}
    return described


_RESULTS: Final[dict[str, object]] = {"200": _answer("The result.", _JSON, _OBJECT)}
_WITH_BYTES: Final[dict[str, object]] = {
    "200": {
        "description": "The result; with bytes: 4-byte big-endian length, JSON, bytes.",
        "content": {_JSON: {"schema": _OBJECT}, _RESULT: {"schema": {"type": "string"}}},
    }
}
_FROM_CORE: Final = ("400", "403", "500", "503")

DOCUMENT: Final[dict[str, object]] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Doorward device",
        "version": "0",
        "description": "Acts are authorised by the signed document in the body, never by who sends it.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "paths": {
        "/v0/device": {
            "get": _operation(
                "device",
                "Who this device is: a description signed by its key.",
                answers=_RESULTS,
                errors=_FROM_CORE,
            )
        },
        "/v0/challenge": {
            "post": _operation(
                "challenge",
                "A fresh challenge for a signed read or act.",
                body=(_JSON, _OBJECT),
                answers=_RESULTS,
                errors=_FROM_CORE,
            )
        },
        "/v0/pair": {
            "post": _operation(
                "pair",
                "Pairing code and first charter, sealed to the device.",
                body=(_OCTETS, _BYTES),
                answers=_RESULTS,
                errors=_FROM_CORE,
            )
        },
        "/v0/act": {
            "post": _operation(
                "act",
                "An owner's signed act: charter, token, revocation, shutter, deletion.",
                body=(_JSON, _ENVELOPE),
                answers=_RESULTS,
                errors=_FROM_CORE,
            )
        },
        "/v0/read": {
            "post": _operation(
                "read",
                "An owner's signed read: the answer itself, or a handle for later reads.",
                body=(_JSON, _ENVELOPE),
                answers=_WITH_BYTES,
                errors=_FROM_CORE,
            )
        },
        "/v0/session": {
            "post": _operation(
                "session",
                "An owner's signed act without documents: a handle for reading.",
                body=(_JSON, _ENVELOPE),
                answers=_WITH_BYTES,
                errors=_FROM_CORE,
            )
        },
        "/v0/operations/{name}": {
            "post": _operation(
                "operation",
                "What an owner may read, by the operation's name and arguments as at the local door.",
                body=(_JSON, _OBJECT),
                parameters=[
                    {
                        "name": "name",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "pattern": "^[a-z-]{1,32}$"},
                    }
                ],
                answers=_WITH_BYTES,
                errors=("401", *_FROM_CORE),
                security=[{"handle": []}],
            )
        },
        "/v0/status": {
            "get": _operation(
                "status",
                "How the device is.",
                answers=_RESULTS,
                errors=("401", *_FROM_CORE),
                security=[{"handle": []}],
            )
        },
        "/v0/link/{agency}": {
            "post": _operation(
                "linkIn",
                "A sealed message from an agency.",
                body=(_OCTETS, _BYTES),
                parameters=[_AGENCY],
                answers={
                    "200": _answer("The sealed reply.", _OCTETS, _BYTES),
                    "202": _answer("Nothing to say."),
                },
                errors=("503",),
            )
        },
        "/v0/link/{agency}/out": {
            "get": _operation(
                "linkOut",
                "What the device has to say to an agency, by long polling.",
                parameters=[
                    _AGENCY,
                    {
                        "name": "after",
                        "in": "query",
                        "description": "The last number seen; 0 at first.",
                        "schema": {"type": "integer", "minimum": 0, "default": 0},
                    },
                    {
                        "name": "wait",
                        "in": "query",
                        "description": "Seconds to wait for a message.",
                        "schema": {"type": "integer", "minimum": 0, "maximum": 25, "default": 0},
                    },
                ],
                answers={
                    "200": _answer("Messages in order.", _JSON, {"$ref": "#/components/schemas/Messages"}),
                    "202": _answer("Nothing came."),
                },
                errors=("400",),
            )
        },
        "/v0/openapi.json": {
            "get": _operation("openapi", "This document.", answers=_RESULTS, errors=()),
        },
    },
    "components": {
        "securitySchemes": {"handle": {"type": "http", "scheme": "bearer"}},
        "responses": {
            "Error": {
                "description": "What went wrong, and what to do about it.",
                "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
            }
        },
        "schemas": {
            "Error": {
                "type": "object",
                "required": ["error", "hint", "exit_code"],
                "additionalProperties": False,
                "properties": {
                    "error": {"type": "string"},
                    "hint": {"type": ["string", "null"]},
                    "exit_code": {"type": "integer"},
                },
            },
            "Messages": {
                "type": "object",
                "required": ["messages"],
                "properties": {
                    "messages": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["n", "sealed"],
                            "properties": {
                                "n": {"type": "integer", "minimum": 1},
                                "sealed": {"type": "string", "contentEncoding": "base64"},
                            },
                        },
                    }
                },
            },
            "Envelope": {
                "type": "object",
                "description": "A DSSE v1 envelope.",
                "required": ["payload", "payloadType", "signatures"],
                "additionalProperties": False,
                "properties": {
                    "payload": {"type": "string", "contentEncoding": "base64"},
                    "payloadType": {"type": "string"},
                    "signatures": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["sig"],
                            "properties": {
                                "keyid": {"type": "string"},
                                "sig": {"type": "string", "contentEncoding": "base64"},
                            },
                        },
                    },
                },
            },
        },
    },
}
