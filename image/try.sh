#!/usr/bin/env bash
# Runs the demo in the image as the Kubernetes manifests would: as 65532, without a capability, on a read-only root. Needs buildah and runc, and to be root.
#
#     image/try.sh [target/image/reseal.tar]
set -euo pipefail
cd "$(dirname "$0")/.."

archive=$(realpath "${1:-target/image/reseal.tar}")
bundle=$(mktemp -d)
trap 'rm -rf "$bundle"' EXIT
container=$(buildah from --quiet "oci-archive:$archive")
mount=$(buildah mount "$container")
cp -a "$mount" "$bundle/rootfs"
buildah umount "$container" > /dev/null
buildah rm "$container" > /dev/null

python3 - "$bundle" << 'SPEC'
import json, subprocess, sys

bundle = sys.argv[1]
subprocess.run(["runc", "spec"], cwd=bundle, check=True)
with open(f"{bundle}/config.json") as file:
    spec = json.load(file)
process = spec["process"]
process["terminal"] = False
process["user"] = {"uid": 65532, "gid": 65532}
process["cwd"] = "/tmp"
process["args"] = ["/reseal", "demo", "--data", "/tmp/demo", "--progress", "log"]
process["noNewPrivileges"] = True
process["capabilities"] = {kind: [] for kind in process["capabilities"]}
spec["root"]["readonly"] = True
spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777", "size=256m"]})
with open(f"{bundle}/config.json", "w") as file:
    json.dump(spec, file)
SPEC
cd "$bundle"
exec runc --root "$bundle/state" run "reseal-try-$$"
