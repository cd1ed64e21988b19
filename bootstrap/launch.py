"""Starts the bootstrapper where only a command can be given: in a job of Azure ML. README.md has the contract.

Reads from descriptor 3 what to run, puts this folder out of the script's way, and hands over to bootstrap.py, in this
process: its exit code is ours. The same rules as there: standard library only, Python 3.8 syntax, quick, and no fault of
ours may look like one of the script's.
"""

import json
import os
import shutil
import stat
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LOGS = os.path.join("logs", "runner")  # below ./logs, which Azure ML keeps with the run
EMPTY = ".runner-empty"  # never brought to the user
COPIED_S = 30.0
KEPT = ("profile.R", os.path.join("python", "runner_plots.py"))  # what the script itself loads while it runs


def quietly(call, *args, **options):
    """The result, or None where it is not possible; that changes nothing for the script."""
    try:
        return call(*args, **options)
    except (OSError, shutil.Error):
        return None


def read_all(fd: int) -> bytes:
    """Everything that is in a descriptor, which is closed."""
    with os.fdopen(fd, "rb") as file:
        return file.read()


def parse(raw: bytes) -> tuple:
    """(what to do, name of a section → its bytes). The first line is JSON; each section follows a line `<mark> <name>`."""
    head, _, rest = raw.partition(b"\n")
    config = json.loads(head.decode("utf-8"))
    mark = b"\n" + config["mark"].encode() + b" "
    sections = {}
    for part in (b"\n" + rest).split(mark)[1:]:
        name, _, value = part.partition(b"\n")
        sections[name.decode()] = value
    # The last line end belongs to the heredoc, those before to the next mark.
    last = sections and next(reversed(list(sections)))
    if last and sections[last].endswith(b"\n"):
        sections[last] = sections[last][:-1]
    return config, sections


def filled(word, sections: dict) -> str:
    """One text: as it is, or a list that alternates texts and names of sections."""
    if isinstance(word, str):
        return word
    parts = [os.fsdecode(sections[part]) if number % 2 else part for number, part in enumerate(word)]
    return "".join(parts)


def rank(env: dict, distributed: bool) -> int:
    """Which of the processes of a job with several this is; its verdict is that of 0."""
    own = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK") if distributed else ()
    return next((int(env[name]) for name in (*own, "AZUREML_CR_NODE_RANK") if env.get(name, "").isdigit()), 0)


def first_here(env: dict, distributed: bool) -> bool:
    """Whether this is the one process of its node that brings the outputs away."""
    names = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK") if distributed else ()
    return all(env.get(name, "0") == "0" for name in names)


def keep_aside(shared: bool) -> str:
    """Moves what the script needs of this folder to a private one, and removes the rest from the working directory.

    shared: other processes of this node start from the same folder, so it stays.
    """
    aside = quietly(tempfile.mkdtemp, prefix="runner-")
    if aside is None:
        return HERE
    for name in KEPT:
        target = os.path.join(aside, name)
        quietly(os.makedirs, os.path.dirname(target), exist_ok=True)
        if quietly(shutil.copyfile, os.path.join(HERE, name), target) is None:
            return HERE
    if not shared:
        shutil.rmtree(HERE, ignore_errors=True)
    return aside


def piped():
    """Puts a pipe in the place of a file that stdout is, copied to it by a process that is nobody's descendant.

    A script that opens /dev/stderr would truncate the file. Gives a descriptor that ends when all is copied, or None.
    """
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return None
    read, write = os.pipe()
    copied, copying = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.setsid()
            for fd in (write, copied):
                os.close(fd)
            copy(read)
        os._exit(0)
    os.waitpid(child, 0)
    for fd in (1, 2):
        os.dup2(write, fd)
    for fd in (read, write, copying):
        os.close(fd)
    return copied


def copy(read: int) -> None:
    """From a descriptor to stdout, until its last writer is gone. A disk that is full loses lines, and ends nobody."""
    try:
        while data := os.read(read, 1 << 16):
            while data:
                data = data[max(quietly(os.write, 1, data) or len(data), 1) :]
    finally:
        os._exit(0)


def all_copied(copied) -> None:
    """Waits until the log is whole; we are the last to write to it, unless something has escaped us."""
    if copied is not None:
        import select

        null = os.open(os.devnull, os.O_WRONLY)
        for fd in (1, 2):
            os.dup2(null, fd)
        select.select([copied], [], [], COPIED_S)


