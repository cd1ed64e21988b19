"""A sweep file on the command line: refused with its lines, or run, shown and downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Cli

JOB = """type: sweep
trial:
  code: src
  command: bash fit.sh ${{search_space.x}} "${{search_space.flag}}" ${{inputs.power}} ${{outputs.model}}
inputs:
  power: 2
outputs:
  model: {type: uri_folder}
sampling_algorithm: grid
search_space:
  x: {type: choice, values: [1, 2, 3]}
  flag: {type: choice, values: [true, a b]}
objective: {goal: maximize, primary_metric: score}
limits: {max_total_trials: 5, max_concurrent_trials: 2}
"""
FIT = """for last; do :; done
echo "$(date +%s%3N) $(( $1 * 10 )) 4" >> "$RUNNER_TRACKING/metrics/score"
printf '%s' "$2" > "$RUNNER_TRACKING/params/flag"
test "$1$2" != 1True || exit 3
echo "$@" > "$last/args"
"""


def write(cli: Cli, job: str = JOB) -> None:
    (cli.cwd / "src").mkdir()
    (cli.cwd / "src" / "fit.sh").write_text(FIT)
    (cli.cwd / "job.yml").write_text(job)


def test_a_sweep_is_run_shown_and_downloaded(cli: Cli) -> None:
    write(cli)
    done = cli("submit", "job.yml", "--backend", "process", "--wait", "--name", "s")
    assert done.code == 0, done.err
    row = cli.row("s")
    assert row["kind"] == "sweep"
    sweep = row["sweep"]
    assert (sweep["metric"], sweep["goal"], sweep["best"]) == ("score", "maximize", "s.sweep.trial_4")
    assert [(one["parameters"], one["value"], one["status"]) for one in sweep["trials"]] == [
        ({"x": "1", "flag": "True"}, 10, "Failed"),
        ({"x": "1", "flag": "a b"}, 10, "Completed"),
        ({"x": "2", "flag": "True"}, 20, "Completed"),
        ({"x": "2", "flag": "a b"}, 20, "Completed"),
        ({"x": "3", "flag": "True"}, 30, "Completed"),
    ]
    assert row["metrics"]["score"] | {"time": ""} == {"value": 30.0, "step": 4, "time": "", "points": 1}
    assert row["params"] == {"flag": "True"}
    text = cli("show", "s").out
    assert "best: s.sweep.trial_4  score 30  (maximize)  x=3, flag=True" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line.split()[0].isdigit()] == [
        "4", "2", "3", "1", "0",
    ]  # fmt: skip
    assert "warning: 1 of 5 trials failed" in text
    assert cli("show", "s.sweep").out.count("best: ") == 1
    assert cli.row("s.sweep.trial_2")["metrics"]["score"]["value"] == 20
    done = cli("download", "s", "--to", "got")
    assert done.code == 0, done.err
    assert (cli.cwd / "got/model/args").read_text().startswith("3 True 2 ")
    assert (cli.cwd / "got/trials.svg").read_text().startswith("<svg")


def test_what_cannot_work_is_refused_with_its_line(cli: Cli) -> None:
    job = JOB.replace("grid", "bayesian").replace(
        "{type: choice, values: [1, 2, 3]}", "{type: normal, mu: 0, sigma: 1}"
    )
    write(cli, job + "early_termination: {type: bandit, slack_factor: 0.1}\n")
    done = cli("submit", "job.yml", "--backend", "process")
    assert done.code == 3
    assert "the sweep has 2 problems" in done.err
    assert "job.yml:11: search_space.x: bayesian sampling cannot take normal" in done.err
    assert "early_termination: bayesian sampling has no early termination" in done.err
    assert "no runs" in cli("list").err


def test_bayesian_sampling_runs(cli: Cli) -> None:
    job = JOB.replace("grid", "bayesian").replace("{type: choice, values: [1, 2, 3]}", "{type: randint, upper: 9}")
    write(cli, job)
    done = cli("submit", "job.yml", "--backend", "process", "--wait", "--name", "s")
    assert done.code == 0, done.err
    trials = cli.row("s")["sweep"]["trials"]
    assert len(trials) == 5
    assert all(0 <= int(one["parameters"]["x"]) < 9 for one in trials)


def test_a_sweep_that_failed_leads_to_the_log_of_a_trial(cli: Cli) -> None:
    (cli.cwd / "s.yml").write_text(
        'type: sweep\ntrial: {command: "echo the reason; exit ${{search_space.x}}"}\nsampling_algorithm: grid\n'
        "search_space: {x: {type: choice, values: [3, 4]}}\nobjective: {goal: maximize, primary_metric: score}\n"
        "limits: {max_total_trials: 2, max_concurrent_trials: 1}\n"
    )
    done = cli("submit", "s.yml", "--backend", "process", "--wait", "--name", "s")
    assert done.code == 3
    for text in (done.err, cli("show", "s").out, cli("show", "s.sweep").out):
        assert "log: runner logs s.sweep.trial_0\n" in text
    assert "    the reason\n" in cli("show", "s").out
    assert cli("status", "s").out.startswith("s  Failed")
    assert "2/2" in cli("list").out, "the trials are counted"
