"""Which members the service knows on what it is sent: by type name, so that a refusal reads as the service's own.

From the published types of the api-versions that clients use; where a recording shows the live service stricter than its
types (`assetVersion` of 2025-01-01-preview), the recording holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Type:
    """members: every one it knows. of: the types of those that are objects or maps of objects ("*" first: a map).
    by: the member whose value chooses among `kinds`, which know the members here as well."""

    name: str
    members: frozenset[str] = frozenset()
    of: dict[str, Type | tuple[str, Type]] = field(default_factory=dict)
    by: str = ""
    kinds: dict[str, Type] = field(default_factory=dict)


def _type(name: str, members: str, **of: Type | tuple[str, Type]) -> Type:
    return Type(name, frozenset(members.split()) | set(of), of)


def _choice(name: str, by: str, common: str, kinds: dict[str, Type]) -> Type:
    return Type(name, frozenset({by, *common.split()}), {}, by, kinds)


_ASSETS = {
    "custom_model": "CustomModel", "mlflow_model": "MLFlowModel", "mltable": "MLTable", "triton_model": "TritonModel",
    "uri_file": "UriFile", "uri_folder": "UriFolder",
}  # fmt: skip


def _inputs(members: str) -> tuple[str, Type]:
    kinds = {kind: _type(f"{name}JobInput", members) for kind, name in _ASSETS.items()}
    return "*", _choice(
        "JobInput", "jobInputType", "description", kinds | {"literal": _type("LiteralJobInput", "value")}
    )


def _outputs(members: str) -> tuple[str, Type]:
    kinds = {kind: _type(f"{name}JobOutput", members) for kind, name in _ASSETS.items()}
    return "*", _choice("JobOutput", "jobOutputType", "description", kinds)


_DISTRIBUTION = _choice(
    "DistributionConfiguration", "distributionType", "",
    {
        "Mpi": _type("Mpi", "processCountPerInstance"),
        "PyTorch": _type("PyTorch", "processCountPerInstance"),
        "TensorFlow": _type("TensorFlow", "parameterServerCount workerCount"),
        "Ray": _type("Ray", "port address includeDashboard dashboardPort headNodeAdditionalArgs workerNodeAdditionalArgs"),
    },
)  # fmt: skip
_IDENTITY = _choice(
    "IdentityConfiguration", "identityType", "",
    {
        "AMLToken": _type("AmlToken", ""),
        "Managed": _type("ManagedIdentity", "clientId objectId resourceId"),
        "UserIdentity": _type("UserIdentity", ""),
    },
)  # fmt: skip
_SAMPLING = _choice(
    "SamplingAlgorithm", "samplingAlgorithmType", "",
    {
        "Bayesian": _type("BayesianSamplingAlgorithm", ""),
        "Grid": _type("GridSamplingAlgorithm", ""),
        "Random": _type("RandomSamplingAlgorithm", "rule seed logbase"),
    },
)  # fmt: skip
_STOPPING = _choice(
    "EarlyTerminationPolicy", "policyType", "delayEvaluation evaluationInterval",
    {
        "Bandit": _type("BanditPolicy", "slackAmount slackFactor"),
        "MedianStopping": _type("MedianStoppingPolicy", ""),
        "TruncationSelection": _type("TruncationSelectionPolicy", "truncationPercentage"),
    },
)  # fmt: skip
_BASE = (
    "jobType componentId computeId description displayName experimentName isArchived notificationSetting properties "
    "services status tags"
)
_COMMAND_LIMITS = _type("CommandJobLimits", "jobLimitsType timeout")
_SWEEP_LIMITS = _type("SweepJobLimits", "jobLimitsType maxConcurrentTrials maxTotalTrials timeout trialTimeout")


def _jobs(
    base: str, resources: Type, queue: Type, inputs: tuple[str, Type], outputs: tuple[str, Type]
) -> dict[str, Type]:
    command = _type(
        "CommandJob", f"{base} codeId command environmentId environmentVariables parameters autologgerSettings",
        distribution=_DISTRIBUTION, identity=_IDENTITY, limits=_COMMAND_LIMITS, resources=resources, queueSettings=queue,
        inputs=inputs, outputs=outputs,
    )  # fmt: skip
    trial = _type(
        "TrialComponent", "codeId command environmentId environmentVariables",
        distribution=_DISTRIBUTION, resources=resources,
    )  # fmt: skip
    sweep = _type(
        "SweepJob", f"{base} searchSpace componentConfiguration", earlyTermination=_STOPPING, samplingAlgorithm=_SAMPLING,
        identity=_IDENTITY, limits=_SWEEP_LIMITS, objective=_type("Objective", "goal primaryMetric"), queueSettings=queue,
        resources=resources, trial=trial, inputs=inputs, outputs=outputs,
    )  # fmt: skip
    pipeline = _type(
        "PipelineJob", f"{base} jobs settings sourceJobId", identity=_IDENTITY, inputs=inputs, outputs=outputs
    )
    return {"Command": command, "Sweep": sweep, "Pipeline": pipeline}


_OLD = _jobs(
    f"{_BASE} secretsConfiguration",
    _type(
        "JobResourceConfiguration",
        "dockerArgs instanceCount instanceType locations maxInstanceCount properties shmSize",
    ),
    _type("QueueSettings", "jobTier priority"),
    _inputs("mode uri pathOnCompute"),
    _outputs("assetName assetVersion autoDeleteSetting mode pathOnCompute uri"),
)
_NEW = _jobs(
    f"{_BASE} parentJobName",
    _type("JobResourceConfiguration", "dockerArgs dockerArgsList instanceCount instanceType properties shmSize"),
    _type("QueueSettings", "jobTier"),
    _inputs("mode uri"),
    _outputs("assetName mode uri"),
)


def job(kind: str, version: str) -> Type | None:
    """The type of a job's properties. None: no such kind of job is known here."""
    return (_NEW if version >= "2025" else _OLD).get(kind)


_VERSION = "description isAnonymous isArchived properties provisioningState tags autoDeleteSetting stage"
ASSETS = {
    "environments": _type(
        "EnvironmentVersion",
        f"{_VERSION} autoRebuild condaFile environmentType image inferenceConfig intellectualProperty osType imageDetails",
        build=_type("BuildContext", "contextUri dockerfilePath"),
    ),
    "codes": _type("CodeVersion", f"{_VERSION} codeUri"),
    "components": _type("ComponentVersion", f"{_VERSION} componentSpec"),
    "data": _type("DataVersionBase", f"{_VERSION} dataType dataUri intellectualProperty referencedUris"),
}


def unknown(type_: Type, value: Any) -> Iterator[tuple[str, str]]:
    """(member, name of the type) of every member that its type does not have, as deep as types are known."""
    if not isinstance(value, dict):
        return
    chosen = type_.kinds.get(str(value.get(type_.by)), type_) if type_.by else type_
    known = type_.members | chosen.members
    for member, inner in value.items():
        if member not in known:
            yield member, chosen.name
        elif (deeper := chosen.of.get(member)) is None:
            continue
        elif isinstance(deeper, tuple):
            for each in inner.values() if isinstance(inner, dict) else ():
                yield from unknown(deeper[1], each)
        else:
            yield from unknown(deeper, inner)
