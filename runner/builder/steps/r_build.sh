# Source packages of the repository in/cran → out/NAME.tar for each. Nothing of this container is kept.
. /mnt/in/common.sh
# The compilers' image has none of the R packages, so that it serves every change of them.
if [ -s /mnt/in/binary ]; then
    apt_update
    apt_install /mnt/in/binary
fi
mkdir /tmp/library
tar -C /tmp/library --no-same-owner -xf /mnt/in/built.tar
MAKEFLAGS=-j$(nproc)
export MAKEFLAGS
code=0
Rscript --vanilla /mnt/in/install.R || code=$?
while IFS= read -r package; do
    [ ! -e "/tmp/library/$package/Meta/package.rds" ] || tar -C /tmp/library -cf "/mnt/out/$package.tar" "$package"
done </mnt/in/packages
exit "$code"
