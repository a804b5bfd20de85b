"""The automation of the public repository, checked as far as that goes without GitHub."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tools import do

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PINNED = re.compile(r"[\w-]+/[\w-]+@(?:v\d+|release/v\d+)")
RUNNERS = {"ubuntu-latest", "macos-latest", "windows-latest"}
GIVEN = re.compile(r"\$\{\{\s*(github\.(?:ref_name|head_ref|event)[^} ]*)")
"""What somebody else may have written, and a shell would carry out."""
JOB_KEYS = {
    "name", "runs-on", "timeout-minutes", "strategy", "env", "steps", "needs", "permissions", "environment", "if",
}  # fmt: skip
STEP_KEYS = {"name", "id", "if", "uses", "with", "run", "env", "shell", "working-directory", "timeout-minutes"}
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def read(path):
    """A file of YAML 1.2, in which `on` is a word: PyYAML takes it for true."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in content.items()}


def problems(workflow):
    """What GitHub would refuse in a workflow, or run otherwise than it reads."""
    found = [f"no {key}" for key in ("name", "on", "permissions", "jobs") if not workflow.get(key)]
    jobs = workflow.get("jobs", {})
    for name, job in jobs.items():
        matrix = job.get("strategy", {}).get("matrix", {})
        axes = {key for key in matrix if key != "include"} | {key for row in matrix.get("include", []) for key in row}
        used = set(re.findall(r"matrix\.([\w-]+)", json.dumps(job)))
        runners = matrix.get("system", []) if "${{" in job.get("runs-on", "") else [job.get("runs-on")]
        needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
        found += [f"{name}: unknown key {key}" for key in set(job) - JOB_KEYS]
        found += [f"{name}: matrix has no {axis}" for axis in used - axes]
        found += [f"{name}: nobody reads {axis} of the matrix" for axis in axes - used]
        found += [f"{name}: no runner {runner}" for runner in set(runners) - RUNNERS] or ([] if runners else [name])
        found += [f"{name}: needs {other}" for other in needs if other not in jobs]
        found += [] if "timeout-minutes" in job else [f"{name}: may hang for six hours"]
        for step in job.get("steps", []) or [{}]:
            found += [f"{name}: unknown key {key} of a step" for key in set(step) - STEP_KEYS]
            found += [] if ("uses" in step) != ("run" in step) else [f"{name}: a step either uses or runs"]
            if "uses" in step and not PINNED.fullmatch(step["uses"]):
                found.append(f"{name}: {step['uses']} is not pinned to a major version")
            script = step.get("run", "").replace("${{ matrix.command }}", "test-lowest")
            found += [f"{name}: {text} may hold a command" for text in GIVEN.findall(script)]
            commands = re.findall(r"-m tools\.do (\S+)", script)
            found += [f"{name}: no command {command}" for command in commands if command not in do.COMMANDS]
    return found


@each_workflow
def test_a_workflow_is_one_that_github_runs(path):
    assert not problems(read(path))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"runs-on": "ubuntu-newest"}, "no runner ubuntu-newest"),
        ({"needs": "tests"}, "needs tests"),
        ({"step": []}, "unknown key step"),
        ({"name": "${{ matrix.os }}"}, "matrix has no os"),
        ({"strategy": {"matrix": {"python": ["3.11"]}}}, "nobody reads python"),
        ({"steps": [{"uses": "actions/checkout@main"}]}, "not pinned"),
        ({"steps": [{"uses": "actions/checkout@v4", "run": "true"}]}, "either uses or runs"),
        ({"steps": [{"run": "python -m tools.do tests"}]}, "no command tests"),
        ({"steps": [{"run": "echo ${{ github.head_ref }}"}]}, "github.head_ref"),  # a branch may be named as a command
    ],
)
def test_what_github_would_refuse_is_seen(changes, expected):
    job = {"runs-on": "ubuntu-latest", "timeout-minutes": 1, "steps": [{"run": "true"}]}
    workflow = {"name": "x", "on": "push", "permissions": {"contents": "read"}}
    assert not problems({**workflow, "jobs": {"job": job}})
    assert expected in "; ".join(problems({**workflow, "jobs": {"job": {**job, **changes}}}))


def test_the_suite_runs_on_every_system_and_python_that_the_package_names():
    matrix = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["suite"]["strategy"]["matrix"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    assert set(matrix["system"]) == RUNNERS
    assert [f"Programming Language :: Python :: {version}" for version in matrix["python"]] == [
        line for line in classifiers if ":: 3." in line
    ]


def test_every_lab_runs_weekly():
    workflow = read(ROOT / ".github" / "workflows" / "labs.yml")
    assert workflow["jobs"]["labs"]["strategy"]["matrix"]["lab"] == sorted(
        path.parent.name[:2] for path in ROOT.glob("[0-9][0-9]-*/lab_*.ipynb")
    )
    minute, hour, *days = workflow["on"]["schedule"][0]["cron"].split()
    assert int(minute) < 60 and int(hour) < 24 and days == ["*", "*", "1"]


def test_only_the_jobs_that_publish_may_write():
    jobs = read(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "build": None,
        "publish": {"id-token": "write"},
        "notes": {"contents": "write"},
    }
    jobs = read(ROOT / ".github" / "workflows" / "site.yml")["jobs"]
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "build": None,
        "publish": {"pages": "write", "id-token": "write"},
    }
    assert "secrets." not in "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_has_what_github_asks_for(path):
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    for field in fields:
        assert field["type"] in ("checkboxes", "dropdown", "input", "textarea") and field["attributes"]["label"]
        options = field["attributes"].get("options", [])
        assert (field["type"] == "dropdown") == bool(options) and len(set(options)) == len(options)


@pytest.mark.parametrize(
    ("schema", "paths"), [("github-workflows", WORKFLOWS), ("github-issue-forms", FORMS)], ids=["workflows", "forms"]
)
def test_the_files_follow_the_schema(schema, paths):
    checker = pytest.importorskip("check_jsonschema", reason="check-jsonschema, which brings the schemas, is not there")
    jsonschema = pytest.importorskip("jsonschema")
    folder = Path(checker.__file__).parent / "builtin_schemas" / "vendor"
    if not (folder / f"{schema}.json").is_file():
        pytest.skip("this version of check-jsonschema does not have the schema yet")
    rules = json.loads((folder / f"{schema}.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(rules)(rules)
    for path in paths:
        assert not [f"{path.name}: {error.message}" for error in validator.iter_errors(read(path))]


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="there is no actionlint")
def test_actionlint_has_nothing_to_say():
    done = subprocess.run(["actionlint", *WORKFLOWS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
