#!/usr/bin/env bash
# Builds the image: the same commit, toolchain and certificates give an image of the same digest. Needs Rust, buildah and the system's CA certificates.
#
#     image/build.sh [target/image/reseal.tar]        an OCI archive; its size and digest are told
set -euo pipefail
cd "$(dirname "$0")/.."

archive=$(realpath -m "${1:-target/image/reseal.tar}")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
target="$(uname -m)-unknown-linux-gnu"
# Where the image is built from nothing but a tree, its time is the beginning of time.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
certificates=${CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}
[ -r "$certificates" ] || { echo "image/build.sh: $certificates is missing: install ca-certificates, or name a bundle in CERTIFICATES" >&2; exit 1; }

# The paths of this machine stay out of the binary.
export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$PWD=/reseal --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
cargo build --release --locked --target "$target" --bin reseal

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root="$folder/root"
install -D -m 0555 "target/$target/release/reseal" "$root/reseal"
install -D -m 0444 "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
install -d "$root/etc"
echo 'reseal:x:65532:65532::/var/lib/reseal:/sbin/nologin' > "$root/etc/passwd"
echo 'reseal:x:65532:' > "$root/etc/group"
install -d -m 1777 "$root/tmp"
install -d -m 0750 "$root/var/lib/reseal"
# The state's folder is the user's own, where this runs as root, or in buildah's own user namespace.
chown 65532:65532 "$root/var/lib/reseal" 2>/dev/null || chmod 0777 "$root/var/lib/reseal"
find "$folder" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$(dirname "$archive")"
rm -f "$archive"
buildah build --quiet --isolation chroot --format oci --timestamp "$SOURCE_DATE_EPOCH" --file image/Containerfile \
    --tag "reseal:$version" "$folder" > /dev/null
buildah push --quiet "reseal:$version" "oci-archive:$archive:reseal:$version"
digest=$(tar -xOf "$archive" index.json | grep -o 'sha256:[0-9a-f]*' | head -1)
echo "$archive: $(stat -c %s "$archive") bytes, image $digest"
