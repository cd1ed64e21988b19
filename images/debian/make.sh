#!/bin/sh
# Make the root file system of a minimal Debian image from Debian's own packages, where no registry can be asked.
#
#   make.sh OUT.tar [SUITE]         (SUITE: bookworm)
#
# The mirror is mmdebstrap's default; RUNNER_DEBIAN_MIRROR names another. The same mirror state gives the same bytes.
set -eu

out=$1
suite=${2:-bookworm}
# By name, not by its execute bit: an installed wheel may not have kept that.
RUNNER_SLIM=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/slim.sh
export RUNNER_SLIM

# Newer times are set back to this one, so that the bytes do not depend on when the script ran.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1686355200} # 2023-06-10, the release of Debian 12
export SOURCE_DATE_EPOCH

# Without this hook /usr is merged by a package that needs all of perl: 45 MB.
set -- "$suite" "$out" ${RUNNER_DEBIAN_MIRROR:+"$RUNNER_DEBIAN_MIRROR"}
hook=/usr/share/mmdebstrap/hooks/maybe-merged-usr
[ -d "$hook" ] || hook=/usr/share/mmdebstrap/hooks/merged-usr
[ ! -d "$hook" ] || set -- --hook-dir="$hook" "$@"

# apt's options stay in the image, as in the official slim image. dpkg's are put there by slim.sh, with what they leave
# out removed: given to mmdebstrap they would run every package through a filter (54 s instead of 16).
exec mmdebstrap \
    --variant=minbase \
    --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Languages "none"' \
    --aptopt='Dir::Cache::pkgcache ""' \
    --aptopt='Dir::Cache::srcpkgcache ""' \
    --customize-hook='sh "$RUNNER_SLIM" "$1"' \
    "$@"
