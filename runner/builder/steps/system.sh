# What every image has: python3 for the bootstrapper, certificates of public authorities, the run-time user.
. /mnt/in/common.sh

if [ -s /mnt/in/packages ]; then
    apt_update
    apt_install /mnt/in/packages
fi
asked=$(cat /mnt/in/python)
python=python3
have "python$(printf '%s' "$asked" | cut -d . -f 1,2)" && python=python$(printf '%s' "$asked" | cut -d . -f 1,2)
"$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' ||
    fail "the base image's packages give no Python 3.8 or newer, which the bootstrapper needs"

# `python3` is then the one that was asked for, also where the system's own is another.
if [ "$python" != python3 ] && [ "$("$python" -V)" != "$(python3 -V 2>/dev/null)" ]; then
    ln -sf "$(command -v "$python")" /usr/local/bin/python3
fi

taken() { cut -d : -f 3 /etc/passwd /etc/group | grep -qx "$1"; }
entry() { awk -F : -v key="$1" '$1 == key || $3 == key { print; exit }' /etc/passwd; }

# add NAME UID GID, by hand: useradd dates the entry, which would make every build differ.
add() {
    cut -d : -f 3 /etc/group | grep -qx "$3" || printf '%s:x:%s:\n' "$1" "$3" >>/etc/group
    printf '%s:x:%s:%s::/home/runner:/bin/sh\n' "$1" "$2" "$3" >>/etc/passwd
}

user=$(cat /mnt/in/user)
user=${user:-runner}
uid=${user%%:*}
if [ -z "$(entry "$uid")" ]; then
    case $uid in
    *[!0-9]*)
        id=1000
        while taken "$id"; do id=$((id + 1)); done
        add "$uid" "$id" "$id"
        ;;
    *)
        gid=${user#*:}
        add runner "$uid" "${gid:-$uid}"
        ;;
    esac
fi
uid_of=$(entry "$uid" | cut -d : -f 3)
gid_of=$(entry "$uid" | cut -d : -f 4)
case $user in *:*) gid_of=${user#*:} ;; esac
mkdir -p /home/runner
chown "$uid_of:$gid_of" /home/runner

answer runner.python "$("$python" -I -S -c 'import sys; print(sys.executable)')"
answer runner.python.version "$("$python" -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')"
answer runner.user "$uid_of:$gid_of"
tidy
