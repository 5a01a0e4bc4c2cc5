# Runs one program on a node of the cluster: finds its words, keeps its log, its limits and a record of how it ended.
#
#   /bin/sh element.sh array FOLDER 0                   an element of an array
#   /bin/sh element.sh alone FOLDER 0                   a unit of one process
#   /bin/sh element.sh component FOLDER COMPONENT HOSTS    a component that srun starts, from its batch script
#   /bin/sh element.sh task FOLDER COMPONENT            one process of that
#
# POSIX sh with sed, mkdir, mv, date, sleep, setsid and env: dash, bash and busybox run it. Nothing that it is told is
# ever read as shell text, but for a file of setup lines. Exit code 97: this node does not see FOLDER.

xm_mode=$1 xm_batch=$2 xm_component=$3 xm_hosts=$4
xm_newline='
'
# For bytes to stay bytes, and for numbers and times to be written with a point. The program gets it back.
xm_had_locale=${LC_ALL+yes} xm_locale=${LC_ALL-}
export LC_ALL=C
unset XM_REPLICA XM_REPLICAS
xm_element=0
[ "$xm_mode" != array ] || xm_element=$SLURM_ARRAY_TASK_ID
xm_restart=${SLURM_RESTART_COUNT:-0}
xm_place=$xm_element.$xm_component
xm_record=$xm_batch/ends/.$xm_place.$xm_restart
[ "$xm_mode" != task ] || xm_record=$xm_record.${SLURM_PROCID:-0}
xm_node=${SLURMD_NODENAME:-this}
xm_program= xm_woken= xm_warned= xm_timed_out= xm_terminated= xm_asked= xm_hurried= xm_continued= xm_due=
xm_timer=

for xm_try in 1 2 3; do
  [ ! -e "$xm_batch/batch.json" ] || break
  [ "$xm_try" = 3 ] || sleep 1
done
[ -e "$xm_batch/batch.json" ] || exit 97

# Why it does not run: for the log, and for the record, which whoever waits for the program completes.
xm_refuse() {
  printf 'xm: %s\n' "$1"
  printf 'refused %s\n' "$1" >>"$xm_record"
}

# Completes the record of code $1 and leaves with it.
xm_end() {
  {
    echo "exited $1"
    date '+at %s.%N'
    [ -z "$xm_timed_out" ] || echo 'timed out'
    [ -z "$xm_warned" ] || echo warned
    [ -z "$xm_terminated" ] || echo terminated
    echo times
    times
    if [ "$xm_mode" = component ]; then
      echo "replicas $xm_replicas"
      for xm_part in "$xm_record".*; do
        [ ! -e "$xm_part" ] || { echo "replica ${xm_part##*.}" && cat -- "$xm_part" && rm -f -- "$xm_part"; }
      done
    fi
  } >>"$xm_record"
  # Where there was no room for it, Slurm is the one to tell.
  [ "$xm_mode" = task ] || [ ! -s "$xm_record" ] || mv -f -- "$xm_record" "$xm_batch/ends/$xm_place.$xm_restart"
  exit "$1"
}

# Signals the program's process group; the process alone while it is not yet a group's leader.
xm_send() {
  xm_send_group "$1" || kill -s "$1" "$xm_program"
}

# busybox takes the two dashes for a process, and dash wants them before a group.
xm_dashes=--
kill -s 0 -- "$$" 2>/dev/null || xm_dashes=
xm_send_group() {
  kill -s "$1" $xm_dashes "-$xm_program"
}

# Rings after $1 seconds. Ignores what is sent to all processes of a job; VTALRM, which nobody else sends, ends it.
xm_set_timer() {
  xm_stop_timer
  xm_last=$!
  (
    trap '' HUP INT QUIT USR1 USR2 ALRM TERM
    trap '[ "$!" = "$xm_last" ] || { kill -s KILL "$!" && wait "$!"; }; exit' VTALRM
    sleep "$1" &
    wait "$!" && kill -s VTALRM "$$"
  ) &
  xm_timer=$!
}

# Until it is gone: between its fork and its trap a signal is lost, and Slurm may not find what is left behind.
xm_stop_timer() {
  while [ -n "$xm_timer" ] && kill -s VTALRM "$xm_timer"; do
    sleep 0.01
  done
  xm_timer=
}

xm_ring() {
  xm_woken=yes
  case $xm_due in
  warning)
    xm_warned=yes xm_due=end
    xm_send "$xm_warn_signal"
    xm_set_timer "$xm_end_after"
    ;;
  end)
    xm_timed_out=yes xm_due=kill
    xm_send TERM
    xm_send CONT
    xm_set_timer "$xm_grace"
    ;;
  kill)
    xm_due=
    xm_send KILL
    ;;
  esac
}

