# The launcher where there is no Python 3.8 (row E0): runs the command directly and writes down its exit code.
# $1: the mark. Descriptor 3: as launch.py has it; the section `sh` sets the command and the environment.
mark=$1 here=${0%/*} d='$' n=0 v0='' sh_at=''
nl='
'
IFS= read -r _ <&3 || exit 125
while IFS= read -r line <&3; do
  case $line in
    "$mark "*) n=$((n + 1)) first=1; eval "v$n=''"; [ "$line" = "$mark sh" ] && sh_at=$n ;;
    *) if [ "$first" ]; then eval "v$n=\$line"; else eval "v$n=\$v$n\$nl\$line"; fi; first='' ;;
  esac
done
exec 3<&-
if [ -z "$sh_at" ]; then
  echo 'runner: this command can only be run in an image with Python 3.8 or newer' >&2
  exit 125
fi
sh "$here/restore.sh" </dev/null >/dev/null 2>&1
rm -rf "$here" 2>/dev/null
mkdir -p outputs logs/runner 2>/dev/null
RUNNER_BACKEND=azureml
export RUNNER_BACKEND
save() { :; }
key=${RUNNER_KEY:-$AZUREML_RUN_ID}
RUNNER_RUN=${RUNNER_RUN:-$AZUREML_RUN_ID}
export RUNNER_RUN
unset RUNNER_KEY
eval "script=\$v$sh_at"
eval "$script"
exec 2>&1
began=$(date -u +%Y-%m-%dT%H:%M:%S.000Z)
"$@" </dev/null &
pid=$! asked=''
trap 'asked=15; kill -TERM $pid 2>/dev/null' TERM
trap 'asked=2; kill -TERM $pid 2>/dev/null' INT
wait $pid
code=$?
while kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done
save
status=Failed reason=NonZeroExit message="script exited with code $code" cancel=null exit_code=$code signal=null
[ $code -eq 0 ] && status=Completed reason=Completed message=''
if [ "$asked" ]; then
  status=Canceled reason=Canceled message='canceled (SIGTERM)' exit_code=null signal='"SIGTERM"'
  cancel='{"by": "signal", "signal": "SIGTERM", "escalated": false}' code=$((128 + asked))
fi
record="{\"contract\": 1, \"final\": true, \"attempt\": \"$key\", \"status\": \"$status\", \"reason\": \"$reason\",\
 \"exit_code\": $exit_code, \"signal\": $signal, \"cancel\": $cancel, \"origin\": \"executor\", \"process_exit\": $code,\
 \"message\": \"$message\", \"started\": \"$began\", \"finished\": \"$(date -u +%Y-%m-%dT%H:%M:%S.000Z)\",\
 \"warnings\": [\"no record kept: the image has no Python for the bootstrapper\"]}"
(echo "$record" >logs/runner/status.json) 2>/dev/null
echo "runner-record: $record"
exit "$code"
