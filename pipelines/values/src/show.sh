# show.sh TEXT COUNT RATE FLAG WORD FILE FOLDER TABLE FOLDER_OUT
set -eu
printf 'text=%s\ncount=%s\nrate=%s\nflag=%s\nold=%s\n' "$1" "$2" "$3" "$4" "$5" > "$8"
printf 'GREETING=%s\n' "$GREETING" >> "$8"
cat "$6" >> "$8"
(cd "$7" && find . -type f | sort) > "$9/files.txt"
mkdir -p outputs logs
echo collected > outputs/left.txt
echo "a log of the script's own" > logs/own.txt
