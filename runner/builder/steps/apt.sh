# The packages of in/packages; perhaps none (R packages that are all built from source).
. /mnt/in/common.sh
[ -s /mnt/in/packages ] || exit 0
apt_update
apt_install /mnt/in/packages
tidy
