# A job of the chaos test: it tells the oracle what it does, and does what its behaviour for this attempt says.
#
#   sh job.sh ORACLE LOCK KIND:CODE:SECONDS [KIND:CODE:SECONDS...]    one for each attempt; the last holds for all others
#
# LOCK is how it uses its GPU: exclusive or shared.
oracle=$1
lock=$2
shift 2
tell() { echo "$*" >>"$oracle/$XM_EXPERIMENT_ID.$XM_WORK_UNIT_ID.$XM_JOB_NAME"; }
tell start "$XM_ATTEMPT" $$

number=$XM_ATTEMPT
[ "$number" -le $# ] || number=$#
shift $((number - 1))
kind=${1%%:*}
seconds=${1##*:}
code=${1#*:}
code=${code%:*}

# Held until the last process that has this file open is gone. Each node of a cluster counts its devices from 0.
if [ -n "$CUDA_VISIBLE_DEVICES" ]; then
  exec 8>>"$oracle/device.$SLURMD_NODENAME.$CUDA_VISIBLE_DEVICES"
  flock --nonblock "--$lock" 8 || tell clash "$XM_ATTEMPT" "$CUDA_VISIBLE_DEVICES"
fi

case $kind in
ignore) trap '' TERM ;;
leave) setsid sleep 600 & ;;
esac
sleep "$seconds"
if [ "$kind" = kill ]; then
  tell end "$XM_ATTEMPT" "-$code"
  kill "-$code" $$
fi
tell end "$XM_ATTEMPT" "$code"
exit "$code"
