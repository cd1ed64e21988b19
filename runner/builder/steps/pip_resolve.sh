# in/requirements.in → out/requirements.txt: every package, exactly, with hashes. Nothing of this container is kept.
. /mnt/in/common.sh
export UV_CACHE_DIR=/mnt/uv UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 NO_COLOR=1
cp /mnt/in/locked.txt /mnt/out/requirements.txt
cd /mnt/in/src
/mnt/bin/uv pip compile --quiet --no-header --no-annotate --generate-hashes \
    --python "$(cat /mnt/in/python)" --python-version "$(cat /mnt/in/version)" \
    --output-file /mnt/out/requirements.txt /mnt/in/requirements.in
