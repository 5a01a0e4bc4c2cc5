#!/bin/sh
# Runs a program in an image on a node, by whichever engine for plain users the node has: no root and no daemon.
#
# Words: engine NAME|any, name NAME, layout FOLDER, image HEX, workdir PATH, gpus 0|1, shm BYTES, in this order. Then
# `gcs`, for ~/gcs to be at /gcs if it is there, and any number of `bind SOURCE TARGET`, `bind-ro SOURCE TARGET`,
# `env NAME` (its value is in XM_ENV_NAME), `pass NAME` and `option WORD`; then `--`, the program and its arguments.
# Nothing of them is ever read as a piece of shell, but for names of variables, which are letters, digits and _.
#
# The parts of this script follow it in one file, which ends with `run_image "$@"`.
#
# The layout is an OCI one, which other nodes use at the same time: what is made of it is made once, under a lock, and
# lies beside it. Exit code 125: the program did not run, and the last line of the log says why.
set -u

# Signals reach the program too, which is of this process group; this shell waits for its end. What Apptainer is sent it
# passes on, so that a program there may see a signal twice.
trap : 1 2 3 6 10 12 14 24 25 26 27 29 30
trap 'xm_stopped=yes' 15

fail() {
  printf 'xmanager: %s\n' "$*" >&2
  finish 125
}

finish() {
  [ -z "$xm_scratch" ] || rm -rf "$xm_scratch"
  if [ -n "$xm_guarded" ]; then
    echo done >&8
  fi
  exit "$1"
}

xm_scratch='' xm_guarded='' xm_stopped=''

# --- what is asked for

xm_engine=$2 xm_name=$4-$$ xm_layout=$6 xm_image=$8
shift 8
xm_workdir=$2 xm_gpus=$4 xm_shm=$6
shift 6
if [ "$1" = gcs ]; then
  shift
  [ ! -d "${HOME:-}/gcs" ] || set -- bind "$HOME/gcs" /gcs "$@"
fi

choose() {
  for xm_candidate in apptainer singularity podman enroot; do
    case $xm_engine in "$xm_candidate" | any) ;; *) continue ;; esac
    if command -v "$xm_candidate" > /dev/null 2>&1; then
      xm_engine=$xm_candidate
      return
    fi
  done
  [ "$xm_engine" = any ] ||
    fail "there is no $xm_engine on $(uname -n). Load its module by setup=, or ask for other nodes."
  fail "$(uname -n) runs no containers: there is none of apptainer, singularity, podman and enroot." \
    'Load a module by setup=, or ask for other nodes.'
}

choose
xm_host=$(uname -n)
xm_images=${xm_layout%/*}
[ -e "$xm_layout/index.json" ] ||
  fail "$xm_host does not see the image $xm_layout. Set XM_SHARED to a folder that all nodes see."
xm_scratch=$(mktemp -d "${TMPDIR:-/tmp}/xm-XXXXXXXX") || fail "no scratch folder can be made on $xm_host."

# A warning that the program's time is nearly over must not end what is done before it begins.
prepare() {
  trap '' 1 10 12 14
}

# `once FILE COMMAND…`: runs the command unless the file is there, and on one node of all only.
once() (
  prepare
  exec 9>> "$xm_layout.lock"
  # Without a lock, some work is done twice.
  flock 9 2> /dev/null
  [ -e "$1" ] && exit 0
  xm_half=$1.half.$xm_host.$$
  shift
  if "$@" "$xm_half" > "$xm_scratch/said" 2>&1; then
    mv -f "$xm_half" "${xm_half%.half.*}"
  else
    rm -f "$xm_half"
  fi
)

explain() {
  [ -z "$xm_stopped" ] || finish 143
  xm_said=$(tail -n 3 "$xm_scratch/said" 2> /dev/null | tr '\n' ' ')
  fail "$xm_engine on $xm_host can't $1 the image $xm_layout: ${xm_said:-it said nothing, as what is killed}"
}

# --- if this shell is killed, somebody has to end what is not of its process group

guard() {
  mkfifo "$xm_scratch/alive" || fail "no pipe can be made in $xm_scratch on $xm_host."
  # Only this shell can write into it: once it is dead there is nothing more to read.
  exec 8<> "$xm_scratch/alive" 9< "$xm_scratch/alive"
  # A process of nobody's, as the container's own is: what ends all of a job at once then leaves both.
  (setsid sh -c '
    trap "" 1 2 3 10 12 14 15
    read -r said
    [ "${said:-}" = done ] && exit
    case $1 in
      podman)
        for try in 1 2 3 4 5; do
          podman kill "$2"
          # It may be busy with its own end.
          podman rm --force "$2" && break
          sleep 1
        done
        ;;
      enroot) enroot remove --force "$2" ;;
    esac
    rm -rf "$3"
  ' xm-guard "$xm_engine" "$xm_name" "$xm_scratch" > /dev/null 2>&1 <&9 8>&- 9>&- &)
  exec 9>&-
  xm_guarded=yes
  [ -z "$xm_stopped" ] || finish 143
}

# --- variables

# The names of those by which Slurm and the site tell a job of its processes, devices and network; paths of the host are
# not among them. A line within a value may look like one, which is harmless.
given() {
  env | sed -n \
    -e 's/^\(SLURM_[A-Z0-9_]*\|PMI[A-Z0-9]*_[A-Z0-9_]*\|NCCL_[A-Z0-9_]*\|UCX_[A-Z0-9_]*\)=.*/\1/p' \
    -e 's/^\(\(CUDA\|ROCR\|HIP\)_VISIBLE_DEVICES\|CUDA_DEVICE_ORDER\|GPU_DEVICE_ORDINAL\|ZE_AFFINITY_MASK\)=.*/\1/p' | sort -u
}

is_set() {
  eval "[ \"\${$1+set}\" ]"
}

# `set_for PREFIX NAME VARIABLE`: exports PREFIX and NAME with the value of the variable.
set_for() {
  eval "export \"$1$2=\$$3\""
}

run_image() {
  case $xm_engine in
    podman) run_podman "$@" ;;
    enroot) run_enroot "$@" ;;
    *) run_apptainer "$@" ;;
  esac
}
