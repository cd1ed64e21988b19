"""Starts one script, and writes down the truth about how it ended.

Runs as PID 1 of a container, or as a plain process. README.md beside this file is its contract, row by row.
Rule for maintainers: standard library only, Python 3.8 syntax, and on the usual path nothing but the modules imported
here (json, enum, re, subprocess, argparse or the public signal module, which needs enum, cost 4-12 ms each at every run).
"""

import _signal as signal
import errno
import os
import sys
import time

CONTRACT = 1
RECORD_SIZE = 8192  # two pages, written before the script starts: the room for its verdict is then never missing
SINGLE_LIMIT = 131072  # MAX_ARG_STRLEN: what the kernel takes for one argument or one NAME=value, the NUL included
SETTLE_S = 0.25  # helpers such as multiprocessing's resource tracker end by themselves soon after their parent
LEFTOVER_GRACE_S = 2.0  # between TERM and KILL for what the script left behind; never more than --grace
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HERE = os.path.dirname(os.path.abspath(__file__))
RECORD_LINE = "runner-status: "

CANCEL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS, signal.SIGABRT}
EXIT = {
    "ScriptNotFound": 127,
    "UnsupportedScript": 126,
    "InterpreterNotFound": 127,
    "ExecFailed": 126,
    "BootstrapError": 125,
    "SecretMissing": 125,
    "OutputError": 125,
}

# How a script is run, by extension: the first line whose program is there is taken. %(script)s and %(name)s (its last
# part) are whole words or ends of words, so a hostile file name stays one argument; it is never spliced into code.
_R = ("Rscript", "--no-site-file", "--no-environ", "--no-restore")
RENDER = (
    'if (!requireNamespace("rmarkdown", quietly = TRUE) || !rmarkdown::pandoc_available()) quit(status = 127L); '
    'rmarkdown::render(commandArgs(TRUE)[1L], output_dir = file.path(getwd(), "outputs"))'
)
_MARKDOWN = ((*_R, "-e", RENDER, "%(script)s"), ("quarto", "render", "%(script)s", "--output-dir", "outputs"))
_NBCONVERT = ("jupyter", "nbconvert", "--to", "notebook", "--execute", "--output-dir=outputs", "--output=%(name)s")
INTERPRETERS = {
    ".py": (("python3", "%(script)s"),),
    ".R": ((*_R, "%(script)s"),),
    ".r": ((*_R, "%(script)s"),),
    ".sh": (("bash", "%(script)s"), ("sh", "%(script)s")),
    ".bash": (("bash", "%(script)s"),),
    ".jl": (("julia", "%(script)s"),),
    ".js": (("node", "%(script)s"),),
    ".pl": (("perl", "%(script)s"),),
    ".ipynb": (("papermill", "%(script)s", "outputs/%(name)s"), (*_NBCONVERT, "%(script)s")),
    ".Rmd": _MARKDOWN,
    ".rmd": _MARKDOWN,
    ".qmd": _MARKDOWN[::-1],
}
RENDERED = (".ipynb", ".Rmd", ".rmd", ".qmd")  # these write their result to outputs/, which has to exist
_RMARKDOWN = "rmarkdown (with pandoc)"
NEEDS = {".ipynb": "papermill (with ipykernel)", ".Rmd": _RMARKDOWN, ".rmd": _RMARKDOWN}  # else the program itself


