# What every image has: python3 for the bootstrapper, certificates of public authorities, the user `runner`.
. /mnt/in/common.sh

usable_python() { have python3 && python3 -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))'; }

if ! usable_python; then
    apt_update
    printf '%s\n' python3 ca-certificates >/tmp/packages
    apt_install /tmp/packages
    usable_python || fail "the base image's packages give no Python 3.8 or newer, which the bootstrapper needs"
fi

taken() { cut -d : -f 3 /etc/passwd /etc/group | grep -qx "$1"; }

# Written by hand: useradd dates the entry, which would make every build differ.
if ! grep -q '^runner:' /etc/passwd; then
    id=1000
    while taken "$id"; do id=$((id + 1)); done
    printf 'runner:x:%s:\n' "$id" >>/etc/group
    printf 'runner:x:%s:%s::/home/runner:/bin/sh\n' "$id" "$id" >>/etc/passwd
    mkdir -p /home/runner
    chown "$id:$id" /home/runner
fi

answer runner.python "$(python3 -I -S -c 'import sys; print(sys.executable)')"
answer runner.python.version "$(python3 -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')"
answer runner.user "$(grep '^runner:' /etc/passwd | cut -d : -f 3,4)"
tidy
