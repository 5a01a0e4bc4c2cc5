# Images by Apptainer or Singularity, as a SIF file that is made of the layout. Part of container.sh.
#
# https://apptainer.org/docs/user/latest, https://docs.sylabs.io/guides/latest/user-guide

convert_to_sif() {
  cd "$xm_images" || return
  TMPDIR=$xm_scratch "$xm_engine" --quiet build "$1" "oci:${xm_layout##*/}"
}

# Colons and commas part the fields of a bind.
bind_of() {
  case $1$2 in
    *[:,\"]*)
      xm_quoted=$(printf '%s\n%s' "$1" "$2" | sed 's/"/""/g')
      printf 'type=bind,"source=%s","destination=%s"%s' "${xm_quoted%%
*}" "${xm_quoted#*
}" "$3"
      ;;
    *) printf 'type=bind,source=%s,destination=%s%s' "$1" "$2" "$3" ;;
  esac
}

run_apptainer() {
  xm_prefix=SINGULARITY
  case $("$xm_engine" --version 2> /dev/null) in apptainer*) xm_prefix=APPTAINER ;; esac
  # Else values and arguments were evaluated by a shell in the container.
  export "${xm_prefix}_NO_EVAL=1" "${xm_prefix}_DISABLE_CACHE=1"
  once "$xm_layout.sif" convert_to_sif
  [ -e "$xm_layout.sif" ] || explain convert
  for xm_variable in $(given); do
    is_set "$xm_variable" && set_for "${xm_prefix}ENV_" "$xm_variable" "$xm_variable"
  done
  xm_made=0
  while [ "$1" != -- ]; do
    case $1 in
      bind) set -- "$@" --mount "$(bind_of "$2" "$3" '')" && shift 3 && xm_made=$((xm_made + 2)) ;;
      bind-ro) set -- "$@" --mount "$(bind_of "$2" "$3" ,ro)" && shift 3 && xm_made=$((xm_made + 2)) ;;
      env) set_for "${xm_prefix}ENV_" "$2" "XM_ENV_$2" && unset "XM_ENV_$2" && shift 2 ;;
      pass) { ! is_set "$2" || set_for "${xm_prefix}ENV_" "$2" "$2"; } && shift 2 ;;
      option) set -- "$@" "$2" && shift 2 && xm_made=$((xm_made + 1)) ;;
      *) fail "container.sh does not know the word $1." ;;
    esac
  done
  shift
  xm_words=$(($# - xm_made)) xm_quiet=--silent
  if [ "$xm_gpus" = 1 ]; then
    xm_gpus_by=--nv
    xm_quiet=--quiet  # That it finds no driver is worth a line in the log.
    [ -e /dev/kfd ] && [ ! -e /dev/nvidiactl ] && xm_gpus_by=--rocm
    set -- "$@" "$xm_gpus_by"
  fi
  # The user's own home would bring packages into the image that are not of it.
  mkdir "$xm_scratch/home"
  set -- "$@" --home "$xm_scratch/home" --pwd "$xm_workdir" "$xm_layout.sif"
  while [ "$xm_words" -gt 0 ]; do
    set -- "$@" "$1" && shift && xm_words=$((xm_words - 1))
  done
  guard
  cd / || fail "$xm_host has no folder /."
  "$xm_engine" "$xm_quiet" exec --cleanenv --writable-tmpfs "$@" 8>&-
  finish $?
}
