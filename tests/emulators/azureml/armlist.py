"""What all resources of the resource manager share: the envelope around properties, and lists with their pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from tests.emulators.azureml import members, names
from tests.emulators.azureml.state import Doc
from tests.emulators.azureml.wire import Answer, Call, ServiceError

PAGE = 30


def envelope(kind: str, path: str, properties: Doc, created: str = "") -> Doc:
    """kind: `jobs`; path: `jobs/a` or `data/a/versions/1`. created: of an answer that says who made it."""
    doc = {
        "id": f"{names.WORKSPACE_ARM}/{path}", "name": path.rsplit("/", 1)[-1],
        "type": f"{names.PROVIDER}/workspaces/{kind}", "properties": properties,
    }  # fmt: skip
    if created:
        doc["systemData"] = system_data(created)
    return doc


def system_data(created: str) -> Doc:
    return {
        "createdAt": created, "createdBy": "emulator", "createdByType": "Application", "lastModifiedAt": created,
        "lastModifiedBy": "emulator", "lastModifiedByType": "Application",
    }  # fmt: skip


def page(call: Call, items: list[Doc], size: int = PAGE) -> Answer:
    """The part of a list that was asked for by `$top`/`count` and `$skip`, and the way to the next."""
    wanted = _number(call, "$top") or _number(call, "count")
    begin = _number(call, "$skip") or 0
    end = begin + min(size, wanted or size)
    body: Doc = {"value": items[begin:end]}
    if end < len(items) and (wanted is None or wanted > size):
        query = {**call.query, "$skip": str(end)}
        if wanted is not None:
            query["$top"] = str(wanted - size)
        body["nextLink"] = f"https://{call.host}{call.path}?{urlencode(query)}"
    return Answer(body)


def shown(call: Call, archived: object) -> bool:
    """Whether listViewType lets it be seen; without one, what is not archived is."""
    view = call.query.get("listViewType", "ActiveOnly").lower()
    return view == "all" or bool(archived) == (view == "archivedonly")


def strict(call: Call, type_: members.Type, properties: Any) -> None:
    """ServiceError 400 with every member that the type does not have (message recorded)."""
    found = [("RequestInvalid", _no_member(call, member, name)) for member, name in members.unknown(type_, properties)]
    if found:
        raise ServiceError(400, "UserError", "Request is invalid and/or missing fields.", tuple(found))


def _no_member(call: Call, member: str, name: str) -> str:
    place = call.raw.find(f'"{member}"'.encode()) + len(member) + 3
    return f"Could not find member '{member}' on object of type '{name}'. Path '{member}', line 1, position {place}."


def _number(call: Call, name: str) -> int | None:
    text = call.query.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise ServiceError(400, "UserError", f"The query parameter '{name}' has to be a number.")
    return int(text)