# What comes from scancel for a batch script comes to its process group only, in which the program is not. What is meant
# for a step comes to all its processes, unless these are fenced, and srun passes on what it gets; only a warning may come
# to its shell alone.
xm_pass_on() {
  xm_woken=yes
  [ "$1" != "$xm_warn_signal" ] || xm_warned=yes
  case $xm_mode in
  task) xm_is_fenced || return 0 ;;
  component) [ "$1" = "$xm_warn_signal" ] || return 0 ;;
  esac
  [ -z "$xm_program" ] || xm_send "$1"
}

# Handlers, not '': what is ignored stays ignored in the program, what is handled gets its default back there.
xm_watch() {
  for xm_signal in HUP INT QUIT USR1 USR2 ALRM; do
    trap "xm_pass_on $xm_signal" "$xm_signal"
  done
  trap 'xm_woken=yes xm_terminated=yes xm_asked=yes' TERM
  trap 'xm_woken=yes xm_terminated=yes xm_asked=yes xm_hurried=yes' URG
  trap 'xm_woken=yes; xm_continued=$(date +%s)' CONT
  trap xm_ring VTALRM
}

# Whether Slurm keeps track of the job's processes by control groups. Then only what
# Slurm itself started gets its TERM: the shell of a script, or of a process of srun.
xm_is_fenced() {
  while read -r xm_line; do
    case $xm_line in */job_[0-9]*/step_*) return 0 ;; esac
  done </proc/self/cgroup
  return 1
}

# A TERM came. When Slurm ends a job, it sends CONT and TERM to all its processes, and KILL in its time. A TERM that comes
# alone is from scancel for the batch script: then the rest is for us to do. URG says that the time for it is over: a KILL
# from scancel would kill this shell and leave the program.
xm_obey() {
  xm_asked=
  [ "$xm_mode" != component ] || return 0
  [ -n "$xm_hurried" ] || sleep 0.1
  if [ -n "$xm_hurried" ]; then
    xm_send KILL
    return 0
  fi
  if [ "$xm_mode" = task ] || [ $(($(date +%s) - ${xm_continued:-0})) -le 2 ]; then
    ! xm_is_fenced || xm_send TERM
    return 0
  fi
  xm_send TERM
  xm_send CONT
  xm_due=kill
  xm_set_timer "$xm_grace"
}

# Waits for the process $1, through all signals, and sets xm_code.
xm_await() {
  while :; do
    [ -z "$xm_asked" ] || xm_obey
    xm_woken=
    wait "$1"
    xm_code=$?
    [ -n "$xm_woken" ] || return 0
    if ! kill -0 "$1"; then
      # A signal that cuts the `wait` of a bash short may take the end with it: it would wait for what is gone for ever.
      # Then that signal is what the program died of, as far as anybody knows.
      case ${BASH_VERSION:+$xm_newline$(jobs -rp)$xm_newline} in
      *"$xm_newline$1$xm_newline"*) return 0 ;;
      esac
      break
    fi
    [ -z "${BASH_VERSION-}" ] || xm_poll "$1"
  done
  # It ended when a signal came: what `wait` said was of the one or of the other. Asked again, it knows or says 127.
  wait "$1"
  xm_said=$?
  [ "$xm_said" = 127 ] || xm_code=$xm_said
}

xm_poll() {
  xm_pause=0.02
  while kill -0 "$1"; do
    [ -z "$xm_asked" ] || xm_obey
    sleep "$xm_pause"
    case $xm_pause in 0.02) xm_pause=0.1 ;; 0.1) xm_pause=0.5 ;; esac
  done
}

# What the program left behind in its group has the grace time to end, then it is killed.
xm_sweep() {
  xm_send_group TERM || return 0
  xm_left=$xm_patience
  while [ "$xm_left" -gt 0 ] && xm_send_group 0; do
    xm_left=$((xm_left - 1))
    sleep 0.1
  done
  xm_send_group KILL
}

