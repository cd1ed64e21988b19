"""Environments, code snapshots, components and data: names with versions, which never change once they are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from uuid import uuid4

from tests.emulators.azureml import members, names
from tests.emulators.azureml.armlist import envelope, page, shown, strict
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.references import References
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import Answer, Call, Route, ServiceError, arm, missing

KINDS = {"environments": "environment", "codes": "code", "components": "component", "data": "data"}
"""Collections on the wire, and the kinds of their documents in the state."""

_CHANGEABLE = {"description", "tags", "isArchived", "properties", "isAnonymous", "stage", "autoDeleteSetting"}
_DEFAULTS: dict[str, Doc] = {
    "environments": {
        "environmentType": "UserCreated", "autoRebuild": "Disabled", "osType": "Linux", "image": None, "condaFile": None,
        "build": None, "inferenceConfig": None, "stage": None,
    },
    "codes": {"codeUri": None},
    "components": {"componentSpec": {}},
    "data": {"dataUri": None},
}  # fmt: skip


class Containers(Protocol):
    """What is needed of the blobs here."""

    account: str

    def ensure(self, container: str) -> None: ...

    def sas(self, container: str, path: str | None, permissions: str, minutes: float) -> str: ...


class Assets:
    def __init__(self, state: State, blobs: Containers, profile: Profile, references: References) -> None:
        self._state, self._blobs, self._profile, self._references = state, blobs, profile, references

    def routes(self) -> list[Route]:
        made = []
        for collection in KINDS:
            one = rf"/{collection}/(?P<name>[^/]+)"
            version = rf"{one}/versions/(?P<version>[^/]+)"
            made += [
                arm("GET", f"/{collection}", self._of(collection, self._containers)),
                arm("GET", one, self._of(collection, self._container)),
                arm("PUT", one, self._of(collection, self._put_container)),
                arm("GET", f"{one}/versions", self._of(collection, self._versions)),
                arm("GET", version, self._of(collection, self._get)),
                arm("PUT", version, self._of(collection, self._put)),
                arm("POST", f"{version}/startPendingUpload", self._of(collection, self._upload)),
            ]
        return made

    def _of(self, collection: str, handler: Callable[[str, Call], Answer]) -> Callable[[Call], Answer]:
        return lambda call: handler(collection, call)

    def _all(self, collection: str, name: str | None = None) -> list[Doc]:
        found = self._state.list(KINDS[collection])
        return found if name is None else [doc for doc in found if _name(doc) == name.lower()]

    def _get(self, collection: str, call: Call) -> Answer:
        name, version = call.parts["name"], call.parts["version"]
        for doc in self._all(collection, name):
            if doc["name"] == version:
                return Answer(doc)
        raise missing(f"Not found: {collection} asset with {{name: {name}, version: {version}}} was not found.")

    def _put(self, collection: str, call: Call) -> Answer:
        name, version = call.parts["name"], call.parts["version"]
        given = call.whole().get("properties") or {}
        strict(call, members.ASSETS[collection], given)
        given = {member: value for member, value in given.items() if value is not None}
        if isinstance(given.get("properties"), dict):  # a map of texts, whatever the SDK sends (numbers)
            given["properties"] = {member: str(value) for member, value in given["properties"].items()}
        if collection == "data":
            given["dataUri"] = names.long_uri(str(given.get("dataUri")))
        kind, key = KINDS[collection], f"{name}/{version}"
        old = self._state.get(kind, key)
        if old is None:
            if collection == "data":
                self._references.check_uri(given["dataUri"])
            properties = _filled(collection, given)
            doc = envelope(f"{collection}/versions", f"{collection}/{name}/versions/{version}", properties, names.now())
            return Answer(self._state.put(kind, key, doc), 201)
        changed = sorted(
            member for member in given if member not in _CHANGEABLE and given[member] != old["properties"].get(member)
        )
        if changed:
            raise _immutable(collection, changed)
        old["properties"] |= {member: given[member] for member in _CHANGEABLE & set(given)}
        return Answer(self._state.put(kind, key, old))

    def _versions(self, collection: str, call: Call) -> Answer:
        """In the order asked for; a hash is looked for in all code snapshots, since each is uploaded under its own name."""
        wanted = call.query.get("hash")
        found = self._all(collection, None if wanted else call.parts["name"])
        if wanted:
            found = [doc for doc in found if (doc["properties"].get("properties") or {}).get("hash_sha256") == wanted]
        found = [doc for doc in found if shown(call, doc["properties"].get("isArchived"))]
        if "desc" in call.query.get("$orderBy", call.query.get("$orderby", "")).lower():
            found.reverse()
        return page(call, found)

    def _containers(self, collection: str, call: Call) -> Answer:
        named = dict.fromkeys(_name(doc) for doc in self._all(collection) if not doc["properties"].get("isAnonymous"))
        found = [self._described(collection, name) for name in named]
        return page(call, [doc for doc in found if shown(call, doc["properties"]["isArchived"])])

    def _container(self, collection: str, call: Call) -> Answer:
        name = call.parts["name"]
        if not self._all(collection, name):
            raise missing(f"Not found: {collection} container with name {name} was not found.")
        return Answer(self._described(collection, name))

    def _put_container(self, collection: str, call: Call) -> Answer:
        name = call.parts["name"]
        given = call.whole().get("properties") or {}
        kept = {
            member: given[member] for member in ("description", "tags", "isArchived") if given.get(member) is not None
        }
        self._state.put(f"{collection}-container", name.lower(), kept)
        return Answer(self._described(collection, name))

    def _described(self, collection: str, name: str) -> Doc:
        versions = self._all(collection, name)
        numbers = [int(doc["name"]) for doc in versions if doc["name"].isdigit()]
        properties: Doc = {
            "description": None, "tags": {}, "properties": {}, "isArchived": False,
            "latestVersion": versions[-1]["name"] if versions else None,
            "nextVersion": str(max(numbers, default=0) + 1) if len(numbers) == len(versions) else None,
        }  # fmt: skip
        if collection == "data" and versions:
            properties["dataType"] = versions[-1]["properties"].get("dataType")
        properties |= self._state.get(f"{collection}-container", name.lower()) or {}
        return envelope(collection, f"{collection}/{name}", properties, names.now())

    def _upload(self, collection: str, call: Call) -> Answer:
        """A container of its own for what is to be uploaded, and a URL that may write there."""
        if call.whole().get("pendingUploadType") != "TemporaryBlobReference":
            raise ServiceError(400, "UserError", "Request is invalid and/or missing fields.")
        container = str(uuid4())
        self._blobs.ensure(container)
        uri = f"https://{self._blobs.account}.blob.core.windows.net/{container}"
        signed = self._blobs.sas(container, None, "rcwl", self._profile.sas_lifetime_s / 60)
        return Answer({
            "pendingUploadId": str(uuid4()), "pendingUploadType": "TemporaryBlobReference",
            "blobReferenceForConsumption": {
                "blobUri": uri, "credential": {"credentialType": "SAS", "sasUri": signed},
                "storageAccountArmId": f"{names.GROUP_ID}/providers/Microsoft.Storage/storageAccounts/{self._blobs.account}",
            },
        })  # fmt: skip


def _name(doc: Doc) -> str:
    """The asset's name, from the id of one of its versions; names differ in more than case."""
    return str(doc["id"]).rsplit("/", 3)[-3].lower()


def _filled(collection: str, given: Doc) -> Doc:
    common: dict[str, Any] = {
        "description": None, "tags": {}, "properties": {}, "isArchived": False, "isAnonymous": False,
        **({} if collection == "data" else {"provisioningState": "Succeeded"}),
    }  # fmt: skip
    return common | _DEFAULTS[collection] | given


def _immutable(collection: str, changed: list[str]) -> ServiceError:
    """409 is what the SDK goes by when it counts versions up; the words are those of models."""
    kind = KINDS[collection]
    return ServiceError(
        409,
        "UserError",
        f"A {kind} version with this name and version already exists. If you are trying to create a new {kind} version, "
        f"use a different name or version. If you are trying to update an existing {kind} version, the existing asset's "
        f"{', '.join(changed)} cannot be changed. Only tags, description, and isArchived can be updated.",
    )
