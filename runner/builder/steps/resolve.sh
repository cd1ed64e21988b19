# What apt has: versions of the packages in in/packages, and of every R package (out/versions, out/names).
. /mnt/in/common.sh
apt_update
apt_cache pkgnames >/mnt/out/names
grep '^r-cran-' /mnt/out/names >/tmp/ask || true
printf '%s\n' r-base-core >>/tmp/ask
cat /mnt/in/packages >>/tmp/ask
set --
while IFS= read -r package; do set -- "$@" "$package"; done </tmp/ask
apt_cache madison -- "$@" >/mnt/out/versions

# A name without versions may be a virtual package: then others provide it.
while IFS= read -r package; do
    if ! grep -q "^ *$package |" /mnt/out/versions && apt_cache showpkg -- "$package" 2>/dev/null |
        sed '1,/^Reverse Provides/d' | grep -q .; then
        printf '%s\n' "$package" >>/mnt/out/virtual
    fi
done </mnt/in/packages

if have Rscript && ! dpkg-query -W r-base-core >/dev/null 2>&1; then
    answer r_of_base "$(Rscript --vanilla -e 'cat(format(getRversion()))')"
fi
