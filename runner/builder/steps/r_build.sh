# Source packages of the repository in/cran → out/library.tar. Nothing of this container is kept.
. /mnt/in/common.sh
# The compilers' image has none of the R packages, so that it serves every change of them.
if [ -s /mnt/in/binary ]; then
    apt_update
    apt_install /mnt/in/binary
fi
MAKEFLAGS=-j$(nproc)
export MAKEFLAGS
Rscript --vanilla /mnt/in/install.R
tar -C /tmp/library -cf /mnt/out/library.tar .