class StartError(Exception):
    """The attempt ends here, before the script ran."""

    def __init__(self, reason: str, message: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason, self.message, self.retryable = reason, message, retryable


def quietly(call, *args, **options) -> None:
    """Calls; that the thing is gone, not ours or not possible changes nothing."""
    try:  # noqa: SIM105 - contextlib costs 1 ms at every run
        call(*args, **options)
    except (OSError, ValueError):
        pass


def command_for(command: list, available=None) -> list:
    """The argv that runs `command` (script or program, then its arguments). Pure.

    available: tells whether a program exists; decides between alternatives (bash or sh). None = take the first.
    """
    script = command[0]
    templates = INTERPRETERS.get(os.path.splitext(script)[1])
    if not templates:
        return list(command)
    chosen = next((words for words in templates if available is None or available(words[0])), templates[0])
    # A script named -x.py must not be read as an option of its interpreter.
    names = {"script": "./" + script if script.startswith("-") else script, "name": os.path.basename(script)}
    return [word % names for word in chosen] + list(command[1:])


def which(program: str, env: dict):
    """The path of an executable file on the script's PATH (not ours), or None."""
    for folder in os.fsdecode(env.get(b"PATH") or DEFAULT_PATH.encode()).split(":"):
        path = os.path.join(folder or ".", program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def place(env: dict) -> str:
    """Where a missing program is missing, and what helps."""
    backend = env.get(b"RUNNER_BACKEND")
    if backend == b"process" or (backend is None and os.getpid() != 1):
        return "on this machine (install it, or use a backend with an image)"
    return "in this image (add it in libs.yaml)"


def resolve(command: list, env: dict, warnings: list) -> tuple:
    """(path to execute, argv). Raises StartError with row 11, 12 or 13 (see README.md) where nothing can be started."""
    name = command[0]
    extension = os.path.splitext(name)[1]
    if extension not in INTERPRETERS:
        found = None if "/" in name else which(name, env)
        if found and not (os.path.isfile(name) and os.access(name, os.X_OK)):
            return found, list(command)
        if "/" not in name and not os.path.lexists(name):
            raise StartError("InterpreterNotFound", f"{name} is not {place(env)}")
    check_script(name, extension)
    if extension not in INTERPRETERS:
        name = name if "/" in name else "./" + name
        return name, [name, *command[1:]]
    argv = command_for(command, lambda program: which(program, env) is not None)
    path = which(argv[0], env)
    if path is None:
        needed = NEEDS.get(extension, INTERPRETERS[extension][0][0])
        raise StartError("InterpreterNotFound", f"{needed} is not {place(env)}")
    if argv[0] == "sh":
        warnings.append("bash is not here: the script was run by sh")
    if extension in RENDERED:
        os.makedirs("outputs", exist_ok=True)
    return path, argv


def check_script(name: str, extension: str) -> None:
    """Refuses what cannot be run (rows 11, 12, 14) while the reason is still known exactly."""
    supported = " ".join(sorted(INTERPRETERS, key=str.lower)) + ", or a file with a #! line and the execute bit"
    try:
        os.stat(name)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
            raise StartError("ScriptNotFound", f"no such script: {name}") from None
        raise StartError("ExecFailed", f"cannot read {name}: {error_name(error.errno)}") from None
    if os.path.isdir(name):
        raise StartError("UnsupportedScript", f"cannot run {name}: it is a folder; name a script in it ({supported})")
    if not os.path.isfile(name):
        raise StartError("UnsupportedScript", f"cannot run {name}: it is not a regular file ({supported})")
    if extension in INTERPRETERS:
        if not os.access(name, os.R_OK):
            raise StartError("ExecFailed", f"cannot read {name}: {error_name(errno.EACCES)}")
    elif not os.access(name, os.X_OK):
        what = f"unknown extension {extension!r}" if extension else "it has no extension"
        message = f"cannot run {name}: {what} and it is not executable; supported: {supported}"
        raise StartError("UnsupportedScript", message)
    else:
        words = first_line(name).split()
        # `env` itself starts and then fails with 127 on "python3\r": only here is it still known why.
        if words[:1] in ([b"#!/usr/bin/env"], [b"#!/bin/env"]) and first_line(name).endswith(b"\r"):
            raise StartError("ExecFailed", explain(errno.ENOENT, name, [name], {}))


def first_line(path: str) -> bytes:
    """The first line of a file, at most 256 bytes (what the kernel reads for #!), without its newline."""
    try:
        with open(path, "rb") as file:
            return file.read(256).partition(b"\n")[0]
    except OSError:
        return b""


def error_name(code: int) -> str:
    """`ENOENT (No such file or directory)`."""
    return f"{errno.errorcode.get(code, code)} ({os.strerror(code)})"


def explain(code: int, path: str, argv: list, env: dict) -> str:
    """The sentence for an execve that failed: the errno's name, and the cause where it can be known."""
    line = first_line(path)
    why = ""
    if code == errno.E2BIG:
        sizes = [(len(os.fsencode(word)) + 1, f"argument {n}") for n, word in enumerate(argv)]
        sizes += [(len(key) + len(value) + 2, f"variable {os.fsdecode(key)}") for key, value in env.items()]
        size, what = max(sizes)
        total = sum(size for size, _ in sizes)
        if size > SINGLE_LIMIT:
            why = f"{what} alone has {size} bytes, the kernel takes at most 128 KiB for one; pass it in a file"
        else:
            why = f"arguments and environment have {total} bytes together; pass them in a file"
    elif line.startswith(b"#!") and line.endswith(b"\r"):
        why = "its #! line ends in a carriage return (CRLF line ends, \\r); save the file with LF line ends"
    elif line.startswith(b"\xef\xbb\xbf"):
        why = "it starts with a UTF-8 byte-order mark, so its #! line is not seen; save it without one"
    elif code == errno.ENOEXEC:
        why = "it has no #! line and is no program; start it with a line such as #!/bin/sh"
    elif line.startswith(b"#!"):
        why = f"its #! line names {os.fsdecode(b' '.join(line[2:].split()[:1])) or 'nothing'}"
    elif code == errno.ENOENT:
        why = "the program loader that it needs is not here (built for another system?)"
    return f"cannot start {path}: {error_name(code)}" + (f": {why}" if why else "")


def environment() -> dict:
    """Our own environment as it was given to us, as bytes.

    From /proc, not os.environ: in a C locale Python adds LC_CTYPE to the latter, and the script would see that.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [item.partition(b"=") for item in file.read().split(b"\0")]
    except OSError:
        return dict(os.environb)
    return {name: value for name, equals, value in pairs if name and equals}


def add_runner_variables(env: dict, notebook: bool) -> None:
    """What makes logs live and plots arrive, without a change to the script. What the user has set wins."""
    env.setdefault(b"PYTHONUNBUFFERED", b"1")
    env.setdefault(b"RUNNER_PLOTS", os.fsencode(os.path.join(os.getcwd(), "outputs", "plots")))
    profile = os.fsencode(os.path.join(HERE, "profile.R"))
    if os.path.exists(profile):
        if env.get(b"R_PROFILE_USER", profile) != profile:
            env[b"RUNNER_R_PROFILE_USER"] = env[b"R_PROFILE_USER"]
        env[b"R_PROFILE_USER"] = profile
    folder = os.fsencode(os.path.join(HERE, "python"))
    # A notebook shows its plots inline (ipykernel keeps an MPLBACKEND that is already set).
    if b"MPLBACKEND" not in env and not notebook and os.path.isdir(folder):
        env[b"MPLBACKEND"] = b"module://runner_plots"
        env[b"PYTHONPATH"] = env[b"PYTHONPATH"] + b":" + folder if env.get(b"PYTHONPATH") else folder


def take_secrets(path: str, env: dict) -> None:
    """Moves the secrets from their file into the script's environment; the file is gone afterwards, whatever happens."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        message = f"the secrets file {path} cannot be read: {error_name(error.errno)}"
        raise StartError("SecretMissing", message) from None
    try:
        os.unlink(path)
    except OSError as error:
        message = f"cannot remove the secrets file {path}: {error_name(error.errno)}"
        raise StartError("BootstrapError", message, retryable=True) from None
    import json

    try:
        secrets = {name.encode(): value.encode() for name, value in json.loads(text).items()}
        valid = all(name and b"=" not in name and b"\0" not in name + value for name, value in secrets.items())
    except (ValueError, AttributeError):
        valid = False
    if not valid:  # the text is a secret: neither it nor the parser's message is repeated
        raise StartError("SecretMissing", f"the secrets file {path} is not a JSON object of names and texts")
    env.update(secrets)


def read(path: str) -> str:
    """A small file as text; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def memory_cgroup(root: str = ""):
    """(1 or 2, folder) of our own memory cgroup, or None. `root` stands before every path (recorded hosts in tests)."""
    own = {}
    for line in read(root + "/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            own[1] = path
        elif number == "0":
            own[2] = path
    mounts = {}
    for line in read(root + "/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if kind[0] == "cgroup2":
            mounts[2] = (fields[3], fields[4])
        elif kind[0] == "cgroup" and "memory" in kind[-1].split(","):
            mounts[1] = (fields[3], fields[4])
    for version in (1, 2):
        if version in own and version in mounts:
            base, mount = mounts[version]
            path = own[version]
            inside = path[len(base) :] if base != "/" and (path + "/").startswith(base + "/") else path
            # In a container our path is often not visible, and the root of the mount is our own cgroup.
            for folder in (root + mount + inside.rstrip("/"), root + mount):
                if os.path.exists(folder + ("/memory.oom_control" if version == 1 else "/memory.events")):
                    return version, folder
    return None


def oom_kills(cgroup) -> int:
    """How many processes of the cgroup the kernel has killed for want of memory so far; 0 where it does not say."""
    if cgroup is None:
        return 0
    text = read(cgroup[1] + ("/memory.oom_control" if cgroup[0] == 1 else "/memory.events"))
    counts = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    return int(counts.get("oom_kill", "0"))


def memory_words(cgroup) -> str:
    """` (limit 512 MiB, peak 511 MiB)` as far as the cgroup knows them."""
    if cgroup is None:
        return ""
    words = []
    for word, *names in (("limit", "limit_in_bytes", "max"), ("peak", "max_usage_in_bytes", "peak")):
        text = read(f"{cgroup[1]}/memory.{names[cgroup[0] - 1]}").strip()
        if text.isdigit() and int(text) < 1 << 60:  # v1 says about 2^63 for "no limit", v2 says max
            words.append(f"{word} {int(text) >> 20} MiB")
    return f" ({', '.join(words)})" if words else ""


class Script:
    """The child process, and what is known of it and of everything that it started."""

    def __init__(self) -> None:
        self.pid = 0
        self.status = None
        self.user = self.sys = 0.0
        self.rss = None
        self.measures = True
        self.asked = 0  # the first cancel signal
        self.timed_out = False
        self.escalated = False
        self.started = time.time()
        self.clock = time.monotonic()
        self.elapsed = 0.0

    def reap(self) -> bool:
        """Collects every process that has ended. Returns True while others are left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG) if self.measures else (*os.waitpid(-1, os.WNOHANG), None)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if usage is not None:
                self.user += usage.ru_utime
                self.sys += usage.ru_stime
                self.rss = max(self.rss or 0, usage.ru_maxrss * 1024)
            else:
                spent = os.times()
                self.user, self.sys = spent.children_user, spent.children_system
            if pid == self.pid:
                self.status = status
                self.elapsed = time.monotonic() - self.clock

    def kill(self, *signals: int) -> None:
        """Sends signals to the script's process group; one that is gone, or not ours any more, is no error."""
        for number in signals:
            quietly(os.killpg, self.pid, number)


def start(path: str, argv: list, env: dict, prctl, script: Script) -> None:
    """Forks and executes; returns once the script runs. Raises StartError with row 14 or 15."""
    receive, send = os.pipe()  # closed by a successful execve, else it carries the errno
    parent = os.getpid()
    script.started, script.clock = time.time(), time.monotonic()
    try:
        script.pid = os.fork()
    except OSError as error:
        raise StartError("BootstrapError", f"cannot fork: {error_name(error.errno)}", True) from None
    if script.pid == 0:
        try:
            become(path, argv, env, prctl, parent)
        except OSError as error:
            os.write(send, b"%d" % error.errno)
        except BaseException as error:
            os.write(send, b"0" + repr(error).encode("utf-8", "replace")[:500])
        finally:
            os._exit(127)
    os.close(send)
    try:
        # wait4 needs it (2 ms): loaded here, it costs nothing, the script is starting too.
        import resource  # noqa: F401
    except ImportError:
        script.measures = False  # Debian's python3-minimal: wait4 would reap the child and then lose its status

    failure = os.read(receive, 600)
    os.close(receive)
    if failure:
        os.waitpid(script.pid, 0)
        script.pid = 0
        if failure.startswith(b"0"):
            raise StartError("BootstrapError", "the child could not be prepared: " + failure[1:].decode(), True)
        code = int(failure)
        raise StartError("ExecFailed", explain(code, path, argv, env), code in (errno.EAGAIN, errno.ENOMEM))


def become(path: str, argv: list, env: dict, prctl, parent: int) -> None:
    """In the child: a session of its own, everything as a fresh process has it, then the script. Returns never."""
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        quietly(signal.signal, number, signal.SIG_DFL)  # Python ignores SIGPIPE: `yes | head -1` would end 1, not 141
    if prctl:
        prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: kill -9 of the bootstrapper leaves no script behind
        if os.getppid() != parent:  # it died before the line above
            os._exit(127)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execve(path, argv, env)


def adopt(warnings: list):
    """Makes orphaned grandchildren ours when we are not PID 1 (they would go to init, unseen). Returns prctl or None."""
    if os.getpid() == 1:
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        if prctl(36, 1, 0, 0, 0) == 0:  # PR_SET_CHILD_SUBREAPER
            return prctl
    except (ImportError, OSError, AttributeError):
        pass
    warnings.append("processes that outlive the script cannot be seen here (no subreaper)")
    return None


def supervise(script: Script, timeout, grace: float) -> None:
    """Waits for the script's end: forwards signals, keeps the time limit, escalates to SIGKILL."""
    waited = set(signal.valid_signals()) - FAULTS
    limit = script.clock + timeout if timeout is not None else None
    kill_at = None
    while script.status is None:
        now = time.monotonic()
        ends = [moment for moment in (kill_at, limit) if moment is not None]
        # At most 60 s: a lost SIGCHLD (a debugger, a frozen machine) may delay the end, but not for ever.
        info = signal.sigtimedwait(waited, max(0.0, min([60.0] + [moment - now for moment in ends])))
        # Reap before anything else: a cancel that was sent after the end must not change the verdict (row 10), and
        # the kernel hands out SIGTERM (15) before SIGCHLD (17).
        script.reap()
        if script.status is not None:
            return
        now = time.monotonic()
        if limit is not None and now >= limit:
            limit = None
            if not script.asked:
                script.timed_out, kill_at = True, now + grace
                script.kill(signal.SIGTERM, signal.SIGCONT)
        if kill_at is not None and now >= kill_at:
            kill_at, script.escalated = None, True
            script.kill(signal.SIGKILL)
        # A signal from ourselves is the SIGPIPE or SIGXFSZ of one of our own writes.
        if info is None or info.si_signo == signal.SIGCHLD or info.si_pid == os.getpid():
            continue
        script.kill(info.si_signo)
        if info.si_signo in CANCEL:
            script.kill(signal.SIGCONT)  # a stopped script gets to see it too
            if not script.asked and not script.timed_out:
                script.asked, kill_at = info.si_signo, now + grace


def descendants() -> list:
    """The ids of all living processes below this one."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = read("/proc/" + name + "/stat").rpartition(")")[2].split()
            if fields and fields[0] not in "ZX":
                children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def stop_leftovers(script: Script, grace: float) -> int:
    """Stops what the script left running; returns how many that were. Orphans are our children: PID 1 or subreaper."""

    def gone_within(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while script.reap():
            left = end - time.monotonic()
            if left <= 0:
                return False
            signal.sigtimedwait([signal.SIGCHLD], min(left, 0.1))
        return True

    def send(pids: list, *signals: int) -> None:
        for pid in pids:
            for number in signals:
                quietly(os.kill, pid, number)

    if gone_within(SETTLE_S):
        return 0
    running = descendants()
    send(running, signal.SIGTERM, signal.SIGCONT)
    if not gone_within(min(grace, LEFTOVER_GRACE_S)):
        for _ in range(100):  # what forks while it is being killed needs more than one round
            send(descendants(), signal.SIGKILL)
            if gone_within(0.1):
                break
    return len(running)


def signal_name(number: int) -> str:
    """SIGKILL for 9, SIGRTMIN+2 for 36."""
    if number >= signal.SIGRTMIN:
        plus = number - signal.SIGRTMIN
        return "SIGRTMAX" if number == signal.SIGRTMAX else f"SIGRTMIN+{plus}" if plus else "SIGRTMIN"
    names = {16: "SIGSTKFLT"}  # which Python knows only since 3.11
    names.update((getattr(signal, name), name) for name in dir(signal) if name.startswith("SIG") and name[3] != "_")
    names.update({signal.SIGABRT: "SIGABRT", signal.SIGCHLD: "SIGCHLD", signal.SIGIO: "SIGIO"})  # not their old aliases
    return names.get(number, f"SIG{number}")


def judge(script: Script, kills: int, memory: str, options: dict) -> dict:
    """Rows 1-10 of the mapping as a dict of the record's fields. `kills`: the rise of the OOM counter."""
    ended_by = os.WTERMSIG(script.status) if os.WIFSIGNALED(script.status) else 0
    code = None if ended_by else os.WEXITSTATUS(script.status)
    core = bool(ended_by) and os.WCOREDUMP(script.status)
    name = signal_name(ended_by) if ended_by else None
    fields = {"exit_code": code, "signal": name, "core_dumped": core, "oom_kills": kills, "origin": "script"}
    px = 128 + ended_by if ended_by else code
    killed = script.escalated and ended_by == signal.SIGKILL
    if script.timed_out:
        message = f"timed out after {options['timeout']:g} s" + (" (needed SIGKILL)" if killed else "")
        return dict(fields, reason="Timeout", process_exit=124, message=message)
    if script.asked:
        asked = signal_name(script.asked)
        message = f"canceled ({asked})"
        if killed:
            message += f"; killed after {options['grace']:g} s"
        elif not ended_by:
            message += f"; script exited {code}"
        fields["cancel"] = {"by": "signal", "signal": asked, "escalated": script.escalated}
        px = px if ended_by else 128 + script.asked
        return dict(fields, reason="Canceled", status="Canceled", process_exit=px, message=message)
    if ended_by == signal.SIGKILL and kills:
        return dict(fields, reason="OutOfMemory", process_exit=px, message="killed: out of memory" + memory)
    if ended_by:
        message = f"script was killed by {name}" + (" (core dumped)" if core else "")
        return dict(fields, reason="Signaled", process_exit=px, message=message)
    if code:
        return dict(fields, reason="NonZeroExit", process_exit=px, message=f"script exited with code {code}")
    return dict(fields, reason="Completed", status="Completed", process_exit=0, message="")


def prepare_output(source: str) -> None:
    """Creates the folder; refuses one that leads elsewhere."""
    inside = os.path.normpath(source)
    if os.path.realpath(source) != os.path.join(os.path.realpath("."), inside):
        raise OSError(errno.ELOOP, "it is, or lies below, a symbolic link", source)
    os.makedirs(source, exist_ok=True)


def save_output(source: str, target: str, warnings: list) -> None:
    """Moves the content of the folder `source` into `target`. Raises OSError (the first, after trying everything)."""

    def refuse(error: OSError) -> None:
        raise error  # what cannot be looked into might hold links that lead out

    prepare_output(source)
    found = []
    for folder, folders, files in os.walk(source, onerror=refuse):
        for path in [os.path.join(folder, name) for name in folders]:
            if not os.path.islink(path) and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                os.chmod(path, 0o700)  # a folder closed to its own owner can neither be emptied nor moved
        found += [os.path.join(folder, name) for name in folders + files]
    root = os.path.realpath(source) + "/"
    # Where the links lead is found out before the first is dropped: one may lead through another.
    for path, led in [(path, os.path.realpath(path)) for path in found]:
        if os.path.islink(path):
            if not (led + "/").startswith(root):
                os.unlink(path)
                warnings.append(f"output {path} was left out: it is a link to a place outside its folder")
            elif os.path.isabs(os.readlink(path)):
                os.unlink(path)
                os.symlink(os.path.relpath(led, os.path.realpath(os.path.dirname(path))), path)
        elif not os.path.isdir(path) and not os.path.isfile(path):
            os.unlink(path)
            warnings.append(f"output {path} was left out: it is not a regular file")
    errors = []
    os.makedirs(target, exist_ok=True)
    for name in os.listdir(source):
        move(os.path.join(source, name), os.path.join(target, name), errors)
    if errors:
        raise errors[0]


def move(source: str, target: str, errors: list) -> None:
    """Renames, or copies where that is another filesystem; merges folders. Never writes through a link."""
    folder = os.path.isdir(source) and not os.path.islink(source)
    try:
        if os.path.islink(target):
            os.unlink(target)
        if not (folder and os.path.isdir(target)) and renamed(source, target):
            return
        if folder:
            os.makedirs(target, exist_ok=True)
            for name in os.listdir(source):
                move(os.path.join(source, name), os.path.join(target, name), errors)
        else:
            import shutil  # 8 ms, and only where files have to be copied

            shutil.copyfile(source, target, follow_symlinks=False)
            quietly(shutil.copystat, source, target, follow_symlinks=False)  # a mounted storage account has no modes
            os.unlink(source)
    except OSError as error:
        errors.append(error)


def renamed(source: str, target: str) -> bool:
    """Renames; False where that is another filesystem. Raises OSError."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def to_json(value) -> str:
    """JSON in pure ASCII, by hand: importing json would cost 4 ms at every run."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(map(escape, value.encode("utf-8", "replace").decode("utf-8"))) + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_json(key)}: {to_json(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(to_json, value)) + "]"


