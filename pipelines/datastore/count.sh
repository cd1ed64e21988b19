# How often each word stands in the files of a folder and in one more. count.sh FOLDER FILE
set -eu
cat "$1"/*.txt "$2" | tr -s ' ' '\n' | LC_ALL=C sort | uniq -c | sed 's/^ *//'
