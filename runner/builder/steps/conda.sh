# The conda packages of in/conda.json, from /mnt/conda, into /opt/conda. Needs neither network nor credentials.
. /mnt/in/common.sh
# The system's own Python, not one that an earlier layer of ours put in front of it.
system=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
python=$(PATH=$system command -v python3) || python=$(command -v python3) || fail "the base image has no python3"
"$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "conda packages are installed by Python 3.10 or newer, and the base image has $("$python" -V);" \
        "choose a newer base, such as debian:bookworm-slim"

PYTHONDONTWRITEBYTECODE=1 "$python" -I -S -X utf8 /mnt/in/conda_install.py

if [ -x /opt/conda/bin/python ]; then
    version=$(/opt/conda/bin/python -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
    if /opt/conda/bin/python -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))'; then
        answer runner.conda.python /opt/conda/bin/python
        answer runner.conda.python.version "$version"
    fi
fi
tidy
