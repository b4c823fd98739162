#!/usr/bin/env python3
"""Holds the fake Hub against the client that others wrote: `huggingface_hub` must download from it, resume and verify.

Run: python check_hub_server.py   (needs the PyPI package huggingface_hub; builds and starts examples/hub_server.rs)
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
import huggingface_hub  # noqa: E402

WEIGHTS = bytes((i * 2_654_435_761 & 0xFFFFFFFF) >> 24 for i in range(3_000_000))
HERE = pathlib.Path(__file__).parent
checks = 0


def check(got, expected, what):
    global checks
    checks += 1
    if got != expected:
        sys.exit(f"{what}: expected {expected!r}, got {got!r}")


def start(*args):
    command = ["cargo", "run", "--quiet", "--example", "hub_server", "--", *args]
    server = subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    endpoint, _cdn, commit = server.stdout.readline().split()
    return server, endpoint, commit


server, endpoint, commit = start("--drop")
api = huggingface_hub.HfApi(endpoint=endpoint, token="hf_secret")
info = api.model_info("forge/tiny", files_metadata=True)
check(info.sha, commit, "commit")
files = {s.rfilename: (s.size, s.lfs and s.lfs.sha256) for s in info.siblings}
check(files["model.safetensors"], (3_000_000, hashlib.sha256(WEIGHTS).hexdigest()), "large file in the listing")
check(files["config.json"][0], 23, "small file in the listing")
tree = {f.path: f.size for f in api.list_repo_tree("forge/tiny", recursive=True)}
check(tree, {name: size for name, (size, _) in files.items()}, "tree")
meta = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url("forge/tiny", "model.safetensors", endpoint=endpoint))
check((meta.commit_hash, meta.etag, meta.size), (commit, hashlib.sha256(WEIGHTS).hexdigest(), 3_000_000), "metadata")

with tempfile.TemporaryDirectory() as cache:
    folder = pathlib.Path(api.snapshot_download("forge/tiny", cache_dir=cache))  # its first connection is dropped
    check(folder.name, commit, "snapshot")
    check((folder / "model.safetensors").read_bytes() == WEIGHTS, True, "weights after a dropped connection")
    check((folder / "a folder/notes.txt").read_text(), "a name with a space", "name with a space")
    etag = hashlib.sha1(b"blob 23\0" + (folder / "config.json").read_bytes()).hexdigest()
    check((folder / "config.json").resolve().name, etag, "ETag of a small file is git's blob name")
    old = api.hf_hub_download("forge/tiny", "model.safetensors", revision="refs/pr/1", cache_dir=cache)
    check(pathlib.Path(old).read_bytes() == WEIGHTS[:1_000_000], True, "weights of a branch")
    for wrong, error in [
        (("forge/none", "x", None), huggingface_hub.errors.RepositoryNotFoundError),
        (("forge/tiny", "none", None), huggingface_hub.errors.EntryNotFoundError),
        (("forge/tiny", "config.json", "none"), huggingface_hub.errors.RevisionNotFoundError),
    ]:
        try:
            api.hf_hub_download(wrong[0], wrong[1], revision=wrong[2], cache_dir=cache)
            sys.exit(f"{wrong}: expected {error.__name__}")
        except error:
            checks += 1

output, _ = server.communicate()
requests = output.splitlines()
check(any(r.startswith("Cdn GET") for r in requests), True, "large files come from the other host")
check([r for r in requests if r.startswith("Cdn") and r.endswith("token=true")], [], "token on the other host")
print(f"{checks} checks passed with huggingface_hub {huggingface_hub.__version__}, {len(requests)} requests")