# This attempt is this batch's: a unit that was submitted twice by accident runs once.
xm_claim() {
  [ -d "$xm_folder/out" ] || mkdir -p -m 700 -- "$xm_folder" "$xm_folder/out" ||
    xm_leave 126 "node $xm_node can not make the folder $xm_folder/out"
  xm_id=${xm_batch##*/} xm_claimed=$xm_folder/claim.$xm_first
  set -C
  if ! echo "$xm_id" >"$xm_claimed"; then
    xm_other=
    # It may be empty for a moment, or for good if its writer died or found the disk full.
    for xm_try in 1 2 3; do
      read -r xm_other <"$xm_claimed" && break
      sleep 0.2
    done
    [ "${xm_other:-$xm_id}" = "$xm_id" ] || xm_leave 126 "superseded by batch $xm_other"
  fi
  set +C
}

# What was begun anew by Slurm though it had ended by itself is not run again.
xm_begin() {
  if [ "$xm_restart" -gt 0 ]; then
    xm_before=$xm_batch/ends/$xm_place.$((xm_restart - 1)) xm_line=terminated
    [ ! -e "$xm_before" ] || while read -r xm_line && [ "$xm_line" != terminated ]; do :; done <"$xm_before"
    [ "$xm_line" = terminated ] || xm_leave 126 'has ended already'
  fi
  set -C
  {
    echo "job ${SLURM_JOB_ID-}"
    echo "node ${xm_hosts:-$xm_node}"
    date '+at %s.%N'
  } >"$xm_batch/begun/$xm_place.$xm_restart" || exit 126
  set +C
}

# The output of an earlier attempt gets its number.
xm_open_log() {
  if [ -e "$xm_folder/output.log" ]; then
    xm_earlier=$((xm_attempt - 1))
    read -r xm_earlier <"$xm_folder/attempt"
    [ "$xm_earlier" = "$xm_attempt" ] ||
      mv -f -- "$xm_folder/output.log" "$xm_folder/output.$xm_earlier.log"
  fi
  echo "$xm_attempt" >"$xm_folder/attempt"
  true >>"$xm_folder/output.log" || xm_leave 126 "node $xm_node can not write $xm_folder/output.log"
}

# It is not run, for the reason $2, unless that is a TERM to all processes of the job; code $1.
xm_leave() {
  [ -z "$xm_terminated" ] || xm_end 143
  xm_refuse "$2"
  xm_end "$1"
}

# Waits for what was started and completes the record.
xm_follow() {
  if [ -n "$xm_warn_after" ]; then
    xm_due=warning
    xm_set_timer "$xm_warn_after"
  elif [ -n "$xm_end_after" ]; then
    xm_due=end
    xm_set_timer "$xm_end_after"
  fi
  xm_await "$xm_program"
  # Slurm sends TERM to one process after another: it may have killed the program before it comes to this shell.
  case $xm_code$xm_terminated$xm_timed_out in 143) sleep 0.5 ;; esac
  xm_stop_timer
  xm_sweep
  xm_end "$xm_code"
}

exec </dev/null 2>/dev/null
xm_folder= xm_cwd=/ xm_first=1 xm_title='""' xm_warn_after= xm_end_after= xm_warn_signal=USR1 xm_grace=10
xm_patience=100 xm_setup= xm_replicas=1 xm_kept= xm_copy= xm_chosen=
IFS=$xm_newline
set -f
# shellcheck disable=SC2046 # A field is a line: none is empty, for each begins with a mark.
xm_read $(sed -n "/^=$xm_place\$/,/^=\$/{/^=\$/q;/^=/!p;}" "$xm_batch/data/$((xm_element / 100))")
set +f
IFS=' 	'$xm_newline
xm_watch
xm_attempt=$((xm_first + xm_restart))
[ "$xm_mode" = task ] || exec >/dev/null
[ -n "$xm_folder" ] || xm_leave 126 "node $xm_node does not find what to run in $xm_batch/data"

if [ "$xm_mode" != task ]; then
  xm_claim
  xm_begin
  xm_open_log
  xm_addresses=${XM_JOB_ADDRESSES-}
  [ "$xm_mode" = component ] || xm_addresses="{$xm_title: [\"$xm_node\"]}"
else
  xm_addresses=${XM_JOB_ADDRESSES-}
  export XM_REPLICA="${SLURM_PROCID:-0}" XM_REPLICAS="$xm_replicas"
fi
# The processes of a replicated job come to srun with their output, which says whose line is whose.
[ "$xm_mode" = task ] && [ "$xm_replicas" != 1 ] || exec >>"$xm_folder/output.log"
[ -z "$xm_terminated" ] || xm_end 143
[ -z "$xm_missing" ] ||
  xm_leave 126 "secret $xm_missing is not set where it was submitted. Set it where you launch: export $xm_missing=…"

if [ "$xm_mode" = component ]; then
  xm_warn_after= xm_end_after=
  eval "set -- $xm_list_3"
  eval "xm_cpus=\${SLURM_CPUS_PER_TASK_HET_GROUP_$xm_component:-\${SLURM_CPUS_PER_TASK-}}"
  # Since Slurm 22.05 srun does not take it over from sbatch.
  [ -z "$xm_cpus" ] || set -- "--cpus-per-task=$xm_cpus" "$@"
  srun "$@" /bin/sh "$xm_batch/element.sh" task "$xm_batch" "$xm_component" 2>&1 &
else
  eval "set -- $xm_list_1 $xm_list_2"
  xm_become "$@" 2>&1 &
fi
xm_program=$!
xm_follow
