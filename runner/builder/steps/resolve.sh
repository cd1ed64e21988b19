# What apt has and would do. In the first call (in/ask is there): versions, names, facts of the image. In every call: what
# installing the packages of in/stages/N-NAME would install, each stage on top of those before it (out/plan-N-NAME).
. /mnt/in/common.sh
apt_update

facts() {
    apt_cache pkgnames >/mnt/out/names
    grep -E '^(r-cran-|r-bioc-|python3\.[0-9]+$)' /mnt/out/names >/tmp/ask || true
    printf '%s\n' r-base-core python3 >>/tmp/ask
    cat /mnt/in/ask >>/tmp/ask
    set --
    while IFS= read -r package; do set -- "$@" "$package"; done </tmp/ask
    apt_cache madison -- "$@" >/mnt/out/versions

    # A name without versions may be a virtual package: then others provide it.
    while IFS= read -r package; do
        if ! grep -q "^ *$package |" /mnt/out/versions && apt_cache showpkg -- "$package" 2>/dev/null |
            sed '1,/^Reverse Provides/d' | grep -q .; then
            printf '%s\n' "$package" >>/mnt/out/virtual
        fi
    done </mnt/in/ask

    [ ! -s /mnt/in/depends ] || depends

    dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' | sed -n 's/^installed //p' >/mnt/out/installed
    answer suite "$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)"
    for python in $(cd /usr/local/bin && ls python3 python3.* 2>/dev/null) $(cd /usr/bin && ls python3 python3.* 2>/dev/null); do
        version=$("$python" -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) &&
            printf '%s %s\n' "$python" "$version" >>/mnt/out/pythons
    done
    if have Rscript && ! dpkg-query -W r-base-core >/dev/null 2>&1; then
        answer r_of_base "$(Rscript --vanilla -e 'cat(format(getRversion()))')"
        Rscript --vanilla -e 'x <- installed.packages(); cat(paste(x[, "Package"], x[, "Version"]), sep = "\n")' \
            >/mnt/out/r_installed
    fi
}

# Takes 0.6 s, so it is kept as long as the lists are.
depends() {
    kept=$lists/depends-$(cksum </mnt/in/depends | cut -d ' ' -f 1)
    if [ ! -e "$kept" ] || [ "$lists/stamp" -nt "$kept" ]; then
        set --
        while IFS= read -r package; do set -- "$@" "$package"; done </mnt/in/depends
        apt_cache depends --recurse --no-pre-depends --no-recommends --no-suggests --no-conflicts --no-breaks \
            --no-replaces --no-enhances -- "$@" >"$kept.new" 2>/dev/null || true
        mv "$kept.new" "$kept"
    fi
    cp "$kept" /mnt/out/depends
}

[ ! -e /mnt/in/ask ] || facts
[ -d /mnt/in/stages ] || exit 0

mkdir -p /mnt/apt/none/partial
# What is locked stays, where apt still has it: a pin to a version that is gone has no effect.
cat /etc/apt/preferences /mnt/in/pins >/tmp/pins 2>/dev/null || true
set --
for stage in /mnt/in/stages/*; do
    while IFS= read -r package; do set -- "$@" "$package"; done <"$stage"
    case $stage in *.settled) continue ;; esac
    [ $# -gt 0 ] || continue
    # Not --simulate: that orders every unpacking too, four times the time. With an archive folder where nothing is, what it
    # would fetch is all that it would install.
    apt_get install -o Dir::Etc::preferences=/tmp/pins -o Dir::Cache::archives=/mnt/apt/none/ --print-uris \
        --allow-downgrades --allow-remove-essential --no-install-recommends \
        -- "$@" >"/mnt/out/plan-${stage##*/}" 2>/tmp/errors ||
        { cat "/mnt/out/plan-${stage##*/}" /tmp/errors; fail "apt finds no way to install them together"; }
done
