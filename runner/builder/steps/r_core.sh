# R itself: the base image's, else Debian's.
. /mnt/in/common.sh
if ! have Rscript; then
    apt_update
    printf '%s\n' r-base-core >/tmp/packages
    apt_install /tmp/packages
fi
answer runner.r.version "$(Rscript --vanilla -e 'cat(format(getRversion()))')"
tidy
