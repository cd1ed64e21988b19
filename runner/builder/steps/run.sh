# The commands of in/run, in order; each by a shell of its own, as root, with the variables of `env:`, and the build's
# secrets below /run/secrets.
. /mnt/in/common.sh
mkdir -p /run/secrets
[ ! -d /mnt/secret/secrets ] || cp -r /mnt/secret/secrets/. /run/secrets/
. /mnt/in/run.env
cd /
for file in /mnt/in/run/*; do
    echo "+ $(cat "$file")"
    sh -eu "$file" || fail "run: the command ended with exit code $?: $(cat "$file")"
done
tidy