def mark_empty(folder: str) -> None:
    """Puts a file into an output that is empty: what holds no file is not there for Azure ML, and its reader would fail."""
    os.makedirs(folder, exist_ok=True)
    if not os.listdir(folder):
        write(os.path.join(folder, EMPTY), "")


def restore() -> None:
    """Makes what an upload of plain files loses: execute bits, links, empty folders, ignore files."""
    script = os.path.join(HERE, "restore.sh")
    if os.path.exists(script):
        null = os.open(os.devnull, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
        try:  # noqa: SIM105 - contextlib costs 1 ms at every run
            os.waitpid(os.posix_spawnp("sh", ["sh", script], os.environ, file_actions=actions), 0)
        except OSError:
            pass
        os.close(null)


def environment(bootstrap: dict, config: dict, sections: dict, aside: str) -> dict:
    """The script's environment, as bytes: ours, with what the job sets and a home folder that can be written to."""
    env = bootstrap["environment"]()
    for name, word in config["env"].items():
        env[os.fsencode(name)] = os.fsencode(filled(word, sections))
    env[b"RUNNER_BACKEND"] = b"azureml"
    for name in (b"RUNNER_KEY", b"RUNNER_RUN"):  # several runs may be started by the very same command
        env.setdefault(name, env.get(b"AZUREML_RUN_ID", b""))
    home = env.get(b"HOME")
    if not home or not os.access(home, os.W_OK | os.X_OK):
        made = os.path.join(aside, "home")
        quietly(os.makedirs, made, exist_ok=True)
        env[b"HOME"] = os.fsencode(made)
    return env


def tracking(folder: str, env: dict, mlflow: bool) -> None:
    """Prepares the store of files that the script logs to, as `runner.tracking` does, and names it in the environment.

    mlflow: MLflow's own variables too; the user has not set them.
    """
    import hashlib
    from urllib.parse import quote

    run = os.fsdecode(env.get(b"RUNNER_RUN", b"run"))
    experiment = os.fsdecode(env.get(b"RUNNER_EXPERIMENT", b"Default"))
    ident, now = hashlib.sha256(os.fsencode(run)).hexdigest()[:32], int(time.time() * 1000)
    base = os.path.join(folder, "store", "1")
    here = os.path.join(base, ident)
    artifacts = "file://" + quote(folder) + "/artifacts"
    try:
        for part in ("metrics", "params", "tags", "artifacts"):
            os.makedirs(os.path.join(here, part))
        write(os.path.join(folder, "main"), ident)
        write(os.path.join(base, "meta.yaml"), flat([
            ("artifact_location", artifacts), ("creation_time", now), ("experiment_id", "1"), ("last_update_time", now),
            ("lifecycle_stage", "active"), ("name", experiment),
        ]))  # fmt: skip
        write(os.path.join(here, "meta.yaml"), flat([
            ("artifact_uri", artifacts), ("end_time", None), ("entry_point_name", ""), ("experiment_id", "1"),
            ("lifecycle_stage", "active"), ("run_id", ident), ("run_name", run), ("run_uuid", ident), ("source_name", ""),
            ("source_type", 4), ("source_version", ""), ("start_time", now), ("status", 1), ("tags", []),
            ("user_id", "runner"),
        ]))  # fmt: skip
        write(os.path.join(here, "tags", "mlflow.runName"), run)
    except OSError:
        return
    env[b"RUNNER_TRACKING"] = os.fsencode(here)
    if mlflow:
        env[b"MLFLOW_TRACKING_URI"] = os.fsencode("file://" + quote(folder) + "/store")
        env[b"MLFLOW_EXPERIMENT_ID"] = b"1"
        env[b"MLFLOW_EXPERIMENT_NAME"] = os.fsencode(experiment)
        env[b"MLFLOW_RUN_ID"] = os.fsencode(ident)
        env[b"MLFLOW_ALLOW_FILE_STORE"] = b"true"


def flat(pairs: list) -> str:
    """A flat mapping as YAML; JSON's texts and numbers are YAML's too."""
    return "".join("%s: %s\n" % (name, json.dumps(value, ensure_ascii=False)) for name, value in pairs)


def write(path: str, text: str) -> None:
    """Writes a small file."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def load() -> dict:
    """bootstrap.py, ready to be called; read before its folder goes away."""
    path = os.path.join(HERE, "bootstrap.py")
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    found = {"__name__": "bootstrap", "__file__": path}
    exec(code, found)
    return found


def companions() -> tuple:
    """The modules `beside`, `forward` and `vault` of this folder, in memory before it goes away; None: cannot be loaded."""
    sys.path.insert(0, HERE)
    try:
        import beside
        import forward
        import vault
    except ImportError:  # a Python without all of its library
        return beside, None, None
    finally:
        sys.path.remove(HERE)
    return beside, forward, vault


def secrets_file(vault, references: dict) -> str:
    """The path of a file with the secrets' values. Raises ValueError with what is wrong, and whether to try again."""
    if vault is None:
        raise ValueError("secrets of Key Vault cannot be read: this image's Python lacks a part of its library", False)
    try:
        return vault.write(vault.read(references, dict(os.environ)))
    except vault.SecretError as error:
        raise ValueError(str(error), error.retryable) from None


def not_started(bootstrap: dict, record: str, key: str, message: str, retryable: bool) -> int:
    """Row SecretMissing: the record of a script that was not started; the code to exit with."""
    found = bootstrap["Record"](record, key)
    bootstrap["end"](found.fields, "SecretMissing", message, retryable)
    bootstrap["say"]("runner: " + message)
    found.fields["finished"] = found.fields["started"]
    found.finish(True)
    return found.fields["process_exit"]


def arguments(config: dict, sections: dict, record: str, key: str, saved: list) -> list:
    """The bootstrapper's command line."""
    options = ["--merge", "--status", record, "--attempt", key, *config["options"]]
    for folder, target in saved:
        options += ["--output", folder + "=" + target]
    return [*options, "--", *(filled(word, sections) for word in config["argv"])]


def main() -> int:
    """Everything; returns the code to exit with."""
    bootstrap = load()
    config, sections = parse(read_all(3))
    bootstrap["own_process"]()
    restore()
    beside, forward, vault = companions()
    distributed = config["distributed"]
    number = rank(os.environ, distributed)
    aside = keep_aside(distributed)
    bootstrap["HERE"] = aside
    quietly(os.makedirs, "outputs", exist_ok=True)
    kept = quietly(os.makedirs, LOGS, exist_ok=True) is None and os.access(LOGS, os.W_OK)
    logs = os.path.abspath(LOGS) if kept else aside
    targets = [filled(word, sections) for word in (*config["folders"], *(word for _, word in config["outputs"]))]
    saved = [(folder, filled(word, sections)) for folder, word in config["outputs"]]
    for folder, (_, section, _) in config["outputs"]:
        # The script may take an output by either of its names, so both are the folder that is saved at the end.
        sections[section] = os.fsencode(os.path.abspath(folder))
    env = environment(bootstrap, config, sections, aside)
    tracking(os.path.join(aside if number else logs, "mlflow"), env, config["mlflow"])
    for word in config["folders"]:
        quietly(os.makedirs, filled(word, sections), exist_ok=True)
    for word in config["files"]:
        quietly(os.makedirs, os.path.dirname(filled(word, sections)), exist_ok=True)
    record = os.path.join(logs, "status-%d.json" % number if number else "status.json")
    key = os.fsdecode(env.pop(b"RUNNER_KEY"))
    argv = arguments(config, sections, record, key, saved if first_here(os.environ, distributed) else [])
    bootstrap["environment"] = lambda: env
    bootstrap["RECORD_LINE"] = "runner-record: "
    if not number and not distributed:  # several processes have one directory, and each would tell of the others' files
        bootstrap["Record"] = beside.telling(bootstrap["Record"], [folder for folder, _ in saved])
    if config.get("secrets"):
        try:
            argv = ["--secrets", secrets_file(vault, config["secrets"]), *argv]
        except ValueError as error:
            return not_started(bootstrap, record, key, *error.args)
    if forward is not None and not number:
        script = {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()}
        forward.beside(dict(os.environ), script, record)
    copied = quietly(piped)
    code = bootstrap["main"](argv if number else ["--log-status", *argv])
    for folder in targets:
        quietly(mark_empty, folder)
    all_copied(copied)
    return code


if __name__ == "__main__":
    if sys.version_info < (3, 8):
        os.execvp("sh", ["sh", os.path.join(HERE, "launch.sh"), *sys.argv[1:]])
    try:
        code = main()
    except Exception as error:
        os.write(
            2, ("runner: the launcher failed: %s: %s\n" % (type(error).__name__, error)).encode("utf-8", "replace")
        )
        code = 125
    os._exit(code)
