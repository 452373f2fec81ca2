"""Sets up what a comparison needs: the peers' Python, the native peer, Millstream, the comparator and the data."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
NATIVE = Path(__file__).resolve().parent / "datafusion-native"

# What pip installs for a peer: distribution and version.
PACKAGES = {
    "duckdb": ["duckdb==2.0.*", "pyarrow"],
    "polars": ["polars==2.1.*", "pyarrow"],
    "datafusion": ["datafusion==55.*", "pyarrow"],
    "datafusion-native": [],
    "millstream-python": ["pyarrow"],
}


class Failed(Exception):
    """The set-up did not work; the message says what to do."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def peers_folder():
    return Path(os.environ.get("MILLSTREAM_PEERS") or "~/.cache/millstream/peers").expanduser()


def data_folder(suite, scale):
    root = Path(os.environ.get("MILLSTREAM_DATA") or "~/.cache/millstream/data").expanduser()
    return root / suite / f"sf{scale}"


def peers_python(packages):
    """The Python of a virtual environment that has the packages; installs those that are missing."""
    folder = peers_folder()
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"creating {folder}")
        _run([sys.executable, "-m", "venv", folder], "create the peers' Python environment")
    missing = [package for package in packages if not _installed(python, package)]
    if missing:
        say("installing " + " ".join(missing))
        _run([python, "-m", "pip", "install", "--quiet", *missing], "install the peers with pip")
    return python


def _installed(python, package):
    """True when the environment has the package in the version asked for (`name==2.0.*` or `name`)."""
    name, _, version = package.partition("==")
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return found.returncode == 0 and found.stdout.strip().startswith(version.rstrip("*"))


def build(names):
    """Builds executables of the workspace and returns their paths by name.

    One build for all of them, over the whole workspace, so that third-party crates are compiled for one set of features.
    """
    say("building " + " and ".join(names))
    command = ["cargo", "build", "--release", "--message-format=json-render-diagnostics", "--workspace"]
    for name in names:
        command += ["--bin", name]
    return _executables(command, REPOSITORY, os.environ, names)


def python_package():
    """The folder in which `engine/python/test` has put the Python package."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or "~/.cache/millstream/target").expanduser()
    folder = target / "python-site"
    if not (folder / "millstream").is_dir():
        raise Failed(f"{folder} holds no Python package: engine/python/test builds it")
    return folder


def build_native():
    """Builds stock DataFusion with the native instructions of this CPU and returns its executable."""
    say("building datafusion-native (the first time takes about 20 minutes)")
    environment = {name: value for name, value in os.environ.items() if name != "RUSTFLAGS"}
    environment["CARGO_TARGET_DIR"] = str(peers_folder() / "datafusion-native")
    # The flags are in .cargo/config.toml, which cargo looks for from the working folder.
    command = ["cargo", "build", "--release", "--locked", "--message-format=json-render-diagnostics"]
    return _executables(command, NATIVE, environment, ["datafusion-native"])["datafusion-native"]


def _executables(command, folder, environment, names):
    """Runs a build and finds the executables of these names in what cargo reports."""
    output = _run(command, "build " + " and ".join(names), cwd=folder, env=environment, stdout=subprocess.PIPE).stdout
    built = {}
    for line in output.decode().splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable"):
            built[message["target"]["name"]] = Path(message["executable"])
    missing = [name for name in names if name not in built]
    if missing:
        raise Failed(f"`{' '.join(command)}` built no executable {' and '.join(missing)}")
    return built


def generate(millstream, suite, scale, folder):
    """Generates the data of a scale unless its marker says that it is complete."""
    marker = folder / f"_SUCCESS-{suite}-parquet"
    if marker.exists():
        if f"scale {scale}" not in marker.read_text().split("\n"):
            raise Failed(f"{folder} holds {suite} at another scale than {scale}; name another folder with --data")
        return
    command = [millstream or "millstream", "generate", suite, "--scale", scale, "--out", folder]
    if millstream is None:
        raise Failed(f"{folder} holds no complete data; run `{' '.join(map(str, command))}` first")
    say(f"generating {suite} at scale {scale} into {folder}")
    _run(command, "generate the data")


def _run(command, doing, **options):
    command = [str(part) for part in command]
    try:
        return subprocess.run(command, check=True, **options)
    except FileNotFoundError as error:
        raise Failed(f"cannot {doing}: {command[0]} is not installed or does not exist") from error
    except subprocess.CalledProcessError as error:
        raise Failed(f"cannot {doing}: `{' '.join(command)}` failed with exit code {error.returncode}") from error
