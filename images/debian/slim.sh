#!/bin/sh
# Remove manuals, translations, logs and backups from the root file system $1, and keep later packages from bringing them.
set -eu
root=$1

cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'END'
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
END

rm -rf "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/var/log/apt "$root"/var/log/*.log \
    "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old
find "$root/usr/share/locale" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
find "$root/usr/share/doc" \( -type f -o -type l \) ! -name copyright -delete
find "$root/usr/share/doc" -mindepth 1 -type d -empty -delete
