# The Python packages of in/requirements.txt, in a virtual environment on the image's python3. What apt installed for
# Python (python3-…) stays visible in it.
. /mnt/in/common.sh
export UV_CACHE_DIR=/mnt/uv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 NO_COLOR=1
cd /mnt/in/src
[ -x /opt/venv/bin/python ] || /mnt/bin/uv venv -q --python "$(command -v python3)" --system-site-packages /opt/venv
/mnt/bin/uv pip install --python /opt/venv/bin/python -r /mnt/in/requirements.txt
tidy
