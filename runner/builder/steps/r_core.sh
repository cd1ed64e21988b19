# R itself: the base image's, else Debian's.
. /mnt/in/common.sh
if [ -s /mnt/in/packages ]; then
    apt_update
    apt_install /mnt/in/packages
fi
answer runner.r.version "$(Rscript --vanilla -e 'cat(format(getRversion()))')"
tidy
