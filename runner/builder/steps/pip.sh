# The Python packages of in/requirements.txt, which are all there is to install, in a virtual environment on the image's
# Python. What apt or conda installed for it stays visible.
. /mnt/in/common.sh
export UV_CACHE_DIR=/mnt/uv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=0 UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 NO_COLOR=1
cd /mnt/in/src
: >/tmp/before
[ -x /opt/venv/bin/python ] || /mnt/bin/uv venv -q --python "$(cat /mnt/in/python)" --system-site-packages /opt/venv
# --reinstall: what a base image has of these is not known to be what the lock names.
/mnt/bin/uv pip install --python /opt/venv/bin/python --no-deps --reinstall -r /mnt/in/requirements.txt
# By us: uv would look through, and compile, all that is in the environment.
find /opt/venv/lib -name '*.py' -cnewer /tmp/before >/tmp/new
/opt/venv/bin/python -I /mnt/in/bytecode.py timestamp </tmp/new
tidy
