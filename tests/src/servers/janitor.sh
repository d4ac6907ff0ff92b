# Ends what a program has started, and removes its folder, once that program is
# gone: finished, killed or crashed, its end of standard input is then closed.
#
# usage: janitor.sh FOLDER
# standard input: lines "watch PID SIGNAL" and "forget PID"
#
# A file FOLDER/keep keeps the folder.
folder=$1
ends_within_s=15
trap '' HUP INT TERM

watched=
while read -r word pid signal; do
    case $word in
    watch) watched="$watched $pid:$signal" ;;
    forget)
        others=
        for entry in $watched; do
            [ "${entry%:*}" = "$pid" ] || others="$others $entry"
        done
        watched=$others
        ;;
    esac
done

# A process that ended but that nobody has asked about still has a number.
runs() {
    kill -0 "$1" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

for entry in $watched; do
    kill -s "${entry#*:}" "${entry%:*}" 2>/dev/null
    kill -s CONT "${entry%:*}" 2>/dev/null
done
tenths=0
for entry in $watched; do
    while runs "${entry%:*}" && [ $tenths -lt $((ends_within_s * 10)) ]; do
        sleep 0.1
        tenths=$((tenths + 1))
    done
    kill -s KILL "${entry%:*}" 2>/dev/null
done
# What was being started when the program was killed may still write there.
tries=0
until [ -e "$folder/keep" ] || rm -rf "$folder" 2>/dev/null || [ $tries -ge $((ends_within_s * 10)) ]; do
    sleep 0.1
    tries=$((tries + 1))
done
