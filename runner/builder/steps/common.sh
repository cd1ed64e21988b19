# Shared by the step scripts; sourced first. Everything of the build is below /mnt (a tmpfs), so that none of it can be
# committed: in/ (inputs, read-only), out/ (answers to the builder), apt/ and uv/ (caches), bin/uv.
set -eu
umask 022
. /mnt/in/env.sh
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root

fail() {
    echo "runner: $*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# answer KEY VALUE: a fact for the builder.
answer() { printf '%s=%s\n' "$1" "$2" >>/mnt/out/answers; }

# The package lists differ by sources; images with the same sources share them.
apt_lists() {
    sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/os-release 2>/dev/null | cksum | cut -d ' ' -f 1)
    lists=/mnt/apt/lists-$sources
    mkdir -p "$lists/partial" /mnt/apt/archives/partial
    set -- -c /mnt/in/apt.conf -o "Dir::State::lists=$lists" -o "Dir::Cache::pkgcache=/mnt/apt/pkgcache-$sources.bin"
    [ -z "${CA_BUNDLE-}" ] || set -- "$@" -o "Acquire::https::CaInfo=$CA_BUNDLE"
    apt_options=$*
}

# Options hold no blanks (see apt_lists), so that splitting them is safe.
apt_get() { apt-get -q -y $apt_options "$@"; }
apt_cache() { apt-cache -q $apt_options "$@"; }

# The lists are good for ten minutes (0.7 s a time), or for this build where it said so or found them wrong.
apt_update() {
    have apt-get || fail "the base image has no apt-get; only images made from Debian or Ubuntu can be added to"
    apt_lists
    [ "$(cat "$lists/stamp" 2>/dev/null)" = "$BUILD_ID" ] && return
    if [ -n "${FRESH-}${1-}" ] || [ -z "$(find "$lists/stamp" -mmin -10 2>/dev/null)" ]; then
        apt_get -o APT::Update::Error-Mode=any update
        printf '%s' "$BUILD_ID" >"$lists/stamp"
    fi
}

# apt_install FILE: the packages that a file lists, one a line.
apt_install() {
    file=$1
    set --
    while IFS= read -r package; do set -- "$@" "$package"; done <"$file"
    apt_get install --allow-downgrades --no-install-recommends -- "$@" && return
    # The mirror may have moved on since the lists were fetched.
    [ "$(cat "$lists/stamp")" != "$BUILD_ID" ] || exit 100
    apt_update now
    apt_get install --allow-downgrades --no-install-recommends -- "$@"
}

# What installing leaves behind: logs, caches, backups.
tidy() {
    rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/log/fontconfig.log /var/log/bootstrap.log \
        /var/cache/ldconfig/aux-cache /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old \
        /root/.cache /root/.config
}
