# How the element's own process becomes the program: its folder, environment and file. Part of element.sh.

# The first program named $1 on PATH, in xm_found.
xm_find() {
  xm_found=
  xm_path=${PATH-/usr/local/bin:/usr/bin:/bin}:
  while [ -n "$xm_path" ]; do
    xm_folder_on_path=${xm_path%%:*}
    xm_path=${xm_path#*:}
    xm_found=${xm_folder_on_path:-.}/$1
    [ ! -f "$xm_found" ] || [ ! -x "$xm_found" ] || return 0
  done
  return 1
}

# A function, for what the lines do with "$@" to be theirs.
xm_run_setup() {
  . "$xm_batch/$xm_setup"
}

# Of our variables a job has only those that say where the store and the cluster are. Others are settings of one launch,
# or marks of the job that launched.
xm_forget() {
  IFS=$xm_newline
  set -f
  for xm_line in $(export -p); do
    case $xm_line in
    'export XM_'* | 'declare -x XM_'*)
      xm_line=XM_${xm_line#* XM_}
      case ${xm_line%%=*} in
      XM_HOME | XM_SHARED | XM_TRACEBACK | XM_DATABASE_URL | XM_DB_YAML_CONFIG_PATH | XM_LOCAL_LEDGER | XM_WITHIN) ;;
      XM_SLURM_* | XM_REPLICA | XM_REPLICAS | *[!A-Za-z0-9_]*) ;;
      *) unset "${xm_line%%=*}" ;;
      esac
      ;;
    esac
  done
  set +f
  unset IFS
}

# Becomes the program: "$@" is as many words on its environment as xm_words says, then its arguments.
xm_become() {
  trap - INT QUIT
  cd -- "$xm_cwd" 2>/dev/null ||
    xm_stay 126 "node $xm_node has no folder $xm_cwd, in which the job is to start. Choose one that all nodes see"
  # Looked up before the job's own PATH is set.
  xm_find setsid && xm_setsid=$xm_found
  xm_find env && xm_env=$xm_found
  xm_find stat && xm_stat=$xm_found
  [ -z "$xm_setup" ] || xm_run_setup
  set +eux
  {
    xm_forget
    # Else CUDA numbers devices by their speed, and a job on a mixed node would see others than its own.
    [ -z "${CUDA_VISIBLE_DEVICES+set}" ] || export "CUDA_DEVICE_ORDER=${CUDA_DEVICE_ORDER-PCI_BUS_ID}"
    unset LC_ALL
    [ -z "$xm_had_locale" ] || export "LC_ALL=$xm_locale"
    xm_through=
    while [ "$xm_words" -gt 0 ]; do
      xm_word=${1#*=}
      case $1 in
      env=*) export "$xm_word" ;;
      before=*)
        xm_name=${xm_word%%=*}
        eval "xm_now=\${$xm_name-}"
        export "$xm_word${xm_now:+:$xm_now}"
        ;;
      through=*)
        set -- "$@" "$xm_word"
        xm_through=$((xm_through + 1))
        ;;
      esac
      shift
      xm_words=$((xm_words - 1))
    done
    export "XM_ATTEMPT=$xm_attempt" "XM_JOB_ADDRESSES=$xm_addresses"
  } 2>/dev/null
  xm_exec "$@"
}

# Becomes the program $1, with the arguments after it and, behind these, xm_through assignments for env(1).
xm_exec() {
  [ -z "$xm_kept" ] || xm_choose "$1"
  xm_found=${xm_chosen:-$1}
  case $xm_found in
  '') xm_stay 127 'the command is empty: its first word must name a program' ;;
  */*) ;;
  *) xm_find "$1" || xm_stay 127 "node $xm_node has no program $1 on PATH (${PATH-})" ;;
  esac
  [ -e "$xm_found" ] ||
    xm_stay 127 "node $xm_node has no $xm_found. Put it into a folder that all nodes see (XM_SHARED)"
  [ -f "$xm_found" ] || xm_stay 126 "$xm_found is no file on node $xm_node"
  [ -x "$xm_found" ] || xm_stay 126 "$xm_found may not be executed on node $xm_node. Run: chmod +x $xm_found"
  shift
  set -- "$xm_setsid" "$xm_found" "$@"
  if [ -n "$xm_through" ]; then
    xm_words=$(($# - xm_through))
    while [ "$xm_words" -gt 0 ]; do
      set -- "$@" "$1"
      shift
      xm_words=$((xm_words - 1))
    done
    set -- "$xm_env" "$@"
  fi
  # POSIX shells start what they don't wait for with INT and QUIT ignored, and only bash takes it back itself.
  if [ -z "${BASH_VERSION-}" ] && "$xm_env" --default-signal=INT,QUIT --version; then
    set -- "$xm_env" --default-signal=INT,QUIT "$@"
  fi >/dev/null 2>&1
  exec "$@"
}

# Which file is run for the packaged program $1, in xm_chosen: itself, or its copy if it is no longer the same.
xm_choose() {
  xm_chosen=$1
  [ "$("$xm_stat" -L -c '%s %Y' -- "$1" 2>/dev/null)" != "$xm_kept" ] || return 0
  xm_chosen=$xm_copy
  [ -f "$xm_copy" ] || xm_stay 127 "node $xm_node has neither $1 as it was packaged nor the copy that is kept of it, $xm_copy"
}

# The program is not run, for the reason $2; code $1.
xm_stay() {
  xm_refuse "$2"
  exit "$1"
}