def escape(char: str) -> str:
    """One character of a JSON string."""
    number = ord(char)
    if char in '"\\':
        return "\\" + char
    if 32 <= number < 127:
        return char
    if number > 0xFFFF:
        number -= 0x10000
        return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
    return f"\\u{number:04x}"


def fit(fields: dict, size: int) -> str:
    """The record as JSON of at most `size` bytes: a long message, long warnings and many warnings are cut."""

    def cut(text: str, length: int) -> str:
        return text if len(text) <= length else text[:length] + " ..."

    warnings, keep, length = fields["warnings"], 20, 2000
    while True:
        shown = [cut(text, length // 5) for text in warnings[:keep]]
        if len(warnings) > keep:
            shown.append(f"and {len(warnings) - keep} more warnings")
        text = to_json(dict(fields, message=cut(fields["message"], length), warnings=shown))
        if len(text) <= size:
            return text
        keep, length = keep // 2, length * 3 // 4


def utc(moment: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03d}Z"


class Record:
    """status.json: allocated before the script starts, overwritten in place at its end, valid JSON at every moment."""

    def __init__(self, path, attempt) -> None:
        self.path, self.fd = path, -1
        self.fields = {"contract": CONTRACT, "final": False, "attempt": attempt, "pid": os.getpid(), "child_pid": None}
        self.fields.update(status="Running", reason=None, exit_code=None, signal=None, core_dumped=False, oom_kills=0)
        self.fields.update(cancel=None, origin="script", retryable=False, message="", warnings=[], process_exit=None)
        self.fields.update(started=utc(time.time()), finished=None, elapsed_s=None)
        self.fields.update(max_rss_bytes=None, user_s=None, sys_s=None)

    def allocate(self) -> None:
        """Puts a new file with real blocks in the place of an old one. Raises OSError."""
        if self.path is not None:
            new = f"{self.path}.{os.getpid()}.new"
            try:
                self.fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
                self.write()
                os.fsync(self.fd)  # 0.4 ms on a local disk; NFS and quotas say only now that there is no room
                os.rename(new, self.path)
            except OSError:
                for path in (new, self.path):  # no half a file, no old record that could be taken for this attempt's
                    quietly(os.unlink, path)
                raise

    def write(self) -> None:
        """Overwrites the whole file, padded with spaces. Raises OSError."""
        data = (fit(self.fields, RECORD_SIZE - 1).ljust(RECORD_SIZE - 1) + "\n").encode("ascii")
        done = 0
        while done < len(data):
            done += os.pwrite(self.fd, data[done:], done)

    def is_in_place(self) -> bool:
        """Whether our file is still the one that readers find (a script may remove or replace it)."""
        try:
            return self.fd >= 0 and os.path.samestat(os.lstat(self.path), os.fstat(self.fd))
        except OSError:
            return False

    def finish(self, echo: bool) -> None:
        """Writes the final record; where that fails, or on request, it goes to stderr as one line."""
        self.fields["final"] = True
        if self.path is not None:
            try:
                if self.is_in_place():
                    self.write()
                else:
                    self.allocate()
                os.close(self.fd)  # NFS says only here that it could not write
            except OSError:
                echo = True
        if echo:
            say(RECORD_LINE + fit(self.fields, RECORD_SIZE))


def say(line: str) -> None:
    """One line on stderr, whoever still reads it."""
    quietly(os.write, 2, (line + "\n").encode("utf-8", "replace"))


def parse(argv: list) -> tuple:
    """(options, what is wrong with them or None). Reads on after an error, so that --status is known if it is there."""
    options = {"status": None, "attempt": None, "timeout": None, "grace": 10.0, "secrets": None, "cgroup": []}
    options.update(output=[], contract=False, log_status=False, merge=False, command=[])
    wrong = []
    words = list(argv)
    while words:
        word = words.pop(0)
        name = word[2:].replace("-", "_")
        if word == "--":
            options["command"] = words
            break
        if word in ("--contract", "--log-status", "--merge"):
            options[name] = True
        elif word not in ("--status", "--attempt", "--timeout", "--grace", "--secrets", "--cgroup", "--output"):
            wrong.append(f"unknown option {word}")
        elif not words:
            wrong.append(f"{word} needs a value")
        else:
            try:
                value = convert(name, words.pop(0))
                options[name] = options[name] + [value] if isinstance(options[name], list) else value
            except ValueError as error:
                wrong.append(f"{word}: {error}")
    if not options["contract"] and not (options["command"] and options["command"][0]):
        wrong.append("no command after --")
    return options, "; ".join(wrong) or None


def convert(name: str, text: str):
    """One option's value. Raises ValueError that says what was expected."""
    if name in ("timeout", "grace"):
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not (0 < number < 1e9 or (name == "grace" and number == 0)):
            raise ValueError(f"expected a number of seconds, got {text!r}")
        return number
    if name == "attempt" and len(text) > 256:
        raise ValueError("at most 256 characters")
    if name == "output":
        at = text.find("=/")  # the folder's name may hold a =, and an absolute destination starts with /
        source, equals, target = text.partition("=") if at < 0 else (text[:at], "=", text[at + 1 :])
        parts = os.path.normpath(source).split("/")
        if not (source and equals and target) or parts[0] in ("", ".", ".."):
            raise ValueError(f"expected FOLDER=DESTINATION with a folder inside the working directory, got {text!r}")
        return os.path.normpath(source), target
    return text


def run(options: dict, record: Record, script: Script) -> dict:
    """Prepares, starts, watches and judges the script; returns the record's fields. Raises StartError."""
    warnings = record.fields["warnings"]
    env = environment()
    if options["secrets"] is not None:
        take_secrets(options["secrets"], env)
    for folder in options["cgroup"]:
        with open(os.path.join(folder, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))
    command = options["command"]
    add_runner_variables(env, notebook=command[0].endswith(".ipynb"))
    for source, _ in options["output"]:
        try:
            prepare_output(source)
        except OSError as error:
            raise StartError("BootstrapError", f"cannot create the output folder {source}: {error.strerror}") from None
    path, argv = resolve(command, env, warnings)
    cgroup = memory_cgroup()
    before = oom_kills(cgroup)
    prctl = adopt(warnings)
    start(path, argv, env, prctl, script)
    record.fields.update(child_pid=script.pid, started=utc(script.started))
    if record.fd >= 0:
        quietly(record.write)
    supervise(script, options["timeout"], options["grace"])
    kills = oom_kills(cgroup) - before
    fields = judge(script, kills, memory_words(cgroup), options)
    if fields["exit_code"] == 127 and RENDER in argv and fields["reason"] == "NonZeroExit":
        message = f"{_RMARKDOWN} is not {place(env)}"
        fields = dict(fields, reason="InterpreterNotFound", exit_code=None, message=message)
    if kills and fields["reason"] != "OutOfMemory":
        warnings.append(f"{kills} process{'es' if kills > 1 else ''} OOM-killed")
    return fields


def tidy(options: dict, record: Record, script: Script) -> None:
    """After the end, whatever it was: leftovers stopped, outputs saved. Row 16 is decided here."""
    fields = record.fields
    if script.pid:
        left = stop_leftovers(script, options["grace"])
        if left:
            was = "process was" if left == 1 else "processes were"
            fields["warnings"].append(f"{left} {was} still running and {was.split()[1]} stopped")
        fields.update(user_s=round(script.user, 3), sys_s=round(script.sys, 3), max_rss_bytes=script.rss)
    # The deepest first: of `outputs` and `outputs/model` both, each gets its own.
    for source, target in sorted(options["output"], key=lambda pair: -pair[0].count("/")):
        try:
            save_output(source, target, fields["warnings"])
        except OSError as error:
            where = error.filename if isinstance(error.filename, str) else target
            message = f"outputs of {source} could not be saved: {error_name(error.errno)}: {where}"
            if fields["reason"] == "Completed":
                fields.update(reason="OutputError", status="Failed", process_exit=125, origin="bootstrapper")
                fields["message"] = message
            else:
                fields["warnings"].append(message)


def main(argv: list) -> int:
    """Never raises: whatever happens ends in a record. Returns the code to exit with."""
    options, wrong = parse(argv)
    if options["merge"]:
        quietly(os.dup2, 1, 2)
    if options["contract"] and not wrong:
        print(CONTRACT, flush=True)
        return 0
    record, script = Record(options["status"], options["attempt"]), Script()
    fields = record.fields
    try:
        record.allocate()
        if wrong:
            end(fields, "BootstrapError", f"bad arguments: {wrong}", retryable=False)
        else:
            fields.update({"status": "Failed"}, **run(options, record, script))
            tidy(options, record, script)
    except StartError as error:
        end(fields, error.reason, error.message, error.retryable)
    except BaseException as error:
        if script.pid:
            script.kill(signal.SIGKILL)
            stop_leftovers(script, 0.0)
        end(fields, "BootstrapError", f"bootstrapper fault: {type(error).__name__}: {error}", True)
    if wrong and options["secrets"] is not None:
        quietly(os.unlink, options["secrets"])
    if script.pid == 0 or fields["reason"] in ("BootstrapError", "OutputError", "InterpreterNotFound"):
        say("runner: " + fields["message"])
    fields["finished"] = utc(script.started + script.elapsed)
    fields["elapsed_s"] = round(script.elapsed, 3)
    record.finish(options["log_status"])
    return fields["process_exit"]


def end(fields: dict, reason: str, message: str, retryable: bool) -> None:
    """Rows 11-15: there is no script to judge."""
    origin = "bootstrapper" if reason in ("BootstrapError", "SecretMissing") else "script"
    fields.update(status="Failed", reason=reason, process_exit=EXIT[reason], message=message, retryable=retryable)
    fields.update(origin=origin, exit_code=None, signal=None)


def own_process() -> None:
    """What only a process of our own may do: hold back all signals, and leave no stray descriptor to the script."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if we were started with it ignored, nothing could be waited for
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open("/dev/null", os.O_RDWR), True)  # the lowest free number, which is fd
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        if int(name) > 2:
            quietly(os.set_inheritable, int(name), False)  # quietly: one is that of the listing itself


if __name__ == "__main__":
    own_process()
    os._exit(main(sys.argv[1:]))  # no interpreter teardown: 3 ms
