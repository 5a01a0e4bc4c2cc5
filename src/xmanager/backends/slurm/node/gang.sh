# The batch script of a unit that srun starts: one component, or the several of a heterogeneous job.
#
#   sbatch … batch.sh FOLDER COMPONENTS
#
# Tells all of them where each one runs. If one goes wrong the others go on: whoever watches the unit decides on them.

xm_batch=$1 xm_components=$2
for xm_try in 1 2 3; do
  [ ! -e "$xm_batch/batch.json" ] || break
  [ "$xm_try" = 3 ] || sleep 1
done
[ -e "$xm_batch/batch.json" ] || exit 97

# The hosts $1, such as n[1-3]: in xm_hosts as n1,n2,n3; how they are reached, which Slurm may have been told to be
# something else than their names, in xm_quoted as "n1", "n2", "n3".
xm_expand() {
  xm_hosts= xm_quoted=
  xm_names=$(scontrol show hostnames "$1" || echo "$1")
  for xm_host in $xm_names; do
    xm_hosts=$xm_hosts${xm_hosts:+,}$xm_host
  done
  xm_addresses=$(scontrol --oneliner show node "$1" | sed -n 's/.* NodeAddr=\([^ ]*\) .*/\1/p')
  for xm_host in ${xm_addresses:-$xm_names}; do
    xm_quoted=$xm_quoted${xm_quoted:+, }\"$xm_host\"
  done
}

xm_told= xm_number=0
while IFS= read -r xm_title; do
  if [ "$xm_components" = 1 ]; then
    xm_list=$SLURM_JOB_NODELIST
  else
    eval "xm_list=\$SLURM_JOB_NODELIST_HET_GROUP_$xm_number"
  fi
  xm_expand "$xm_list"
  eval "xm_hosts_$xm_number=\$xm_hosts"
  xm_told="$xm_told${xm_told:+, }$xm_title: [$xm_quoted]"
  xm_number=$((xm_number + 1))
done <"$xm_batch/titles"
export XM_JOB_ADDRESSES="{$xm_told}"

[ "$xm_components" != 1 ] || exec /bin/sh "$xm_batch/element.sh" component "$xm_batch" 0 "$xm_hosts_0"

# What Slurm sends to this script alone is for the components.
xm_started=
for xm_signal in HUP INT QUIT USR1 USR2 ALRM; do
  trap "kill -s $xm_signal \$xm_started" "$xm_signal"
done
# With control groups Slurm sends it to this shell alone. The components note it; srun is told by Slurm.
trap 'kill -s TERM $xm_started' TERM
xm_number=0
while [ "$xm_number" -lt "$xm_components" ]; do
  eval "xm_hosts=\$xm_hosts_$xm_number"
  /bin/sh "$xm_batch/element.sh" component "$xm_batch" "$xm_number" "$xm_hosts" &
  xm_started="$xm_started $!"
  xm_number=$((xm_number + 1))
done

xm_code=0
for xm_process in $xm_started; do
  wait "$xm_process"
  xm_one=$?
  while kill -0 "$xm_process" 2>/dev/null; do
    wait "$xm_process"
    xm_one=$?
  done
  [ "$xm_code" != 0 ] || xm_code=$xm_one
done
exit "$xm_code"
