"""Job files that say everything which azure-ai-ml takes, and what of it is met in runner's own way."""

from __future__ import annotations

import re

_HEAD = """
display_name: mark display
description: mark description
experiment_name: mark-experiment
tags: {mark-tag: mark-tag-value}
properties: {mark-prop: mark-prop-value}
"""
_COMMAND = (
    """
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
type: command
"""
    + _HEAD
    + """
command: echo ${{inputs.folder}} ${{inputs.text}} > ${{outputs.out}}/x
code: ./code
environment: {image: IMAGE}
environment_variables: {MARK_VARIABLE: mark-variable}
compute: azureml:cpu-cluster
inputs:
  text: mark-text
  folder: {type: uri_folder, path: ./data, mode: download, datastore: second}
outputs:
  out: {type: uri_folder, mode: upload, path: azureml://datastores/workspaceblobstore/paths/mark-path/}
resources:
  instance_count: 1
  instance_type: mark-instance-type
  shm_size: 3221225472b
  docker_args: --mark-docker-args
  properties: {mark-resource: {a: mark-resource-value}}
distribution: {type: pytorch, process_count_per_instance: 3}
queue_settings: {job_tier: Spot}
identity: {type: managed_identity, client_id: 11111111-1111-1111-1111-111111111111}
services:
  ssh: {type: ssh, ssh_public_keys: mark-ssh-keys, nodes: all}
  board: {type: tensor_board, log_dir: mark-log-dir}
  code: {type: vs_code, port: 1234}
"""
)
_SWEEP = (
    "type: sweep"
    + _HEAD
    + """
trial:
  command: echo ${{inputs.text}} ${{search_space.lr}} > ${{outputs.out}}/x
  code: ./code
  environment: {image: IMAGE}
  environment_variables: {MARK_VARIABLE: mark-variable}
  distribution: {type: pytorch, process_count_per_instance: 3}
  resources: {instance_type: mark-trial-type, properties: {mark-resource: {a: mark-resource-value}}}
search_space:
  lr: {type: uniform, min_value: 0.125, max_value: 0.375}
  k: {type: choice, values: [mark-first, mark-second]}
  q: {type: quniform, min_value: 1.5, max_value: 9.5, q: 2.5}
  r: {type: randint, upper: 77}
  n: {type: qnormal, mu: 5.5, sigma: 2.25, q: 1.25}
objective: {goal: maximize, primary_metric: mark-metric}
sampling_algorithm: {type: random, seed: 4711, rule: sobol, logbase: 10}
limits: {max_total_trials: 12, max_concurrent_trials: 5, timeout: 4000, trial_timeout: 333}
early_termination: {type: truncation_selection, evaluation_interval: 3, delay_evaluation: 6, truncation_percentage: 33}
compute: azureml:cpu-cluster
inputs: {text: mark-text, folder: {type: uri_folder, path: ./data, mode: ro_mount}}
outputs: {out: {type: uri_folder, mode: rw_mount, path: azureml://datastores/workspaceblobstore/paths/mark-path/}}
resources: {instance_count: 1, shm_size: 3221225472b}
queue_settings: {job_tier: Spot}
identity: {type: user_identity}
"""
)
_PIPELINE = (
    "type: pipeline"
    + _HEAD
    + """
compute: azureml:cpu-cluster
identity: {type: user_identity}
services: {s: {type: vs_code}}
settings:
  default_datastore: azureml:workspaceblobstore
  continue_on_step_failure: true
  force_rerun: true
  mark_setting: mark-setting-value
inputs: {top: {type: uri_folder, path: ./data, mode: download}, word: mark-word}
outputs: {end: {type: uri_folder, mode: upload, path: azureml://datastores/workspaceblobstore/paths/mark-end/}}
jobs:
  one:
    type: command
    tags: {mark-node-tag: mark-node-tag-value}
    properties: {mark-node-prop: mark-node-prop-value}
    comment: mark-node-comment
    compute: azureml:defaultcompute
    component: ./component.yml
    environment_variables: {MARK_NODE: mark-node-variable}
    inputs: {folder: {path: "${{parent.inputs.top}}", mode: download}, text: "${{parent.inputs.word}}"}
    outputs: {out: {type: uri_folder, mode: rw_mount, path: azureml://datastores/workspaceblobstore/paths/mark-node/}}
    resources:
      instance_count: 1
      instance_type: mark-node-type
      docker_args: --mark-node-docker
      properties: {mark-node-resource: {a: mark-node-resource-value}}
    distribution: {type: mpi, process_count_per_instance: 3}
    queue_settings: {job_tier: Spot}
    identity: {type: user_identity}
    services: {s: {type: vs_code}}
  two:
    type: command
    command: echo ${{inputs.x}} > ${{outputs.end}}/x
    environment: {image: IMAGE}
    code: ./code
    description: mark two's description
    tags: {mark-two-tag: mark-two-tag-value}
    inputs:
      x: {path: "${{parent.jobs.one.outputs.out}}", mode: direct}
      y: {type: uri_file, path: azureml://datastores/workspaceblobstore/paths/mark-y, mode: download}
    outputs: {end: "${{parent.outputs.end}}"}
  three:
    type: sweep
    tags: {mark-sweep-tag: mark-sweep-tag-value}
    properties: {mark-sweep-prop: mark-sweep-prop-value}
    comment: mark-sweep-comment
    description: mark sweep's description
    compute: azureml:defaultcompute
    outputs: {out: {type: uri_folder, mode: upload, path: azureml://datastores/workspaceblobstore/paths/mark-sweep/}}
    trial: ./component.yml
    search_space: {num: {type: choice, values: [1, 2]}}
    objective: {goal: minimize, primary_metric: mark-metric}
    sampling_algorithm: {type: random, seed: 4711}
    limits: {max_total_trials: 12, max_concurrent_trials: 5, timeout: 4000}
    early_termination: {type: bandit, evaluation_interval: 3, slack_factor: 0.5}
    inputs: {folder: {path: "${{parent.jobs.one.outputs.out}}", mode: eval_mount}, text: t}
    queue_settings: {job_tier: Spot}
    resources: {instance_count: 1, instance_type: mark-sweep-type}
"""
)
FILES = {"command": _COMMAND, "sweep": _SWEEP, "pipeline": _PIPELINE}
"""Kind → the text of a file; IMAGE, `code`, `data`, `component.yml` and the datastore `second` are the test's."""

