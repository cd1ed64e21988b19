# Says what an image holds, in the form of installed.py. $1: installed.py, $2: installed.R.
have() { command -v "$1" >/dev/null 2>&1; }

if have dpkg-query; then
    dpkg-query -W -f 'runner:apt|${Package}|${Version}|${db:Status-Status}\n' && echo 'runner:all|apt|'
fi
if have python3; then
    python3 -c "$1"
else
    printf 'runner:version|python|\nrunner:all|pip|\nrunner:all|conda|\n'
fi
if have Rscript; then
    Rscript -e "$2"
else
    printf 'runner:version|R|\nrunner:all|r|\n'
fi
echo 'runner:end||'