COMPONENT = """
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
type: command
name: mark_component
is_deterministic: false
inputs:
  text: {type: string, default: mark-default, optional: true}
  num: {type: integer, default: 5, min: 1, max: 99}
  folder: {type: uri_folder}
outputs: {out: {type: uri_folder}}
command: echo $[[${{inputs.text}}]] ${{inputs.num}} ${{inputs.folder}} > ${{outputs.out}}/y
code: ./code
environment: {image: IMAGE}
environment_variables: {MARK_COMPONENT: mark-component-variable}
"""

OURS = {
    r"\.(name|id|created\w*|lastModified\w*|codeId|code|componentId|_source|version|\$schema)$": "of each submission",
    r"\.command$": "the launcher stands in front of it",
    r"properties\.(mlflow\.source|azureml\.git)": "nothing of the current folder's git repository is sent",
    r"^environment\.": "an environment of the same image is the same one",
    r"\.displayName$|\.display_name$": "of a step its name here, by which it is found again",
    r"^job\.properties\.inputs\.|\.inputs\.\w+\.value$": "a pipeline's inputs are bound into its steps",
    r"componentSpec\.inputs\.\w+\.(type|default|optional|min|max|enum\.\d+)$": "checked here; literals are texts there",
    r"componentSpec\.(in|out)puts\.\w+\.mode$": "it stands at the step",
    r"componentSpec\.environment$": "of an anonymous component",
    r"settings\.default_compute$": "each step names its compute",
    r"trialTimeout$": "Azure stands behind the bootstrapper, a little later",
}
"""Pattern of what the SDK sends and we do not → why nothing is lost by it."""

LEFT_OUT = {
    r"(^|\.)(script|args|retry(\.\w+)?|libs|additional_includes|is_deterministic|component)$":
        "runner's own, or of steps only",
    r"(^|\.)(id|status|creation_context|log_files|parameters|resourceGroup|\$schema|name)$": "nobody reads them",
    r"(^|\.)(job_tier|priority|locations|max_instance_count)$": "the service knows them no more: it says so itself",
    r"environment\.|^(trial\.)?environment": "one image is enough",
    r"inputs\.\w*\.?(value|default|optional|min|max|enum|description)|outputs\.\w*\.?(name|version|description)":
        "not taken by azure-ai-ml in a job; an output's name is refused by the service",
    r"services\.|identity\.|distribution\.": "passed on whole, as they are written",
    r"limits$|limits\.|settings\.(on_init|on_finalize|default_compute)": "refused, or told by tests of their own",
    r"search_space\.|sampling_algorithm\.|early_termination\.": "checked by the shapes of each kind",
    r"^jobs\.(display_name|experiment_name|version|inputs\.type|resources\.shm_size)$": "see above; of the other step",
    r"^trial\.|resources\.(properties|instance_type|docker_args)|inputs\.datastore": "those of a command",
}  # fmt: skip
"""Pattern of members that the files above leave out → why."""

OURS_RE = [re.compile(each) for each in OURS]
LEFT_OUT_RE = [re.compile(each) for each in LEFT_OUT]
